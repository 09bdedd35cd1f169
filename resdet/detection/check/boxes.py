"""Findings about boxes: outside their image, in another format, without area, or duplicated."""

from collections.abc import Iterator

import numpy as np

from resdet.detection.check.finding import Finding
from resdet.detection.check.split import Split
from resdet.detection.data.pairwise_iou import iou_xyxy

BEYOND = 1.0  # pixels by which a box may exceed its image
FAR = 0.05  # share of the image's side; boxes that exceed it by more may be in another format
SAME = 0.95  # IoU from which two boxes of a class show the same object


def check_boxes(split: Split) -> list[Finding]:
    return [*_of_coordinates(split), *check_copies(split)]


def _of_coordinates(split: Split) -> Iterator[Finding]:
    rows = np.flatnonzero(split.annotations.valid)
    rows = rows[split.images.valid[split.owners[rows]]] if len(split.files) else rows[:0]
    sizes = split.sizes[split.owners[rows]].astype(np.float64)
    kinds = kinds_of(split.boxes[rows], sizes)
    for row, size, kind in zip(rows.tolist(), sizes, kinds):
        if kind:
            yield split.of_object(kind, row, _sentence(split, row, size, kind), box=split.boxes[row].tolist())


def kinds_of(boxes: np.ndarray, sizes: np.ndarray) -> list[str]:
    """Returns the kind of finding for each box float64 [n, 4] (x, y, width, height) in an image of `sizes` [n, 2]; ""
    for none."""
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    limits = sizes + BEYOND
    within = lambda low, high: ((low >= -BEYOND) & (high <= limits)).all(1)
    beyond = np.maximum(-low, high - sizes).clip(0) / sizes
    far = (beyond > FAR).any(1)
    area = (boxes[:, 2:] > 0).all(1)
    corners = (boxes[:, 2:] > boxes[:, :2]).all(1) & within(boxes[:, :2], boxes[:, 2:])
    turned = boxes[:, [1, 0, 3, 2]]
    conditions = {
        "box_no_area": ~area,
        "box_normalized": (boxes >= 0).all(1) & (high <= 1).all(1) & (sizes > 1).all(1),
        "box_xyxy": far & corners,
        "box_swapped": far & within(turned[:, :2], turned[:, :2] + turned[:, 2:]),
        "box_outside": (high <= 0).any(1) | (low >= sizes).any(1),
        "box_clipped": ~within(low, high),
    }
    return np.select(list(conditions.values()), list(conditions), "").tolist()


def _sentence(split: Split, row: int, size: np.ndarray, kind: str) -> str:
    name = f"annotation {split.annotation_name(row)}"
    box = "[" + ", ".join(f"{side:g}" for side in split.boxes[row]) + "]"
    image = f"{size[0]:g}x{size[1]:g}"
    return {
        "box_no_area": f"{name} has the box {box}, which has no area",
        "box_normalized": f"{name} has the box {box} in an image of {image} pixels: it is in fractions of the image",
        "box_xyxy": f"{name} has the box {box}, which leaves its image of {image}, and fits as x1, y1, x2, y2",
        "box_swapped": f"{name} has the box {box}, which leaves its image of {image}, and fits as y, x, height, width",
        "box_outside": f"{name} has the box {box}, outside of its image of {image}",
        "box_clipped": f"{name} has the box {box}, which exceeds its image of {image}",
    }[kind]


def check_copies(split: Split) -> list[Finding]:
    """Finds objects annotated twice in an image, as the same class or as two classes."""
    rows = split.usable()
    table = split.objects()
    findings = []
    for a, b in copies(table.images, table.boxes, table.crowd):
        same = table.labels[a] == table.labels[b]
        first, second = int(rows[a]), int(rows[b])
        names = [split.annotation_name(row) for row in (first, second)]
        if same:
            sentence = f"annotations {names[0]} and {names[1]} are the same {table.classes[table.labels[a]]}"
        else:
            classes = [table.classes[table.labels[k]] for k in (a, b)]
            sentence = f"annotations {names[0]} ({classes[0]}) and {names[1]} ({classes[1]}) have the same box"
        findings.append(split.of_object("box_duplicate" if same else "box_two_classes", second, sentence, first))
    return findings


def copies(images: np.ndarray, boxes: np.ndarray, crowd: np.ndarray) -> list[tuple[int, int]]:
    """Returns pairs of objects in an image, without crowds, with a box IoU of `SAME` or more; `images` [m] ascend.

    The second of each pair occurs only once, with its earliest copy. Each pass compares all objects with those `step`
    places later, so the number of passes is the number of objects in an image.
    """
    partner = np.full(len(boxes), -1, np.int64)
    boxes = np.asarray(boxes, np.float64)
    for step in range(1, len(boxes)):
        first = np.flatnonzero(images[:-step] == images[step:])
        if not len(first):
            break
        pairs = first[~crowd[first] & ~crowd[first + step]]
        pairs = pairs[iou_xyxy(boxes[pairs], boxes[pairs + step]) >= SAME]
        partner[pairs + step] = pairs  # the earliest copy, since steps ascend
    return [(int(partner[b]), int(b)) for b in np.flatnonzero(partner >= 0)]
