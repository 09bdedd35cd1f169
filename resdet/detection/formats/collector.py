"""Collects the images and objects of a split as a dict in COCO's format."""

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resdet.detection.data.compile_annotations import Measured, OnBad, Problems
from resdet.detection.formats.folder import Folder

Box = Sequence[float]  # xyxy


class Places(Problems):
    """Names images and annotations by their place in the format's files instead of by id."""

    def __init__(self, file: Path, on_bad: OnBad):
        super().__init__(file, on_bad)
        self.places: dict[str, dict[str, str]] = {"image": {}, "annotation": {}}

    def leave_out(self, noun: str, names: Sequence[object], problem: str) -> None:
        super().leave_out(noun, self._places(noun, names), problem)

    def note(self, noun: str, names: Sequence[object], problem: str, action: str) -> None:
        super().note(noun, self._places(noun, names), problem, action)

    def _places(self, noun: str, names: Sequence[object]) -> list[object]:
        places = self.places.get(noun, {})
        return [places.get(str(name), name) for name in names]


class Collector:
    """State of reading a split: its images and objects so far, their problems, and sizes read from image files."""

    def __init__(self, folder: Folder, on_bad: OnBad = "skip", keypoints: bool = True):
        self.folder, self.keypoints = folder, keypoints
        self.problems, self.measured = Places(folder.root, on_bad), Measured(folder.root)
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.by_file: dict[str, int] = {}
        self.numbers: dict[str, int] = {}
        self.left_out: dict[tuple[str, str], list[object]] = defaultdict(list)  # places by noun and problem

    def add_image(self, file: str, size: tuple[int, int] | None = None) -> int:
        """Returns the id of an image and adds it on the first call; `size`: (width, height), None to measure it."""
        if file not in self.by_file:
            number = self.by_file[file] = len(self.images) + 1
            sides = {"width": size[0], "height": size[1]} if size else {}
            self.images.append({"id": number, "file_name": file, **sides})
            self.problems.places["image"][str(number)] = file
        return self.by_file[file]

    def add_object(self, image: int, name: str, box: Box, place: str, **more: Any) -> None:
        """Adds an object of class `name`, or skips it if the name is empty; `place`: its place in the files, `more`:
        keys of COCO's format."""
        if not name:
            return self.leave_out("object", [place], "no class")
        number = len(self.annotations) + 1
        category = self.numbers.setdefault(name, len(self.numbers) + 1)
        x1, y1, x2, y2 = box
        owners = {"id": number, "image_id": image, "category_id": category}
        self.annotations.append({**owners, "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": 0, **more})
        self.problems.places["annotation"][str(number)] = place

    def add_polygons(self, image: int, name: str, rings: Sequence[Sequence[float]], place: str, **more: Any) -> None:
        """Adds an object with polygons, each x1, y1, x2, y2 …, and the box around them."""
        xs = [x for ring in rings for x in ring[0::2]]
        ys = [y for ring in rings for y in ring[1::2]]
        box = min(xs), min(ys), max(xs), max(ys)
        self.add_object(image, name, box, place, segmentation=[list(ring) for ring in rings], **more)

    def depend_on(self, file: str) -> None:
        """Registers a file outside the layout that was read, so that the index is rebuilt when it changes."""
        self.measured.files.append(file)

    def leave_out(self, noun: str, places: Sequence[object], problem: str) -> None:
        """Collects unreadable entries for `report`."""
        self.left_out[noun, problem] += places

    def report(self) -> None:
        """Reports the skipped entries, once per kind; see `Problems.leave_out`."""
        for (noun, problem), places in self.left_out.items():
            self.problems.leave_out(noun, places, problem)

    def content(self, classes: Sequence[str] = ()) -> dict[str, Any]:
        """Returns the dict in COCO's format; class ids are 1 to C, in the order of `classes`, then of first objects."""
        names = list(classes) + [name for name in self.numbers if name not in set(classes)]
        ids: dict[str, int] = {}
        for number, name in enumerate(names, 1):
            ids.setdefault(name, number)
        of_number = {number: ids[name] for name, number in self.numbers.items()}
        annotations = [entry | {"category_id": of_number[entry["category_id"]]} for entry in self.annotations]
        categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
        return {"images": self.images, "annotations": annotations, "categories": categories}


def read_text(folder: Folder, file: str) -> str:
    """Returns the text of a file, with non-UTF-8 bytes replaced; empty if it cannot be read."""
    try:
        with open(folder.root / file, "rb") as opened:
            return opened.read().decode("utf-8-sig", "replace")
    except OSError:
        return ""


def number_in(text: object) -> float:
    """Parses a number; NaN if the text is not one."""
    try:
        return float(text)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def size_in(width: object, height: object) -> tuple[int, int] | None:
    """Returns (width, height) from a file; None unless both are whole numbers above zero."""
    sides = number_in(width), number_in(height)
    return (int(sides[0]), int(sides[1])) if all(0 < side < 2**24 and side == int(side) for side in sides) else None


def relative(path: Path, root: Path) -> str:
    return os.path.relpath(path, root).replace(os.sep, "/")
