"""YOLO's format: a text file per image with a line per object, `class x y width height` or `class x1 y1 x2 y2 …`, as
fractions of the image size; with ultralytics' data.yaml, Darknet's obj.names, classes.txt, or only folders.

In data with `kpt_shape`, keypoints follow a box; see `resdet.detection.formats.yolo_keypoints`.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from resdet.detection.formats.collector import Collector, read_text, relative
from resdet.detection.formats.folder import Folder, by_split, composed, stem
from resdet.detection.formats.layout import Layout, Split, Unfit
from resdet.detection.formats.yolo_keypoints import DIGITS, Shape, names_of, shape_of
from resdet.errors import DataError, number_of
from resdet.images.image_files import is_image

SIDES = 4  # numbers per box
SAMPLE = 20  # label files to inspect
LARGEST_YAML = 2**18  # bytes
NAMES = ("classes.txt", "obj.names", "labels.txt", "_darknet.labels")
KEYS = {"train": "train", "val": "val", "valid": "val", "test": "test"}


@dataclass
class DataYaml:
    """ultralytics' description of a data set; all scalars are text."""

    file: str
    content: dict[str, Any]

    @property
    def names(self) -> list[str]:
        names = self.content.get("names")
        if isinstance(names, dict) and all(str(key).isdecimal() and len(key) <= DIGITS for key in names):
            by_number = {int(key): name for key, name in names.items()}
            names = [by_number.get(number, str(number)) for number in range(max(by_number, default=-1) + 1)]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return []
        return [name or str(number) for number, name in enumerate(names)]

    @property
    def shape(self) -> Shape | None:
        return shape_of(self.content)


class Yolo:
    def recognize(self, folder: Folder) -> Layout | Unfit:
        described = _data_yaml(folder)
        labels = Labels(folder)
        images = _described(folder, described) if described else {}
        pairs = {split: {image: labels.of(image) for image in files} for split, files in images.items()}
        if not any(any(labels_of.values()) for labels_of in pairs.values()):
            pairs = _by_folders(folder, labels)
        splits = {
            split: Split(
                tuple(filter(None, labels_of.values())), tuple(labels_of), annotated=sum(map(bool, labels_of.values()))
            )
            for split, labels_of in pairs.items()
            if labels_of
        }
        names, source = _class_names(folder, described)
        if not any(split.annotated for split in splits.values()):
            return Unfit("no text file of labels next to an image or in a folder labels", len(labels.files))
        files = [file for split in splits.values() for file in split.annotations]
        problem = _mismatch(folder, files, described.shape if described else None)
        if problem:
            return Unfit(problem, len(labels.files))
        count = sum(split.annotated for split in splits.values())
        evidence = ", ".join(filter(None, [source, number_of(count, "label file")]))
        shared = tuple(filter(None, [source, described.file if described else ""]))
        return Layout("yolo", folder, splits, evidence, names, shared)

    def read(self, layout: Layout, split: str, collector: Collector) -> dict[str, Any]:
        described = _data_yaml(layout.folder)
        shape = described.shape if described else None
        _require_unique(layout)
        files, labels = layout.splits[split].images, Labels(layout.folder)
        lines = LabelLines(collector, layout.classes, shape)
        for image, size in zip(files, collector.measured.sizes_of(files)):
            number, label = collector.add_image(image, size), labels.of(image)
            if label and size:
                lines.read(number, size, label)
        collector.leave_out("label file", _without_images(layout, split, labels, shape), "no image")
        content = collector.content(layout.classes)
        if described and shape and collector.keypoints:
            declared = names_of(described.content, shape, str(layout.root / described.file)).to_coco()
            content["categories"] = [category | declared for category in content["categories"]]
        return content


class Labels:
    """Finds the label file of an image, by the rules of ultralytics and other tools."""

    def __init__(self, folder: Folder):
        self.folder = folder
        self.files = {composed(file[: -len(".txt")]): file for file in folder.having(".txt")}

    def of(self, image: str) -> str | None:
        parts = stem(image).split("/")
        for candidate in _label_paths(parts):
            path = "/".join(candidate)
            if self.folder.has(f"{path}.txt"):
                return f"{path}.txt"
            if file := self.files.get(composed(path)):
                return file
        return None


def _without_images(layout: Layout, split: str, labels: Labels, shape: Shape | None) -> list[str]:
    """Returns label files with objects but no image, in the label folders of the first split that has any."""
    homes: dict[str, str] = {}
    paired: set[str] = set()
    for name, files in layout.splits.items():
        paired.update(files.annotations)
        for file in files.annotations:
            homes.setdefault(os.path.dirname(file), name)
    of_splits = {image for files in layout.splits.values() for image in files.images}
    paired.update(filter(None, (labels.of(image) for image in layout.folder.images if image not in of_splits)))
    unused = (file for file in labels.files.values() if file not in paired)
    at_home = (file for file in unused if homes.get(os.path.dirname(file)) == split)
    return [file for file in at_home if _has_objects(read_text(layout.folder, file), shape)]


def _has_objects(text: str, shape: Shape | None) -> bool:
    return any(parse_line(line, shape) for line in text.splitlines()[:SAMPLE])


def _label_paths(parts: list[str]) -> list[list[str]]:
    """Replaces a folder `images`, the last one first, by `labels`; then next to the image, or in a nearby `labels`."""
    *folders, name = parts
    places = [i for i, part in enumerate(folders) if part.lower() == "images"]
    swapped = [[*folders[:i], "labels", *folders[i + 1 :], name] for i in reversed(places)]
    return [*swapped, parts, [*folders, "labels", name], [*folders[:-1], "labels", name], ["labels", *parts]]


class LabelLines:
    """Reads label files into a `Collector`."""

    def __init__(self, collector: Collector, classes: Sequence[str], shape: Shape | None):
        self.collector, self.classes, self.shape = collector, classes, shape

    def read(self, image: int, size: tuple[int, int], file: str) -> None:
        for number, line in enumerate(read_text(self.collector.folder, file).splitlines(), 1):
            if line.strip():
                self._add(image, size, line, f"{file}:{number}")

    def _add(self, image: int, size: tuple[int, int], line: str, place: str) -> None:
        parsed = parse_line(line, self.shape)
        if parsed is None:
            self.collector.leave_out("line", [place], "something else than a class number and a box or a polygon")
            return
        label, numbers = parsed
        if self.classes and label >= len(self.classes):
            self.collector.leave_out("line", [place], "a class number without a name")
            return
        name = self.classes[label] if self.classes else str(label)
        more = numbers[SIDES:]
        if not more or (self.shape and len(more) == self.shape.numbers):
            x, y, width, height = (number * size[k % 2] for k, number in enumerate(numbers[:SIDES]))
            box = x - width / 2, y - height / 2, x + width / 2, y + height / 2
            self.collector.add_object(image, name, box, place, **self._keypoints(more, size))
        else:
            ring = [number * size[k % 2] for k, number in enumerate(numbers)]
            self.collector.add_polygons(image, name, [ring], place)

    def _keypoints(self, numbers: Sequence[float], size: tuple[int, int]) -> dict[str, Any]:
        """Returns the keys of an object in COCO's format."""
        if not (self.shape and numbers and self.collector.keypoints):
            return {}
        points = self.shape.to_coco(numbers, size)
        return {"keypoints": points, "num_keypoints": sum(flag > 0 for flag in points[2::3])}


def parse_line(line: str, shape: Shape | None = None) -> tuple[int, list[float]] | None:
    """Returns the class number and x, y, width, height, with the keypoints' numbers if `shape` is given and the line
    has them, or x1, y1, x2, y2, x3, y3 …; None for anything else. One number after a box or keypoints is a score.
    """
    try:
        label, *numbers = map(float, line.split())
    except ValueError:
        return None
    if not (label >= 0 and label == label // 1 and label < 2**31) or len(numbers) < SIDES:
        return None
    for count in (SIDES, SIDES + (shape.numbers if shape else 0)):
        if len(numbers) in (count, count + 1):
            return int(label), numbers[:count]
    return (int(label), numbers) if len(numbers) >= 6 and len(numbers) % 2 == 0 else None


def _data_yaml(folder: Folder) -> DataYaml | None:
    """Returns the file nearest to the root with `names` and a split; if there is none, a file with `names`."""
    fallback = None
    for file in sorted(folder.having(".yaml", ".yml"), key=lambda file: (file.count("/"), file)):
        data = folder.head(file, LARGEST_YAML + 1)
        try:
            content = yaml.load(data, yaml.BaseLoader) if len(data) <= LARGEST_YAML else None
        except (yaml.YAMLError, RecursionError, ValueError):
            continue
        if isinstance(content, dict) and "names" in content:
            if any(key in content for key in KEYS):
                return DataYaml(file, content)
            fallback = fallback or DataYaml(file, content)
    return fallback


def _described(folder: Folder, described: DataYaml) -> dict[str, list[str]]:
    """Returns the images of a data.yaml's splits; empty where its paths do not exist."""
    home = os.path.dirname(described.file)
    base = described.content.get("path")
    homes = [os.path.join(home, base), home, base] if isinstance(base, str) else [home]
    by_split: dict[str, list[str]] = {}
    for key, split in KEYS.items():
        entries = described.content.get(key)
        for entry in entries if isinstance(entries, list) else [entries]:
            if isinstance(entry, str) and entry:
                by_split.setdefault(split, []).extend(_images_at(folder, homes, entry))
    return {split: images for split, images in by_split.items() if images}


def _images_at(folder: Folder, homes: list[str], entry: str) -> list[str]:
    """Returns images in a folder, or listed in a text file, at a path relative to one of `homes`.

    Roboflow writes ../train/images for train/images, and ultralytics accepts it.
    """
    entry = entry.replace("\\", "/")
    for home in homes:
        for name in dict.fromkeys([entry, entry.removeprefix("../")]):
            path = os.path.normpath(os.path.join(home, name)).replace(os.sep, "/")
            if "\0" in path:
                continue
            if path.endswith(".txt") and folder.has(path):
                return _listed(folder, homes, path)
            images = _images_below(folder, path)
            if images:
                return images
    return []


def _images_below(folder: Folder, path: str) -> list[str]:
    if path == ".":
        return folder.images
    if not path.startswith(("..", "/")):
        return [image for image in folder.images if image.startswith(f"{path}/")]
    outside = folder.root / path
    if not outside.is_dir():
        return []
    inside = relative(outside.resolve(), folder.root.resolve())
    if not inside.startswith(".."):
        return _images_below(folder, inside)
    return [f"{path}/{image}" for image in Folder(outside).images]


def _listed(folder: Folder, homes: list[str], file: str) -> list[str]:
    images = []
    for line in read_text(folder, file).splitlines():
        name = line.strip().replace("\\", "/")
        if not is_image(name) or "\0" in name:
            continue
        paths = (os.path.normpath(os.path.join(home, name)) for home in (os.path.dirname(file), *homes))
        images.append(next((path for path in paths if folder.has(path)), None) or folder.locate(name, file))
    return [image for image in images if image]


def _by_folders(folder: Folder, labels: Labels) -> dict[str, dict[str, str | None]]:
    """Returns images and labels in all folders with a labeled image, by the splits that the folders name."""
    pairs = {image: labels.of(image) for image in folder.images}
    labeled = {os.path.dirname(image) for image, label in pairs.items() if label}
    splits = by_split(image for image in pairs if os.path.dirname(image) in labeled)
    return {split: {image: pairs[image] for image in images} for split, images in splits.items()}


def _class_names(folder: Folder, described: DataYaml | None) -> tuple[list[str], str]:
    """Returns class names and the file that lists them; no names if classes are only numbered."""
    if described and described.names:
        return described.names, described.file
    files = [file for file in folder.having(".names", *NAMES) if file.endswith((".names", *NAMES))]
    for file in sorted(files, key=lambda file: (file.count("/"), file)):
        names = [line.strip() for line in read_text(folder, file).rstrip().splitlines()]
        if names:
            return [name or str(number) for number, name in enumerate(names)], file
    return [], ""


def _require_unique(layout: Layout) -> None:
    """Rejects duplicate class names; the first shared file lists the classes."""
    names = list(layout.classes)
    for number, name in enumerate(names):
        first = names.index(name)
        if first < number:
            file = layout.root / layout.shared[0]
            raise DataError(f"{file}: the classes {first} and {number} are both named {name!r}: rename one of them.")


def _mismatch(folder: Folder, files: list[str], shape: Shape | None) -> str | None:
    """Explains why the first label file with a line is not YOLO's; files without lines mean images without objects."""
    for file in files[:SAMPLE]:
        lines = [line for line in read_text(folder, file).splitlines() if line.strip()]
        if lines:
            good = any(parse_line(line, shape) for line in lines[:SAMPLE])
            return None if good else f"{file} has no line `class x y width height`"
    return None
