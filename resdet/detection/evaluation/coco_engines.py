"""Evaluation backends for COCO's precision and recall: hotcoco (Rust) and pycocotools, the reference.

Both return bit-identical arrays for the output of `ground_truth.read` and `Results`. They differ on files with gaps
(objects without area, missing or duplicate ids), so such files are completed first. Ground truth for boxes and results
whose text passes a quick check are parsed by hotcoco directly, since parsing in Python takes longer than the
evaluation. Ground-truth masks are always checked in Python.
"""

import contextlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import numpy as np

from resdet.detection.data import rle
from resdet.detection.data.coco_file import REQUIRED
from resdet.detection.evaluation import ground_truth
from resdet.detection.evaluation.ground_truth import Kind, Truth, class_names
from resdet.detection.evaluation.results import Results, ResultsLike, as_results
from resdet.errors import DataError

GAPS = {
    "duplicate_ann_id",
    "duplicate_image_id",
    "duplicate_category_id",
    "orphan_image_id",
    "orphan_category_id",
    "degenerate_bbox",  # no area, or negative sides
}
UNKNOWN = {"dt_orphan_image_id", "dt_orphan_category_id", "dt_missing_score"}
TWO_NEGATIVE_SIDES = re.compile(rb"-[^,\[\]]*,\s*-[^,\[\]]*\]")  # results in a positive area
EMPTY = re.compile(rb'"(?:bbox|area)"\s*:\s*(?:\[\s*\]|null)')
ODD_CROWD = re.compile(rb'"iscrowd"\s*:(?!\s*[01]\s*[,}])')
BOX, MASK = re.compile(rb'"bbox"'), re.compile(rb'"segmentation"')
COUNTS = re.compile(rb'"counts":\s*"([^"]*)"')
MASK_SIZE = re.compile(rb"\s*:\s*\[\s*(\d+)\s*,\s*(\d+)\s*")
IMAGE_ID = re.compile(rb'"image_id":\s*(\d+)')
CATEGORY_ID = re.compile(rb'"category_id":\s*(\d+)')
START = 2**16  # bytes of a results file searched for unknown ids


@dataclass
class Arrays:
    """Arrays of pycocotools' `COCOeval.eval`; -1 without ground truth."""

    precision: np.ndarray  # [T, R, K, A, M] thresholds, recalls, categories, areas, detections
    recall: np.ndarray  # [T, K, A, M]
    scores: np.ndarray  # [T, R, K, A, M]
    classes: list[str]  # by ascending category id
    objects: list[int]  # number per class, without crowds


def run_hotcoco(annotations: Truth, results: ResultsLike, kind: Kind, max_detections: Sequence[int]) -> Arrays:
    truth, evaluator = hotcoco_evaluator(annotations, results, kind)
    evaluator.params.max_dets = list(max_detections)
    evaluator.evaluate()
    evaluator.accumulate()
    names = class_names(truth.load_cats(truth.get_cat_ids()))
    counts = {row["id"]: row["ann_count"] - row["crowd_count"] for row in truth.stats()["per_category"]}
    return arrays_of(evaluator.eval, names, counts)


def run_pycocotools(annotations: Truth, results: ResultsLike, kind: Kind, max_detections: Sequence[int]) -> Arrays:
    truth = ground_truth.read(annotations, kind)
    results = as_results(results, kind)
    results.check(truth, kind)
    return accumulate(truth, _detections(results, kind), kind, maxDets=list(max_detections))


def accumulate(truth: dict[str, list[dict]], detections: list[dict], kind: Kind, **params: Any) -> Arrays:
    """Computes pycocotools' arrays from detections in the format of `loadRes`; `params`: fields of its `Params`."""
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        detected = _pycocotools({**truth, "annotations": detections})
        evaluator = COCOeval(_pycocotools(truth), detected, kind)
        vars(evaluator.params).update(params)
        evaluator.evaluate()
        evaluator.accumulate()
    return arrays_of(evaluator.eval, class_names(truth["categories"]), ground_truth.count_objects(truth))


def arrays_of(accumulated: dict, names: list[str], counts: dict[int, int]) -> Arrays:
    objects = [counts[identity] for identity in sorted(counts)]
    return Arrays(accumulated["precision"], accumulated["recall"], accumulated["scores"], names, objects)


def _pycocotools(content: dict) -> Any:
    """Creates pycocotools' COCO from a file's content."""
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = content
    coco.createIndex()
    return coco


def _detections(results: Results, kind: Kind) -> list[dict]:
    """Returns detections in the format of `loadRes`, but with the mask's area even if there is a box."""
    areas = results.boxes[:, 2] * results.boxes[:, 3] if kind == "bbox" else mask_areas(results)
    return [
        {**entry, "id": number, "area": area, "iscrowd": 0}
        for number, (entry, area) in enumerate(zip(results.to_list(), areas.tolist()), start=1)
    ]


def mask_areas(results: Results) -> np.ndarray:
    from hotcoco import mask

    return np.array(mask.area(results.masks or []), np.float64)


def hotcoco_evaluator(annotations: Truth, results: ResultsLike, kind: Kind) -> tuple[Any, Any]:
    """Returns hotcoco's COCO of the ground truth, and its COCOeval with validated detections."""
    import hotcoco

    truth = (_parse_truth(annotations) if kind == "bbox" else None) or _complete_truth(annotations, kind)
    detections = _parse_results(truth, results, kind) or _convert_results(truth, as_results(results, kind), kind)
    return truth, hotcoco.COCOeval(truth, detections, kind)


def _convert_results(truth: Any, results: Results, kind: Kind) -> Any:
    results.check({"images": list(truth.imgs.values()), "categories": list(truth.cats.values())}, kind)
    table = np.column_stack([results.image_ids, results.boxes, results.scores, results.category_ids])
    if kind == "bbox":
        return truth.load_res(table)
    detections = truth.load_res(table, segmentation=results.masks or [])
    detections.update_anns(ids=np.arange(1, len(results) + 1), area=mask_areas(results))
    return detections


def _complete_truth(annotations: Truth, kind: Kind) -> Any:
    import hotcoco

    content = ground_truth.read(annotations, kind)
    try:
        return hotcoco.COCO(content)
    except ValueError as error:
        file = "the ground truth" if isinstance(annotations, dict) else annotations
        raise DataError(f"{file} cannot be used as ground truth ({error}): fix it.") from error


def _parse_truth(annotations: Truth) -> Any | None:
    """Parses the ground truth of boxes with hotcoco; None for a file with gaps."""
    import hotcoco

    if isinstance(annotations, dict):
        return None
    try:
        text = Path(annotations).read_bytes()
        truth = hotcoco.COCO(str(annotations))
    except (OSError, ValueError):
        return None  # ground_truth.read raises the error
    count = len(truth.get_ann_ids())
    complete = all(text.count(key) >= count for key in (b'"bbox"', b'"area"'))
    single = all(text.count(b'"%b"' % key.encode()) == 1 for key in REQUIRED)
    if not count or not complete or not single or EMPTY.search(text) or ODD_CROWD.search(text):
        return None
    health = truth.healthcheck()
    gaps = GAPS.intersection(problem["code"] for problem in health["errors"] + health["warnings"])
    return None if gaps or truth.load_warnings or not _areas_are_valid(truth) else truth


def _areas_are_valid(annotations: Any) -> bool:
    """Returns whether no area is negative or infinite."""
    return len(annotations.get_ann_ids(area_rng=[0, np.finfo(np.float64).max])) == len(annotations.get_ann_ids())


def _parse_results(truth: Any, results: ResultsLike, kind: Kind) -> Any | None:
    """Parses the detections of a file with hotcoco; None for a file that needs validation in Python."""
    if not isinstance(results, (str, Path)):
        return None
    try:
        with open(results, "rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as text:
            return _parse_valid_results(text, truth, str(results), kind)
    except (OSError, ValueError):
        return None


def _parse_valid_results(text: mmap, truth: Any, path: str, kind: Kind) -> Any | None:
    if text[:1] != b"[" or (kind == "segm" and text.find(b'"bbox"') >= 0):
        return None  # hotcoco uses the box area if there are both
    if not _starts_with_known_ids(text, truth):
        return None  # hotcoco would print a warning before the error
    detections = truth.load_res(path)
    health = truth.healthcheck(detections)
    unknown = UNKNOWN.intersection(problem["code"] for problem in health["errors"] + health["warnings"])
    if unknown or detections.load_warnings:
        return None
    are_valid = _boxes_are_valid if kind == "bbox" else _masks_are_valid
    return detections if are_valid(text, truth, detections) else None


def _starts_with_known_ids(text: mmap, truth: Any) -> bool:
    """Returns whether the ids at the start of the file are in the ground truth, unlike those of another split."""
    start = text[: text.rfind(b"}", 0, START) + 1]
    ids = lambda pattern: {int(number) for number in pattern.findall(start)}
    return ids(IMAGE_ID) <= set(truth.get_img_ids()) and ids(CATEGORY_ID) <= set(truth.get_cat_ids())


def _boxes_are_valid(text: mmap, truth: Any, detections: Any) -> bool:
    """Returns whether each detection has a box with a valid area and without two negative sides."""
    if len(BOX.findall(text)) < len(detections.get_ann_ids()):
        return False
    return _areas_are_valid(detections) and not TWO_NEGATIVE_SIDES.search(text)


def _masks_are_valid(text: mmap, truth: Any, detections: Any) -> bool:
    """Returns whether each mask has its image's size and matching runs; ids, sizes and counts must align in the
    text."""
    images = [int(image) for image in IMAGE_ID.findall(text)]
    sizes = [part[: part.find(b"]")] for part in text[:].split(b'"size"')[1:]]
    counts = [count.replace(b"\\\\", b"\\") for count in COUNTS.findall(text)]
    if not len(images) == len(sizes) == len(counts) == len(MASK.findall(text)) == len(detections.get_ann_ids()):
        return False
    expected = ground_truth.image_sizes(list(truth.imgs.values()))
    declared = ((image, MASK_SIZE.fullmatch(size)) for image, size in set(zip(images, sizes)))
    if not all(size and tuple(map(int, size.groups())) == expected.get(image) for image, size in declared):
        return False
    return rle.all_fit(counts, np.array([expected[image][0] * expected[image][1] for image in images], np.int64))
