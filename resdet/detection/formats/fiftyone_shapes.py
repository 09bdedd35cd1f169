"""Matches FiftyOne's polylines and keypoints to its detections.

Points are x and y as fractions of the image; missing keypoints are NaN. Neither kind has boxes, so each entry is
matched to the detection of the same `instance`, or else to one with the same label and a fitting box. An entry without
a match becomes an object with the box around its points.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from resdet.detection.data.coco_file import is_text
from resdet.detection.data.keypoints import KeypointNames
from resdet.detection.data.pairwise_iou import iou_xyxy
from resdet.detection.formats.collector import Box, Collector, number_in

LABELED = 2  # COCO's visibility
MIN_IOU = 0.75  # between a detection's box and the box around its polygons
MARGIN = 1.0  # pixels by which keypoints may lie outside their detection's box
Points = list[tuple[float, float]]


@dataclass
class Instance:
    """An object to match polylines and keypoints to, with its annotation in COCO's format."""

    label: str
    box: Box  # xyxy
    instance: str | None
    annotation: dict[str, Any]


@dataclass
class Pending:
    """Keypoints to add after reading all files, if they have the common number of points."""

    image: int
    label: str
    points: Points  # in pixels
    instance: str | None
    place: str
    objects: list[Instance] = field(default_factory=list)  # those of the image


def instance_of(entry: Mapping[str, Any]) -> str | None:
    """Returns the id shared by all entries of an object."""
    instance = entry.get("instance")
    return str(instance["_id"]) if isinstance(instance, Mapping) and instance.get("_id") else None


def points_of(given: Any, size: tuple[int, int]) -> Points | None:
    """Converts points to pixels, NaN where a number is missing; None if `given` is not a list of pairs."""
    if not isinstance(given, list) or not given or not all(isinstance(pair, list) and len(pair) == 2 for pair in given):
        return None
    return [(number_in(x) * size[0], number_in(y) * size[1]) for x, y in given]


def rings_of(entry: Mapping[str, Any], size: tuple[int, int]) -> list[list[float]] | None:
    """Returns the polygons of a polyline, each x1, y1, x2, y2 … in pixels; None if unreadable."""
    shapes = entry.get("points")
    if not isinstance(shapes, list) or not shapes:
        return None
    rings = []
    for shape in shapes:
        points = points_of(shape, size)
        if points is None or not all(map(math.isfinite, (side for point in points for side in point))):
            return None
        rings.append([side for point in points for side in point])
    return rings


def with_polygons(objects: Sequence[Instance], label: str, box: Box, instance: str | None) -> Instance | None:
    """Finds the detection without polygons of the same instance, or else with the same label and the highest IoU."""
    free = [each for each in objects if "segmentation" not in each.annotation]
    same, alike = _same(free, instance), [each for each in free if each.label == label]
    if same or not alike:
        return same
    overlaps = iou_xyxy(np.array([each.box for each in alike]), np.array([box]))
    return alike[overlaps.argmax()] if overlaps.max() >= MIN_IOU else None


def with_points(objects: Sequence[Instance], label: str, points: Points, instance: str | None) -> Instance | None:
    """Finds the detection without keypoints of the same instance, else the smallest with the same label around them."""
    free = [each for each in objects if "keypoints" not in each.annotation]
    box = around(points)
    fits = [each for each in free if each.label == label and _holds(each.box, box)]
    return _same(free, instance) or min(fits, key=lambda each: _area(each.box), default=None)


def add_keypoints(collector: Collector, pending: Sequence[Pending], labels: Sequence[str]) -> list[str]:
    """Adds the keypoints to their objects; returns the places of skipped keypoints.

    The number of points must match the skeleton's `labels`, or else be the most frequent one.
    """
    count = len(labels) or next((number for number, _ in count_points(pending).most_common(1)), 0)
    other = []
    for keypoints in pending:
        if len(keypoints.points) != count:
            other.append(keypoints.place)
            continue
        match = with_points(keypoints.objects, keypoints.label, keypoints.points, keypoints.instance)
        more = to_coco(keypoints.points)
        if match:
            match.annotation.update(more)
        else:
            collector.add_object(keypoints.image, keypoints.label, around(keypoints.points), keypoints.place, **more)
    return other


def count_points(pending: Sequence[Pending]) -> Counter[int]:
    return Counter(len(keypoints.points) for keypoints in pending)


def to_coco(points: Points) -> dict[str, Any]:
    """Returns the COCO keys of keypoints."""
    labeled = [all(map(math.isfinite, point)) for point in points]
    flat = [value for (x, y), good in zip(points, labeled) for value in ((x, y, LABELED) if good else (0, 0, 0))]
    return {"keypoints": flat, "num_keypoints": sum(labeled)}


def declare_keypoints(content: dict[str, Any], labels: Sequence[str], edges: Sequence[Sequence[int]]) -> None:
    """Adds keypoint names to the categories whose objects have keypoints; numbers them if `labels` is empty."""
    with_some = {entry["category_id"]: entry["keypoints"] for entry in content["annotations"] if "keypoints" in entry}
    if not with_some:
        return
    count = len(next(iter(with_some.values()))) // 3
    names = KeypointNames(list(labels) or [f"point_{k + 1}" for k in range(count)], [])
    names.skeleton = [(a, b) for edge in edges for a, b in zip(edge, edge[1:]) if max(a, b) < count]
    for category in content["categories"]:
        if category["id"] in with_some:
            category.update(names.to_coco())


def skeleton_of(metadata: Mapping[str, Any], name: str | None) -> tuple[list[str], list[list[int]]]:
    """Returns labels and edges of a field's skeleton; empty if missing or invalid."""
    by_field = metadata.get("skeletons")
    given = by_field.get(name) if isinstance(by_field, Mapping) else None
    given = given or metadata.get("default_skeleton")
    skeleton = given if isinstance(given, Mapping) else {}
    labels, edges = skeleton.get("labels"), skeleton.get("edges")
    listed = labels if isinstance(labels, list) else []
    names = [label for label in listed if is_text(label) and label]
    are_names = len({*names}) == len(listed)
    return names if are_names else [], [edge for edge in edges if _is_edge(edge)] if isinstance(edges, list) else []


def around(points: Sequence[tuple[float, float]]) -> Box:
    """Returns the box around the points that are not NaN."""
    xs, ys = zip(*(point for point in points if all(map(math.isfinite, point))))
    return min(xs), min(ys), max(xs), max(ys)


def _same(objects: Sequence[Instance], instance: str | None) -> Instance | None:
    return next((each for each in objects if instance is not None and each.instance == instance), None)


def _holds(box: Box, inner: Box) -> bool:
    outward = zip(box[:2], inner[:2]), zip(inner[2:], box[2:])
    return all(smaller <= larger + MARGIN for pairs in outward for smaller, larger in pairs)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _is_edge(edge: Any) -> bool:
    return isinstance(edge, list) and all(type(end) is int and end >= 0 for end in edge)
