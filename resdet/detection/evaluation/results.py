"""Detections of many images in columns, for evaluators and COCO results files."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resdet.detection.data import rle
from resdet.detection.data.coco_file import sizes_of
from resdet.detection.data.validation import Records, numbers, refuse
from resdet.detection.evaluation.ground_truth import Kind, image_sizes
from resdet.errors import DataError
from resdet.files.atomic import write_text
from resdet.files.json_file import read_json
from resdet.results.keypoints import HALF, keypoints_to_coco


@dataclass
class Results:
    """n detections, with the image and category ids of the annotation file."""

    image_ids: np.ndarray  # int64 [n]
    category_ids: np.ndarray  # int64 [n]
    scores: np.ndarray  # float64 [n]
    boxes: np.ndarray  # float64 [n, 4]: x, y, width, height
    masks: list[dict] | None = None  # n RLEs {"size": [height, width], "counts": …}, compressed
    keypoints: np.ndarray | None = None  # float64 [n, K, 3]: x and y in continuous pixels, score
    name: str = "the results"  # for error messages

    def __post_init__(self):
        self.image_ids = np.asarray(self.image_ids, np.int64)
        self.category_ids = np.asarray(self.category_ids, np.int64)
        self.scores = np.asarray(self.scores, np.float64)
        self.boxes = np.asarray(self.boxes, np.float64).reshape(-1, 4)

    def __len__(self) -> int:
        return len(self.image_ids)

    @classmethod
    def from_list(cls, entries: Sequence[dict], name: str = "the results", masks: bool = True) -> "Results":
        """Reads COCO's results format; a missing `bbox` is computed from the mask or the keypoints, as in pycocotools.

        Keeps masks and keypoints if every entry has them; `masks=False` drops masks.
        """
        if not isinstance(entries, (list, tuple)):
            raise DataError(f"{name} holds no list of results but a {type(entries).__name__}: see the COCO format.")
        records = Records(entries, "result", refuse(name))
        columns = records.whole("image_id"), records.whole("category_id"), records.finite("score")
        boxed = all("bbox" in entry for entry in records.entries)
        masked = len(entries) > 0 and all(records.values("segmentation"))
        rles = compressed(records) if masked and (masks or not boxed) else None
        if not boxed and rles is not None:
            records = Records(with_boxes(records.entries, rles), "result", refuse(name))
        keypoints = keypoints_of(records) if len(entries) and all(records.values("keypoints")) else None
        if not boxed and rles is None and keypoints is not None:
            return cls(*columns, boxes_around(keypoints), None, keypoints, name)
        return cls(*columns, records.boxes(), rles if masks else None, keypoints, name)

    @classmethod
    def read(cls, path: str | Path, masks: bool = True) -> "Results":
        return cls.from_list(read_json(path), str(path), masks)

    @classmethod
    def concatenate(cls, parts: Iterable["Results"]) -> "Results":
        """Joins the results of several images or processes; their order does not change any metric."""
        parts = list(parts)
        image_ids, category_ids, scores, boxes = (
            np.concatenate([getattr(part, field) for part in parts])
            for field in ("image_ids", "category_ids", "scores", "boxes")
        )
        masks = [part.masks for part in parts if part.masks is not None and len(part)]
        masked = len(masks) > 0 and len(masks) == sum(len(part) > 0 for part in parts)
        drawn = [each for part in masks for each in part] if masked else None
        points = [part.keypoints for part in parts if len(part)]
        known = len(points) > 0 and all(part is not None for part in points)
        keypoints = np.concatenate([part for part in points if part is not None]) if known else None
        return cls(image_ids, category_ids, scores, boxes, drawn, keypoints)

    def where(self, rows: np.ndarray) -> "Results":
        """Selects detections by bool [n]."""
        masks = None if self.masks is None else [mask for mask, kept in zip(self.masks, rows.tolist()) if kept]
        keypoints = None if self.keypoints is None else self.keypoints[rows]
        image_ids, category_ids = self.image_ids[rows], self.category_ids[rows]
        return Results(image_ids, category_ids, self.scores[rows], self.boxes[rows], masks, keypoints, self.name)

    def rows_of(self, image_id: int, score: float) -> np.ndarray:
        """Returns the rows of an image's detections with at least this score, int64 [k], by descending score."""
        rows = np.flatnonzero((self.image_ids == image_id) & (self.scores >= score))
        return rows[np.argsort(-self.scores[rows], kind="stable")]

    def to_list(self) -> list[dict]:
        """Converts to COCO's results format, in JSON types."""
        rows = zip(*(column.tolist() for column in (self.image_ids, self.category_ids, self.boxes, self.scores)))
        entries = [dict(zip(("image_id", "category_id", "bbox", "score"), row)) for row in rows]
        for entry, mask in zip(entries, self.masks or ()):
            counts = mask["counts"]
            entry["segmentation"] = {
                "size": [int(side) for side in mask["size"]],
                "counts": counts.decode() if isinstance(counts, bytes) else counts,
            }
        for entry, points in zip(entries, () if self.keypoints is None else self.keypoints):
            entry |= keypoints_to_coco(points)
        return entries

    def save(self, path: str | Path) -> None:
        """Writes a results file for the COCO server, pycocotools and `resdet evaluate`."""
        write_text(path, json.dumps(self.to_list()))

    def check(self, truth: dict[str, list[dict]], kind: Kind = "bbox") -> None:
        """Raises DataError for the first detection with invalid values, or with an image or category id missing from
        the ground truth."""
        for field, objects in (("image_id", truth["images"]), ("category_id", truth["categories"])):
            ids = getattr(self, f"{field}s")
            problem = f"{field} {{}}, which the annotations lack: write the ids of the annotation file"
            self._refuse(~np.isin(ids, [entry["id"] for entry in objects]), problem, ids)
        finite = "{}: write finite numbers"
        self._refuse(~np.isfinite(self.scores), f"score {finite}", self.scores)
        self._refuse(~np.isfinite(self.boxes).all(1), f"bbox {finite}", self.boxes)
        self._refuse((self.boxes[:, 2:] < 0).any(1), "bbox {}: write sides that are not negative", self.boxes)
        if kind == "segm":
            self._check_masks(image_sizes(truth["images"]))
        if kind == "keypoints" and self.keypoints is None and len(self):
            raise DataError(f"{self.name} do not all have keypoints: evaluate boxes instead (bbox).")

    def _check_masks(self, sizes: dict[int, tuple[int, int]]) -> None:
        if self.masks is None and len(self):
            raise DataError(f"{self.name} do not all have a segmentation: evaluate boxes instead (bbox).")
        actual = np.array([mask["size"] for mask in self.masks or ()], np.int64).reshape(-1, 2)
        expected = np.array([sizes.get(image, (0, 0)) for image in self.image_ids.tolist()], np.int64).reshape(-1, 2)
        problem = "a mask of {}, which is not the (height, width) of its image: write masks of the size of the image"
        self._refuse((actual != expected).any(1), problem, actual)

    def _refuse(self, bad: np.ndarray | np.bool_, problem: str, values: np.ndarray) -> None:
        """Raises DataError for the first row with `bad` bool [n]."""
        if bad.any():
            i = int(bad.argmax())
            raise DataError(f"{self.name}, result {i} has {problem.format(values[i].tolist())}.")


ResultsLike = str | Path | Sequence[dict] | Results  # a results file, its content, or columns


def as_results(results: ResultsLike, kind: Kind = "bbox") -> Results:
    if isinstance(results, Results):
        return results
    masks = kind == "segm"
    return Results.read(results, masks) if isinstance(results, (str, Path)) else Results.from_list(results, masks=masks)


def keypoints_of(records: Records) -> np.ndarray:
    """Reads keypoints of results, float64 [n, K, 3], in continuous pixels; scores are `keypoint_scores`, or 1."""
    given = records.values("keypoints")
    count = len(given[0]) if isinstance(given[0], list) else 0
    listed = [isinstance(row, list) and len(row) == count for row in given]
    good = count > 0 and count % 3 == 0
    problem = "keypoints that are not a list of x, y and visibility, as many as the first result has"
    records.require(np.array(listed, bool) & good, problem, "keypoints")
    values, numeric = numbers([number for row in given for number in row])
    points = values.reshape(len(given), -1, 3)
    records.require(
        (numeric & np.isfinite(values)).reshape(len(given), -1).all(1),
        "keypoints that are not finite numbers",
        "keypoints",
    )
    scores = records.values("keypoint_scores")
    if all(isinstance(row, list) and len(row) * 3 == count for row in scores):
        points[..., 2] = numbers([number for row in scores for number in row])[0].reshape(len(given), -1)
    return points + (HALF, HALF, 0)


def boxes_around(keypoints: np.ndarray) -> np.ndarray:
    """Returns boxes [n, 4], x, y, width and height, around keypoints [n, K, 3]."""
    low, high = keypoints[..., :2].min(1), keypoints[..., :2].max(1)
    return np.concatenate([low, high - low], 1)


def compressed(records: Records) -> list[dict]:
    """Returns the masks of results as compressed RLEs, after checking their runs against their sizes."""
    masks = records.values("segmentation")
    declared = [mask.get("size") if isinstance(mask, dict) else None for mask in masks]
    paired = [size if isinstance(size, (list, tuple)) and len(size) == 2 else (-1, -1) for size in declared]
    sizes = sizes_of([width for _, width in paired], [height for height, _ in paired])
    no_rle = 'no mask as RLE, which is {"size": [height, width], "counts": …}'
    records.require((sizes > 0).all(1), no_rle, "segmentation")
    shapes = [(height, width) for width, height in sizes.tolist()]
    problems = rle.problems_of(masks, shapes)
    for problem in filter(None, problems):
        message = no_rle if problem == rle.NO_COUNTS else problem
        records.require(np.array([each != problem for each in problems], bool), message, "segmentation")
    return [rle.as_rle(mask, *shape) for mask, shape in zip(masks, shapes)]


def with_boxes(entries: Sequence[dict], masks: list[dict]) -> list[dict]:
    """Computes missing boxes of entries from their masks."""
    from hotcoco import mask

    boxes = mask.toBbox(masks).tolist()
    return [{"bbox": box, **entry} for box, entry in zip(boxes, entries)]
