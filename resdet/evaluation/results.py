"""Detections of many images, in columns: what evaluators take, and what a results file holds."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Optional, Sequence

import numpy as np

from resdet.data.found import read_json
from resdet.errors import DataError
from resdet.evaluation.columns import Columns
from resdet.evaluation.ground_truth import Kind, as_rle, image_sizes
from resdet.writing import write_text


@dataclass
class Results:
    """n detections, with the image and category ids of the annotation file."""

    image_ids: np.ndarray  # int64 [n]
    category_ids: np.ndarray  # int64 [n]
    scores: np.ndarray  # float64 [n]
    boxes: np.ndarray  # float64 [n, 4]: x, y, width, height
    masks: Optional[list[dict]] = None  # n RLEs {"size": [height, width], "counts": …}, compressed
    name: str = "the results"  # what errors call them

    def __post_init__(self):
        self.image_ids = np.asarray(self.image_ids, np.int64)
        self.category_ids = np.asarray(self.category_ids, np.int64)
        self.scores = np.asarray(self.scores, np.float64)
        self.boxes = np.asarray(self.boxes, np.float64).reshape(-1, 4)

    def __len__(self) -> int:
        return len(self.image_ids)

    @classmethod
    def from_list(cls, entries: Sequence[dict], name: str = "the results") -> "Results":
        """Of COCO's results format. Where no `bbox` is given it is the mask's, as in pycocotools."""
        columns = Columns(entries, name, "result")
        image_ids, category_ids, scores = columns.ids("image_id"), columns.ids("category_id"), columns.numbers("score")
        masks = None
        if entries and all(entry.get("segmentation") for entry in entries):
            masks = [rle(columns, i) for i in range(len(entries))]
            columns = Columns(with_boxes(entries, masks), name, "result")
        return cls(image_ids, category_ids, scores, columns.boxes("bbox"), masks, name)

    @classmethod
    def read(cls, path: str | Path) -> "Results":
        return cls.from_list(read_json(path), str(path))

    @classmethod
    def concatenate(cls, parts: Iterable["Results"]) -> "Results":
        """Those of several processes. The order of images among them does not change any figure."""
        parts = list(parts)
        fields = ("image_ids", "category_ids", "scores", "boxes")
        arrays = [np.concatenate([getattr(part, field) for part in parts]) for field in fields]
        filled = [part.masks for part in parts if len(part)]
        masked = bool(filled) and all(masks is not None for masks in filled)
        return cls(*arrays, [mask for masks in filled for mask in masks] if masked else None)

    def where(self, rows: np.ndarray) -> "Results":
        """Those detections, bool [n]."""
        masks = None if self.masks is None else [mask for mask, kept in zip(self.masks, rows.tolist()) if kept]
        columns = (self.image_ids, self.category_ids, self.scores, self.boxes)
        return Results(*(column[rows] for column in columns), masks, self.name)

    def to_list(self) -> list[dict]:
        """COCO's results format, of plain Python values."""
        rows = zip(*(column.tolist() for column in (self.image_ids, self.category_ids, self.boxes, self.scores)))
        entries = [dict(zip(("image_id", "category_id", "bbox", "score"), row)) for row in rows]
        for entry, mask in zip(entries, self.masks or ()):
            counts = mask["counts"]
            entry["segmentation"] = {
                "size": [int(side) for side in mask["size"]],
                "counts": counts.decode() if isinstance(counts, bytes) else counts,
            }
        return entries

    def save(self, path: str | Path) -> None:
        """A results file as the COCO server, pycocotools and `resdet evaluate` read it."""
        write_text(path, json.dumps(self.to_list()))

    def check(self, truth: dict[str, list[dict]], kind: Kind = "bbox") -> None:
        """Raises a DataError that names the first detection of an image or a category that the ground truth lacks,
        or that cannot be judged."""
        for field, objects in (("image_id", truth["images"]), ("category_id", truth["categories"])):
            own = getattr(self, f"{field}s")
            what = f"{field} {{}}, which the annotations lack: write the ids of the annotation file"
            self._refuse(~np.isin(own, [entry["id"] for entry in objects]), what, own)
        finite = "{}: give finite numbers"
        self._refuse(~np.isfinite(self.scores), f"score {finite}", self.scores)
        self._refuse(~np.isfinite(self.boxes).all(1), f"bbox {finite}", self.boxes)
        self._refuse((self.boxes[:, 2:] < 0).any(1), "bbox {}: give sides that are not negative", self.boxes)
        if kind == "segm":
            self._check_masks(image_sizes(truth["images"]))

    def _check_masks(self, sizes: dict[int, tuple[int, int]]) -> None:
        if self.masks is None and len(self):
            raise DataError(f"{self.name} have not a segmentation each: judge boxes instead (bbox).")
        made = np.array([mask["size"] for mask in self.masks or ()], np.int64).reshape(-1, 2)
        wanted = np.array([sizes.get(image, (0, 0)) for image in self.image_ids.tolist()], np.int64).reshape(-1, 2)
        what = "a mask of {}, which is not the (height, width) of its image: make masks as large as the image"
        self._refuse((made != wanted).any(1), what, made)

    def _refuse(self, wrong: np.ndarray, what: str, values: np.ndarray) -> None:
        if wrong.any():
            i = int(wrong.argmax())
            raise DataError(f"{self.name}, result {i} has {what.format(values[i].tolist())}.")


def as_results(results: "Results | Sequence[dict] | str | Path") -> Results:
    if isinstance(results, Results):
        return results
    return Results.read(results) if isinstance(results, (str, Path)) else Results.from_list(results)


def rle(columns: Columns, i: int) -> dict:
    """The mask of an entry, its counts compressed."""
    mask = columns.objects[i]["segmentation"]
    fits = isinstance(mask, dict) and len(mask.get("size", ())) == 2
    if not fits or not isinstance(mask.get("counts"), (str, bytes, list)):
        raise columns.error(i, 'has no mask as RLE: give {"size": [height, width], "counts": …}')
    return as_rle(mask, *mask["size"])


def with_boxes(entries: Sequence[dict], masks: list[dict]) -> list[dict]:
    """The entries, those that have no box with that of their mask."""
    if all("bbox" in entry for entry in entries):
        return list(entries)
    from hotcoco import mask

    boxes = mask.toBbox(masks).tolist()
    return [{"bbox": box, **entry} for box, entry in zip(boxes, entries)]
