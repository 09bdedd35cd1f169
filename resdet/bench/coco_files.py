"""Random annotation and results files in COCO format, comparable in cost to COCO's own files."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from resdet.files.atomic import write_text

WIDTH, HEIGHT, CLASSES = 640, 480, 80
PER_IMAGE = 7.2  # mean number of objects per image, as in COCO
DETECTIONS = 100  # per image
POINTS = 24  # per polygon; with two decimals an object takes about as many bytes as in COCO


class Objects(NamedTuple):
    """n objects, sorted by image."""

    images: np.ndarray  # int64 [n], from 0
    boxes: np.ndarray  # float64 [n, 4]: x, y, width, height
    labels: np.ndarray  # int64 [n], from 0


def make_objects(images: int, rng: np.random.Generator) -> Objects:
    """Random objects with a long-tailed class distribution and mostly small boxes, from 8 pixels up."""
    numbers = np.repeat(np.arange(images), rng.geometric(1 / PER_IMAGE, images))
    return Objects(numbers, random_boxes(len(numbers), rng), random_labels(len(numbers), rng))


def random_boxes(count: int, rng: np.random.Generator) -> np.ndarray:
    limits = np.array([WIDTH, HEIGHT])
    sides = np.exp(rng.normal(4.0, 0.9, (count, 2))).clip(8, 0.9 * limits)
    return np.concatenate([rng.random((count, 2)) * (limits - sides), sides], 1).round(2)


def random_labels(count: int, rng: np.random.Generator) -> np.ndarray:
    shares = 1 / np.arange(1, CLASSES + 1)
    return rng.choice(CLASSES, count, p=shares / shares.sum())


def make_detections(objects: Objects, images: int, rng: np.random.Generator) -> tuple[Objects, np.ndarray]:
    """Returns DETECTIONS per image with scores: half lie near an object, and 80 % of these have its class."""
    numbers = np.repeat(np.arange(images), DETECTIONS)
    counts = np.bincount(objects.images, minlength=images)
    starts = np.append(0, counts.cumsum()[:-1])
    like = starts[numbers] + (rng.random(len(numbers)) * counts[numbers]).astype(np.int64)
    near = rng.random(len(numbers)) < 0.5
    jitter = np.exp(rng.normal(0, 0.15, (len(numbers), 2)))
    sides = objects.boxes[like, 2:] * jitter
    corners = objects.boxes[like, :2] + rng.normal(0, 0.08, (len(numbers), 2)) * sides
    boxes = np.where(near[:, None], np.concatenate([corners, sides], 1), random_boxes(len(numbers), rng))
    known = near & (rng.random(len(numbers)) < 0.8)
    labels = np.where(known, objects.labels[like], random_labels(len(numbers), rng))
    scores = rng.beta(np.where(near, 2.0, 0.5), 2.0)
    return Objects(numbers, clip(boxes).round(2), labels), scores.round(4)


def clip(boxes: np.ndarray) -> np.ndarray:
    """Clips boxes to the image, keeping at least one pixel."""
    limits = np.array([WIDTH, HEIGHT])
    low = boxes[:, :2].clip(0, limits - 1)
    high = np.clip(boxes[:, :2] + boxes[:, 2:], low + 1, limits)
    return np.concatenate([low, high - low], 1)


def write_annotations(path: Path, objects: Objects, images: int) -> None:
    """Writes a COCO annotation file; segmentations are polygons inside the boxes."""
    rows = zip(objects.images.tolist(), objects.labels.tolist(), objects.boxes.tolist(), outlines(objects.boxes))
    annotations = [
        {
            "segmentation": [outline],
            "area": box[2] * box[3] * 0.7,
            "iscrowd": 0,
            "image_id": image + 1,
            "bbox": box,
            "category_id": label + 1,
            "id": number,
        }
        for number, (image, label, box, outline) in enumerate(rows, start=1)
    ]
    entries = [
        {"id": n + 1, "file_name": f"{n + 1:012}.jpg", "width": WIDTH, "height": HEIGHT, "license": 1}
        for n in range(images)
    ]
    categories = [{"id": n + 1, "name": f"class {n + 1}"} for n in range(CLASSES)]
    write(path, {"images": entries, "annotations": annotations, "categories": categories})


def outlines(boxes: np.ndarray) -> list[list[float]]:
    """Returns a polygon x1, y1, x2, y2, … inside each box: an ellipse with dents."""
    angles = np.arange(POINTS) * (2 * np.pi / POINTS)
    radius = 0.42 + 0.08 * np.cos(3 * angles)
    shape = 0.5 + np.stack([radius * np.cos(angles), radius * np.sin(angles)], 1)
    return (boxes[:, None, :2] + shape * boxes[:, None, 2:]).round(2).reshape(len(boxes), -1).tolist()


def write_results(path: Path, detections: Objects, scores: np.ndarray, masks: bool) -> None:
    """Writes a COCO results file with boxes, or with masks as compressed RLE."""
    boxes = detections.boxes
    shapes = run_lengths(boxes) if masks else boxes.tolist()
    key = "segmentation" if masks else "bbox"
    rows = zip(detections.images.tolist(), detections.labels.tolist(), scores.tolist(), shapes)
    entries = [
        {"image_id": image + 1, "category_id": label + 1, "score": score, key: shape}
        for image, label, score, shape in rows
    ]
    write(path, entries)


def run_lengths(boxes: np.ndarray) -> list[dict[str, Any]]:
    from pycocotools import mask

    encoded = [mask.frPyObjects([outline], HEIGHT, WIDTH)[0] for outline in outlines(boxes)]
    return [{"size": rle["size"], "counts": rle["counts"].decode()} for rle in encoded]


def write(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content))
