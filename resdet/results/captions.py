"""Placement of captions, each where it hides the least of the objects and no other caption.

Greedy, as is common for labels on maps (Christensen, Marks and Shieber, 1995): in the order of the detections, each
caption takes its cheapest candidate.
"""

import numpy as np

HIDDEN = 0.25  # maximum fraction of another object that a caption may hide; otherwise it is omitted
DISTANCE = 0.01  # extra cost of each candidate over the previous one, to break ties
OWN = 0.3  # cost of hiding the caption's own object, relative to another object


def place(boxes: np.ndarray, sizes: np.ndarray, height: int, width: int) -> list[tuple[int, int] | None]:
    """Returns the top-left corners (x, y) of captions with `sizes` [m, 2] (width, height), for the first m of the boxes
    [n, 4] xyxy in an image of height × width pixels; None for captions without space.

    Captions are inside the image and never overlap; those larger than the image are cut off.
    """
    limits = np.array([width, height])
    objects = np.concatenate([boxes[:, :2].clip(0, limits - 1), boxes[:, 2:].clip(1, limits)], 1)
    surfaces, placed = np.maximum(areas(objects), 1), np.zeros((0, 4))
    corners: list[tuple[int, int] | None] = []
    for i in range(len(sizes)):
        spots = candidates(objects[i], sizes[i], limits)
        free = intersections(spots, placed).sum(1) == 0
        hidden = intersections(spots, objects) / surfaces
        hidden_object = hidden[:, i].copy()
        hidden[:, i] = 0
        cost = hidden.sum(1) + OWN * hidden_object + DISTANCE * np.arange(len(spots))
        cost[~free | (hidden.max(1) > HIDDEN)] = np.inf
        best = int(cost.argmin())
        if np.isinf(cost[best]):
            corners.append(None)
            continue
        placed = np.append(placed, spots[best : best + 1], 0)
        corners.append((int(spots[best, 0]), int(spots[best, 1])))
    return corners


def candidates(box: np.ndarray, size: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Returns candidate rectangles xyxy [14, 4] for a caption, best first: above, below, beside and inside its box;
    moves them into the image."""
    left, top, right, bottom = np.floor(box)
    w, h = size
    corners = [
        *((x, y) for y in (top - h, bottom) for x in (left, right - w, (left + right - w) // 2)),
        *((x, y) for x in (right, left - w) for y in (top, bottom - h)),
        *((x, y) for y in (top, bottom - h) for x in (left, right - w)),
    ]
    inside = np.minimum(np.array(corners), limits - size).clip(0)
    return np.concatenate([inside, inside + size], 1)


def intersections(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Computes the intersection areas [n, m] of boxes [n, 4] and [m, 4]."""
    across, down = (
        np.minimum(first[:, None, k + 2], second[:, k + 2]) - np.maximum(first[:, None, k], second[:, k])
        for k in (0, 1)
    )
    overlap: np.ndarray = across.clip(0) * down.clip(0)
    return overlap


def areas(boxes: np.ndarray) -> np.ndarray:
    area: np.ndarray = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return area
