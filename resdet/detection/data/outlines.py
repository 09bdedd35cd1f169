"""Polygons of a mask."""

import numpy as np


def polygons_of(mask: np.ndarray, x: int = 0, y: int = 0) -> tuple[list[list[float]], bool]:
    """Returns polygons x1, y1, x2, y2 … along the outer pixel edges of a mask [H, W] with its corner at (x, y), and
    whether the mask has holes, which the polygons ignore.

    OpenCV's contours run through the centers of border pixels. Contours of the mask at twice its size map to pixel
    edges: pixel i becomes 2i and 2i + 1, which are nearest to its edges i and i + 1.
    """
    import cv2

    doubled = mask.astype(np.uint8).repeat(2, 0).repeat(2, 1)
    contours, hierarchy = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    outer = [hierarchy[0, k, 3] < 0 for k in range(len(contours))]
    # Removing corners of at most half a pixel does not change the enclosed pixels.
    edges = [cv2.approxPolyDP((contour + 1) // 2, 0.5, True) for contour, is_outer in zip(contours, outer) if is_outer]
    return [(edge.reshape(-1, 2) + (x, y)).ravel().tolist() for edge in edges], not all(outer)
