"""Detections of many images, in columns: what evaluators take, and what a results file holds."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resdet.detection.data import rle
from resdet.detection.data.coco_file import sizes_of
from resdet.detection.data.validation import Records, refuse
from resdet.detection.evaluation.ground_truth import Kind, as_rle, image_sizes
from resdet.errors import DataError
from resdet.files.atomic import write_text
from resdet.files.json_file import read_json


@dataclass
class Results:
    """n detections, with the image and category ids of the annotation file."""

    image_ids: np.ndarray  # int64 [n]
    category_ids: np.ndarray  # int64 [n]
    scores: np.ndarray  # float64 [n]
    boxes: np.ndarray  # float64 [n, 4]: x, y, width, height
    masks: list[dict] | None = None  # n RLEs {"size": [height, width], "counts": …}, compressed
    name: str = "the results"  # what errors call them

    def __post_init__(self):
        self.image_ids = np.asarray(self.image_ids, np.int64)
        self.category_ids = np.asarray(self.category_ids, np.int64)
        self.scores = np.asarray(self.scores, np.float64)
        self.boxes = np.asarray(self.boxes, np.float64).reshape(-1, 4)

    def __len__(self) -> int:
        return len(self.image_ids)

    @classmethod
    def from_list(cls, entries: Sequence[dict], name: str = "the results", masks: bool = True) -> "Results":
        """Of COCO's results format. Where no `bbox` is given it is the mask's, as in pycocotools.

        Masks are those of entries that have one each; without `masks` they are left out.
        """
        if not isinstance(entries, (list, tuple)):
            raise DataError(f"{name} holds no list of results but a {type(entries).__name__}: see the COCO format.")
        records = Records(entries, "result", refuse(name))
        columns = records.whole("image_id"), records.whole("category_id"), records.finite("score")
        boxed = all("bbox" in entry for entry in records.entries)
        masked = len(entries) > 0 and all(records.values("segmentation"))
        rles = compressed(records) if masked and (masks or not boxed) else None
        if not boxed and masked:
            records = Records(with_boxes(records.entries, rles), "result", refuse(name))
        return cls(*columns, records.boxes(), rles if masks else None, name)

    @classmethod
    def read(cls, path: str | Path, masks: bool = True) -> "Results":
        return cls.from_list(read_json(path), str(path), masks)

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


def as_results(results: "Results | Sequence[dict] | str | Path", kind: Kind = "bbox") -> Results:
    if isinstance(results, Results):
        return results
    masks = kind == "segm"
    return Results.read(results, masks) if isinstance(results, (str, Path)) else Results.from_list(results, masks=masks)


def compressed(records: Records) -> list[dict]:
    """The masks of results, their counts compressed; each has as many pixels as it says."""
    masks = records.values("segmentation")
    told = [mask.get("size") if isinstance(mask, dict) else None for mask in masks]
    paired = [size if isinstance(size, (list, tuple)) and len(size) == 2 else (-1, -1) for size in told]
    sizes = sizes_of([width for _, width in paired], [height for height, _ in paired])
    what = 'no mask as RLE, which is {"size": [height, width], "counts": …}'
    records.require((sizes > 0).all(1), what, "segmentation")
    shapes = [(height, width) for width, height in sizes.tolist()]
    problems = rle.problems_of(masks, shapes)
    for problem in filter(None, problems):
        what_else = what if problem == rle.NO_COUNTS else problem
        records.require(np.array([each != problem for each in problems], bool), what_else, "segmentation")
    return [as_rle(mask, *shape) for mask, shape in zip(masks, shapes)]


def with_boxes(entries: Sequence[dict], masks: list[dict]) -> list[dict]:
    """The entries, those that have no box with that of their mask."""
    if all("bbox" in entry for entry in entries):
        return list(entries)
    from hotcoco import mask

    boxes = mask.toBbox(masks).tolist()
    return [{"bbox": box, **entry} for box, entry in zip(boxes, entries)]
