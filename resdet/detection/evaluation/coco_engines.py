"""The two machines that compute COCO's precision and recall: hotcoco (Rust) and pycocotools, the reference.

They give the same arrays to the last bit on what `ground_truth.read` and `Results` let pass; they differ on files
with gaps (objects without area, without an id or of one id), which is why such files are completed first. Boxes of
files without any gap are read by hotcoco alone, and so are results: Python needs longer to parse them than hotcoco to
judge them. A quick look at their text tells which they are. Masks of the ground truth are always checked by Python.
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
from resdet.detection.evaluation.ground_truth import Kind, class_names
from resdet.detection.evaluation.results import Results, as_results
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
TWO_NEGATIVE_SIDES = re.compile(rb"-[^,\[\]]*,\s*-[^,\[\]]*\]")  # whose area is positive
EMPTY = re.compile(rb'"(?:bbox|area)":\s*(?:\[\s*\]|null)')
ODD_CROWD = re.compile(rb'"iscrowd":(?!\s*[01]\s*[,}])')
BOX, MASK = re.compile(rb'"bbox"'), re.compile(rb'"segmentation"')
COUNTS = re.compile(rb'"counts":\s*"([^"]*)"')
MASK_SIZE = re.compile(rb"\s*:\s*\[\s*(\d+)\s*,\s*(\d+)\s*")
IMAGE_ID = re.compile(rb'"image_id":\s*(\d+)')


@dataclass
class Arrays:
    """As pycocotools' `COCOeval.eval` has them; -1 where there is no ground truth."""

    precision: np.ndarray  # [T, R, K, A, M] thresholds, recalls, categories, areas, detections
    recall: np.ndarray  # [T, K, A, M]
    scores: np.ndarray  # [T, R, K, A, M]
    classes: list[str]  # by rising category id
    objects: list[int]  # how many of each class, crowds not counted


def run_hotcoco(annotations: Any, results: Any, kind: Kind, max_detections: Sequence[int]) -> Arrays:
    truth, judge = hotcoco_evaluator(annotations, results, kind)
    judge.params.max_dets = list(max_detections)
    judge.evaluate()
    judge.accumulate()
    names = class_names(truth.load_cats(truth.get_cat_ids()))
    counts = {row["id"]: row["ann_count"] - row["crowd_count"] for row in truth.stats()["per_category"]}
    return _arrays(judge.eval, names, counts)


def run_pycocotools(annotations: Any, results: Any, kind: Kind, max_detections: Sequence[int]) -> Arrays:
    from pycocotools.cocoeval import COCOeval

    truth = ground_truth.read(annotations, kind)
    results = as_results(results, kind)
    results.check(truth, kind)
    with contextlib.redirect_stdout(io.StringIO()):
        judge = COCOeval(_pycocotools(truth), _pycocotools({**truth, "annotations": _judged(results, kind)}), kind)
        judge.params.maxDets = list(max_detections)
        judge.evaluate()
        judge.accumulate()
    return _arrays(judge.eval, class_names(truth["categories"]), ground_truth.count_objects(truth))


def _arrays(found: dict, names: list[str], counts: dict[int, int]) -> Arrays:
    objects = [counts[identity] for identity in sorted(counts)]
    return Arrays(found["precision"], found["recall"], found["scores"], names, objects)


def _pycocotools(content: dict) -> Any:
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = content
    coco.createIndex()
    return coco


def _judged(results: Results, kind: Kind) -> list[dict]:
    """Detections as `loadRes` makes them. The area of a mask is its own, also where there is a box as well."""
    areas = results.boxes[:, 2] * results.boxes[:, 3] if kind == "bbox" else mask_areas(results)
    return [
        {**entry, "id": number, "area": area, "iscrowd": 0}
        for number, (entry, area) in enumerate(zip(results.to_list(), areas.tolist()), start=1)
    ]


def mask_areas(results: Results) -> np.ndarray:
    from hotcoco import mask

    return np.array(mask.area(results.masks or []), np.float64)


def hotcoco_evaluator(annotations: Any, results: Any, kind: Kind) -> tuple[Any, Any]:
    """hotcoco's COCO of the ground truth, and its COCOeval with the checked detections."""
    import hotcoco

    truth = (_whole_truth(annotations) if kind == "bbox" else None) or _completed_truth(annotations, kind)
    found = _whole_results(truth, results, kind) or _load(truth, as_results(results, kind), kind)
    return truth, hotcoco.COCOeval(truth, found, kind)


def _load(truth: Any, results: Results, kind: Kind) -> Any:
    results.check({"images": list(truth.imgs.values()), "categories": list(truth.cats.values())}, kind)
    table = np.column_stack([results.image_ids, results.boxes, results.scores, results.category_ids])
    if kind == "bbox":
        return truth.load_res(table)
    found = truth.load_res(table, segmentation=results.masks or [])
    found.update_anns(ids=np.arange(1, len(results) + 1), area=mask_areas(results))
    return found


def _completed_truth(annotations: Any, kind: Kind) -> Any:
    import hotcoco

    content = ground_truth.read(annotations, kind)
    try:
        return hotcoco.COCO(content)
    except ValueError as error:
        file = "the ground truth" if isinstance(annotations, dict) else annotations
        raise DataError(f"{file} cannot be judged by ({error}): mend it.") from error


def _whole_truth(annotations: Any) -> Any | None:
    """The boxes of a file without gaps."""
    import hotcoco

    if isinstance(annotations, dict):
        return None
    try:
        text = Path(annotations).read_bytes()
        truth = hotcoco.COCO(str(annotations))
    except (OSError, ValueError):
        return None  # which Python's reader explains
    count = len(truth.get_ann_ids())
    told = all(text.count(key) >= count for key in (b'"bbox"', b'"area"'))
    single = all(text.count(b'"%b"' % key.encode()) == 1 for key in REQUIRED)
    if not count or not told or not single or EMPTY.search(text) or ODD_CROWD.search(text):
        return None
    health = truth.healthcheck()
    gaps = GAPS.intersection(problem["code"] for problem in health["errors"] + health["warnings"])
    return None if gaps or truth.load_warnings or not _areas_are_right(truth) else truth


def _areas_are_right(found: Any) -> bool:
    """None is negative or infinite."""
    return len(found.get_ann_ids(area_rng=[0, np.finfo(np.float64).max])) == len(found.get_ann_ids())


def _whole_results(truth: Any, results: Any, kind: Kind) -> Any | None:
    """The detections of a file in which nothing is to be complained about."""
    if not isinstance(results, (str, Path)):
        return None
    try:
        with open(results, "rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as text:
            return _if_right(text, truth, str(results), kind)
    except (OSError, ValueError):
        return None


def _if_right(text: mmap, truth: Any, path: str, kind: Kind) -> Any | None:
    if text[:1] != b"[" or (kind == "segm" and text.find(b'"bbox"') >= 0):
        return None  # hotcoco takes the area of the box where there are both
    found = truth.load_res(path)
    health = truth.healthcheck(found)
    unknown = UNKNOWN.intersection(problem["code"] for problem in health["errors"] + health["warnings"])
    if unknown or found.load_warnings:
        return None
    looks_right = _boxes_look_right if kind == "bbox" else _masks_look_right
    return found if looks_right(text, truth, found) else None


def _boxes_look_right(text: mmap, truth: Any, found: Any) -> bool:
    """Each has a box of its own with an area, and no two sides are negative."""
    if len(BOX.findall(text)) < len(found.get_ann_ids()):
        return False
    return _areas_are_right(found) and not TWO_NEGATIVE_SIDES.search(text)


def _masks_look_right(text: mmap, truth: Any, found: Any) -> bool:
    """Each mask has its image's size, of which its runs are: the text has as many of each, in the same order."""
    images = [int(image) for image in IMAGE_ID.findall(text)]
    sizes = [part[: part.find(b"]")] for part in text[:].split(b'"size"')[1:]]
    counts = [count.replace(b"\\\\", b"\\") for count in COUNTS.findall(text)]
    if not len(images) == len(sizes) == len(counts) == len(MASK.findall(text)) == len(found.get_ann_ids()):
        return False
    wanted = ground_truth.image_sizes(list(truth.imgs.values()))
    told = ((image, MASK_SIZE.fullmatch(size)) for image, size in set(zip(images, sizes)))
    if not all(size and tuple(map(int, size.groups())) == wanted.get(image) for image, size in told):
        return False
    return rle.all_fit(counts, np.array([wanted[image][0] * wanted[image][1] for image in images], np.int64))
