"""Buckets: the few shapes to which batches are padded."""

import numpy as np

Shape = tuple[int, int]  # height, width
ASPECT_RATIOS = (1, 7 / 6, 4 / 3, 3 / 2, 16 / 9, 7 / 3, 3, 4, 6)  # those of photographs, and intermediate ones


def buckets(short: int, long: int, divisor: int = 32) -> list[Shape]:
    """Returns shapes for images with a short side up to `short` and a long side up to `long`.

    Ordered from the tallest to the widest; all sides are multiples of `divisor`.
    """
    sides = sorted({_round_up(min(short * ratio, long), divisor) for ratio in (*ASPECT_RATIOS, long / short)})
    return in_both_orientations(sides)


def training_shape(height: int, width: int, shapes: list[Shape]) -> Shape:
    """Returns the smallest shape that contains the given size; a square for batches that mix portrait and landscape."""
    sides = {side for shape in shapes for side in shape}
    return smallest(height, width, shapes) or min((side, side) for side in sides if side >= max(height, width))


def inference_shapes(short: int, long: int, divisor: int = 32) -> list[Shape]:
    """Returns at most seven shapes for photographs in both orientations: 1:1, 4:3, 3:2, up to 16:9 or the long side."""
    longest = min(short * 16 / 9, long)
    sides = sorted(
        {_round_up(side, divisor) for side in (short, short * 4 / 3, short * 3 / 2, longest) if side <= longest}
    )
    return in_both_orientations(sides)


def inference_shape(height: int, width: int, shapes: list[Shape], divisor: int) -> Shape:
    """Returns the smallest of the shapes that contains the given size, or else the next multiples of `divisor`."""
    return smallest(height, width, shapes) or rounded_up(height, width, divisor)


def in_both_orientations(sides: list[int]) -> list[Shape]:
    """Returns portrait and landscape shapes of the first side with each of the ascending sides, tallest first."""
    return [(side, sides[0]) for side in reversed(sides)] + [(sides[0], side) for side in sides[1:]]


def smallest(height: int, width: int, shapes: list[Shape]) -> Shape | None:
    """Returns the smallest of the shapes that contains the given size; None if none does."""
    fits = [shape for shape in shapes if shape[0] >= height and shape[1] >= width]
    return min(fits, key=lambda shape: shape[0] * shape[1], default=None)


def rounded_up(height: int, width: int, divisor: int) -> Shape:
    """Rounds up to multiples of `divisor`, the usual padding in other libraries."""
    return _round_up(height, divisor), _round_up(width, divisor)


def group_of(sizes: np.ndarray, short: int, long: int, shapes: list[Shape]) -> np.ndarray:
    """Returns the index of the smallest shape for each resized image, int64 [N]; `sizes` [N, 2]: width, height."""
    sizes = np.asarray(sizes, np.float64)
    scale = np.minimum(short / sizes.min(1), long / sizes.max(1))
    resized = np.rint(sizes * scale[:, None])
    heights, widths = np.array(shapes).T
    fits = (resized[:, 1:] <= heights) & (resized[:, :1] <= widths)
    return np.where(fits, heights * widths, np.inf).argmin(1)


def _round_up(side: float, divisor: int) -> int:
    return -(-round(side) // divisor) * divisor
