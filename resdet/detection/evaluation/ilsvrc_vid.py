"""Mean average precision of ILSVRC VID as in its development kit, and of slow, medium and fast objects as in FGFA.

The kit's rule is DET's: an IoU threshold of 0.5, lower for small objects. The kit's readme excludes frames with
interpolated ("generated") boxes, but neither the kit's code nor published results do, nor does this module.
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

SLOW, FAST = 0.9, 0.7  # above, below this motion IoU


def evaluate_vid(annotations: Truth, results: ResultsLike) -> dict[str, Any]:
    """{"mAP", "mAP_slow", "mAP_medium", "mAP_fast", "per_class": {name: {"AP", "objects", "slow", "medium", "fast"}}}

    The AP of a group ignores objects of the other groups and their detections, and weights false detections by
    `weights_of_misses`. Annotations need "motion_iou", or "instance_id" and images with "video_id" and "frame_id", for
    the groups; without, and for a class without objects, they are None.
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
    """The motion IoU of each object, float64 [m]: "motion_iou", or computed; NaN, in no group, without tracks."""
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
    """Which objects are in each group, bool [m]."""
    return {"slow": motion > SLOW, "medium": (motion >= FAST) & (motion <= SLOW), "fast": motion < FAST}


def group_aps(data: EvaluationData, object_of: np.ndarray, member: np.ndarray) -> list[float | None]:
    """The AP of each class for the objects of a group, bool [m]; None for a class without objects in it."""
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
    """Weight of each false detection [k] in a group, as in FGFA's code, which published results come from.

    Only the objects of its frame count, of any class: 1 if the nearest one by IoU is in the group, 0 if it is not.
    Where neither is nearer, as without overlap: the fraction of objects outside of the group if the frame has both,
    and in a frame without objects the fraction of all objects in the group.
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
