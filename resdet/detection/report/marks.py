"""Annotated objects and detections as marks on a picture: boxes, mask outlines, and keypoints."""

from dataclasses import replace

import numpy as np

from resdet.detection.data.annotations import Annotations
from resdet.detection.data.segmentation import Polygons
from resdet.detection.evaluation.results import Results
from resdet.ops.rle import decode
from resdet.results.box_format import xywh_to_xyxy
from resdet.results.sections import Mark
from resdet.results.visualizer import MIN_KEYPOINT_SCORE


def truth_marks(source: Annotations, index: int) -> list[Mark]:
    """Returns the objects of an image, in annotated pixels."""
    objects, (width, height) = source.objects(index), source.sizes[index].tolist()
    marks = []
    for k, (box, label, crowd, segment) in enumerate(
        zip(objects.boxes, objects.labels, objects.crowd, objects.segments)
    ):
        mark = Mark.of(box, source.classes[label] + (" (crowd)" if crowd else ""))
        if isinstance(segment, Polygons) and len(segment.rings) == 1:
            mark = replace(mark, rings=segment.rings)
        elif segment is not None:
            mark = replace(mark, rings=outline(segment.bitmap(height, width)))
        if objects.keypoints is not None:
            mark = with_keypoints(mark, source, objects.keypoints.points[k], 0)
        marks.append(mark)
    return marks


def detection_marks(source: Annotations, index: int, results: Results, score: float) -> list[Mark]:
    """Returns the detections of an image with at least this score, in annotated pixels."""
    rows = results.rows_of(source.result_id(index), score)
    return [detection_mark(source, results, row) for row in rows.tolist()]


def detection_mark(source: Annotations, results: Results, row: int) -> Mark:
    name = source.classes[source.category_ids.index(int(results.category_ids[row]))]
    mark = Mark.of(xywh_to_xyxy(results.boxes[row]), f"{name} {results.scores[row]:.2f}")
    if results.masks is not None:
        mark = replace(mark, rings=outline(decode(results.masks[row])))
    if results.keypoints is not None:
        mark = with_keypoints(mark, source, results.keypoints[row], MIN_KEYPOINT_SCORE)
    return mark


def outline(mask: np.ndarray) -> list[np.ndarray]:
    """Returns rings [k, 2] (x, y) around the parts and holes of a mask [H, W]."""
    import cv2

    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return [contour[:, 0] + 0.5 for contour in contours]  # through pixel centers


def with_keypoints(mark: Mark, source: Annotations, keypoints: np.ndarray, least: float) -> Mark:
    """Adds keypoints [K, 3] with a third value above `least`, and the skeleton between them."""
    shown = keypoints[:, 2] > least
    pairs = source.keypoints.skeleton if source.keypoints else []
    limbs = [keypoints[[a, b], :2] for a, b in pairs if shown[a] and shown[b]]
    return replace(mark, points=list(keypoints[shown, :2]), limbs=limbs)
