"""Mean average precision of ILSVRC VID, as in its development kit, and by object speed, as in FGFA.

The kit matches as in DET: an IoU threshold of 0.5, lower for small objects. The kit's readme excludes frames with
interpolated ("generated") boxes; the kit's code, published results and this module include them.
"""

from typing import Any

import numpy as np

from resdet.detection.data.motion import instance_ids, motion_ious
from resdet.detection.data.validation import Records, refuse
from resdet.detection.evaluation import ground_truth
from resdet.detection.evaluation.average_precision import (
    EvaluationData,
    area_ap,
    average,
    overlapping,
    summarize,
    weighted_area_ap,
)
from resdet.detection.evaluation.ground_truth import Truth
from resdet.detection.evaluation.ilsvrc_det import match, outcomes_of
from resdet.detection.evaluation.results import ResultsLike, as_results

SLOW, FAST = 0.9, 0.7  # motion IoU above SLOW is slow, below FAST fast


def evaluate_vid(annotations: Truth, results: ResultsLike) -> dict[str, Any]:
    """Returns {"mAP", "mAP_slow", "mAP_medium", "mAP_fast", "per_class": {name: {"AP", "objects", "slow", "medium",
    "fast"}}}.

    A group's AP ignores objects of other groups and their detections, and weights false detections by
    `weights_of_misses`. Groups require annotations with "motion_iou", or with "instance_id" and images with "video_id"
    and "frame_id"; otherwise, and for classes without objects, their AP is None.
    """
    truth = ground_truth.read(annotations)
    data = EvaluationData.read(truth, as_results(results))
    object_of = match(data)
    metrics = summarize(data, outcomes_of(object_of), np.ones(len(data.labels), bool), area_ap)
    groups = {name: group_aps(data, object_of, member) for name, member in group_members(motion_of(truth)).items()}
    for label, row in enumerate(metrics["per_class"].values()):
        row |= {name: aps[label] for name, aps in groups.items()}
    means = {f"mAP_{name}": average(aps) for name, aps in groups.items()}
    return {"mAP": metrics["mAP"], **means, "per_class": metrics["per_class"]}


def motion_of(truth: dict[str, list[dict]]) -> np.ndarray:
    """Returns each object's motion IoU, float64 [m]: "motion_iou", or computed from tracks; NaN (no group) without."""
    objects = Records(truth["annotations"], "annotation", refuse("the ground truth"))
    if any("motion_iou" in entry for entry in objects.entries):
        return objects.finite("motion_iou")
    if not any("instance_id" in entry for entry in objects.entries):
        return np.full(len(objects), np.nan)
    images = Records(truth["images"], "image", refuse("the ground truth"))
    videos, frames, tracks = images.whole("video_id"), images.whole("frame_id"), objects.whole("instance_id")
    ids = np.array([image["id"] for image in truth["images"]], np.int64)
    order = np.argsort(ids)
    rows = order[np.searchsorted(ids, [entry["image_id"] for entry in truth["annotations"]], sorter=order)]
    boxes = np.array([entry["bbox"] for entry in truth["annotations"]], np.float64)
    return motion_ious(instance_ids(videos[rows], tracks), frames[rows], boxes)


def group_members(motion: np.ndarray) -> dict[str, np.ndarray]:
    """Returns which objects are in each group, bool [m]."""
    return {"slow": motion > SLOW, "medium": (motion >= FAST) & (motion <= SLOW), "fast": motion < FAST}


def group_aps(data: EvaluationData, object_of: np.ndarray, member: np.ndarray) -> list[float | None]:
    """Returns the AP of each class for a group's objects, `member` bool [m]; None for a class without any."""
    matched, missed = np.flatnonzero(object_of >= 0), np.flatnonzero(object_of < 0)
    hits, misses = np.zeros(len(object_of), bool), np.zeros(len(object_of))
    hits[matched] = member[object_of[matched]]
    misses[missed] = weights_of_misses(data, missed, member)
    aps: list[float | None] = []
    for label, total in enumerate(np.bincount(data.labels[member], minlength=len(data.classes)).tolist()):
        rows = data.detected == label
        aps.append(weighted_area_ap(hits[rows], misses[rows], total) if total else None)
    return aps


def weights_of_misses(data: EvaluationData, missed: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Returns the weight of each false detection [k] in a group, as in FGFA's code, the source of published results.

    The weight is 1 if the object of its frame, of any class, with the highest IoU is in the group, and 0 if not. For
    ties, such as no overlap at all: the fraction of the frame's objects outside the group if the frame has both kinds,
    and the fraction of all objects in the group if it has none.
    """
    boxes, images = data.detected_boxes[missed], data.detected_images[missed]
    nearest, counts = [], []
    for rows in (np.flatnonzero(member), np.flatnonzero(~member)):
        pairs = overlapping(boxes, images, data.boxes[rows], data.images[rows])
        frames = np.sort(data.images[rows])
        count = np.searchsorted(frames, images, "right") - np.searchsorted(frames, images, "left")
        overlap = np.where(count > 0, 0.0, -1.0)
        np.maximum.at(overlap, pairs.detections, pairs.overlaps)
        nearest.append(overlap)
        counts.append(count)
    (inside, outside), total = nearest, np.maximum(counts[0] + counts[1], 1)
    tied = np.where(counts[0] + counts[1] > 0, counts[1] / total, member.mean() if len(member) else 0.0)
    return np.where(inside > outside, 1.0, np.where(inside < outside, 0.0, tied))
