"""Kalman filters with constant velocity for boxes, all objects at once.

The noise of the center's x and y, the width and the height is independent, so that each of the four has a filter of two
states, its value and its velocity. States are float64 [n, 5, 4]: values, velocities, variances of the values,
covariances, variances of the velocities.
"""

import numpy as np

POSITION, VELOCITY = 1 / 20, 1 / 160  # standard deviations per frame, as shares of the box's width and height


def start(boxes: np.ndarray) -> np.ndarray:
    """Returns the states of boxes xyxy [n, 4] that are seen for the first time: [n, 5, 4]."""
    values = centered(boxes)
    sides = scale(values)
    none = np.zeros_like(values)
    return np.stack([values, none, (2 * POSITION * sides) ** 2, none, (10 * VELOCITY * sides) ** 2], 1)


def predict(states: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """Returns the states in the next frame. Objects that are `lost`, bool [n], in this frame keep their size."""
    values, velocities, variances, covariances, of_velocities = states.swapaxes(0, 1)
    velocities = np.where(lost[:, None] & (np.arange(4) >= 2), 0, velocities)
    values = values + velocities
    sides = scale(values)
    variances = variances + 2 * covariances + of_velocities + (POSITION * sides) ** 2
    covariances = covariances + of_velocities
    return np.stack([values, velocities, variances, covariances, of_velocities + (VELOCITY * sides) ** 2], 1)


def update(states: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Returns the states after a detection of each box xyxy [n, 4]."""
    values, velocities, variances, covariances, of_velocities = states.swapaxes(0, 1)
    total = variances + (POSITION * scale(values)) ** 2
    gain, of_velocity = variances / total, covariances / total
    difference = centered(boxes) - values
    return np.stack(
        [
            values + gain * difference,
            velocities + of_velocity * difference,
            (1 - gain) * variances,
            (1 - gain) * covariances,
            of_velocities - of_velocity * covariances,
        ],
        1,
    )


def boxes_of(states: np.ndarray) -> np.ndarray:
    """Returns the boxes xyxy [n, 4] of states."""
    centers, halves = states[:, 0, :2], states[:, 0, 2:].clip(0) / 2
    return np.concatenate([centers - halves, centers + halves], 1)


def centered(boxes: np.ndarray) -> np.ndarray:
    """Converts xyxy [n, 4] to centers, widths and heights, float64 [n, 4]."""
    low, high = boxes[:, :2].astype(float), boxes[:, 2:].astype(float)
    return np.concatenate([(low + high) / 2, high - low], 1)


def scale(values: np.ndarray) -> np.ndarray:
    """Returns width, height, width and height, which scale the noise of values [n, 4]."""
    return np.tile(values[:, 2:].clip(1), 2)
