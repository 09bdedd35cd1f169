"""Places of captions: each where it hides the least of the objects and no other caption.

Greedy, as labels of maps are often placed (Christensen, Marks and Shieber, 1995): in the order of the detections, each
caption takes the cheapest of its candidates.
"""

import numpy as np

HIDDEN = 0.25  # a caption that would hide more than this share of another object is left out
DISTANCE = 0.01  # cost of each candidate over the one before it, which decides between equally good ones
OWN = 0.3  # cost of hiding the caption's own object, as a share of that of hiding another one


def place(boxes: np.ndarray, sizes: np.ndarray, height: int, width: int) -> list[tuple[int, int] | None]:
    """The top-left corners (x, y) of captions with these sizes (width, height) [m, 2], which belong to the first m of
    the boxes [n, 4] xyxy, in an image of height x width pixels; None for captions that find no place.

    Captions lie inside the image and never overlap. If the image is smaller than a caption, the caption is cut off.
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
    """Rectangles xyxy [14, 4] of a caption around its box, moved into the image: above, below, beside, inside; the best
    ones first."""
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
    """Areas [n, m] of the intersections of boxes [n, 4] and [m, 4]."""
    across, down = (
        np.minimum(first[:, None, k + 2], second[:, k + 2]) - np.maximum(first[:, None, k], second[:, k])
        for k in (0, 1)
    )
    overlap: np.ndarray = across.clip(0) * down.clip(0)
    return overlap


def areas(boxes: np.ndarray) -> np.ndarray:
    area: np.ndarray = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return area
