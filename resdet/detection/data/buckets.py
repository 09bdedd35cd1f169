"""The few shapes that batches are padded to, and which of them a picture is for."""

import numpy as np

Shape = tuple[int, int]  # height, width
PROPORTIONS = (1, 7 / 6, 4 / 3, 3 / 2, 16 / 9, 7 / 3, 3, 4, 6)  # of photographs; and where those are far apart, between


def buckets(short: int, long: int, divisor: int = 32) -> list[Shape]:
    """Shapes for pictures whose short side is at most `short` and whose long side is at most `long`.

    From the tallest over the square to the widest; all sides are multiples of `divisor`.
    """
    sides = sorted({_up(min(short * proportion, long), divisor) for proportion in (*PROPORTIONS, long / short)})
    return [(side, sides[0]) for side in reversed(sides)] + [(sides[0], side) for side in sides[1:]]


def smallest_fit(height: int, width: int, shapes: list[Shape]) -> Shape:
    """The shape of least area that holds so many pixels; a square where upright and wide pictures share a batch."""
    sides = {side for shape in shapes for side in shape}
    fits = [shape for shape in shapes if shape[0] >= height and shape[1] >= width]
    squares = [(side, side) for side in sides if side >= max(height, width)]
    return min(fits or squares, key=lambda shape: shape[0] * shape[1])


def rounded_up(height: int, width: int, divisor: int) -> Shape:
    """The shape of the least multiples of `divisor`, as most libraries pad their batches."""
    return _up(height, divisor), _up(width, divisor)


def group_of(sizes: np.ndarray, short: int, long: int, shapes: list[Shape]) -> np.ndarray:
    """Which shape each picture, of `sizes` [N, 2] (width, height), fits best once it is resized: int64 [N]."""
    sizes = np.asarray(sizes, np.float64)
    scale = np.minimum(short / sizes.min(1), long / sizes.max(1))
    resized = np.rint(sizes * scale[:, None])
    heights, widths = np.array(shapes).T
    holds = (resized[:, 1:] <= heights) & (resized[:, :1] <= widths)
    return np.where(holds, heights * widths, np.inf).argmin(1)


def _up(side: float, divisor: int) -> int:
    return -(-round(side) // divisor) * divisor
