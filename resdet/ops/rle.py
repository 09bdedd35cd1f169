"""COCO's run-length encoding of masks: column-major runs, starting with background.

Encodes masks from a window of the image, without pycocotools, using the few positions where neighboring pixels in a
column differ.
"""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

BITS, MORE, ZERO = 5, 32, 48  # for the characters of compressed counts


class RLE(TypedDict):
    """A mask in COCO's compressed format, with JSON types."""

    size: list[int]  # height and width of the image
    counts: str


def encode(masks: Tensor, size: tuple[int, int], left: int = 0, top: int = 0) -> list[RLE]:
    """Encodes masks [n, h, w] bool, placed at (left, top) in an otherwise empty image of `size` (height, width)."""
    height, width = size
    outside = masks.new_zeros(len(masks), 1, masks.shape[2])
    padded = torch.cat([outside, masks, outside], 1)
    differs = padded[:, 1:] != padded[:, :-1]
    number, y, x = np.unravel_index(_nonzero(differs), differs.shape)
    stride = height * width + 1  # one more than the number of pixels, for a run that ends with the image
    changes = np.sort(number * stride + (x + left) * height + y + top)
    # Merges a run at the end of a column with one at the start of the next column.
    same = np.diff(changes, prepend=-1, append=-1) == 0
    changes = changes[~(same[1:] | same[:-1])]
    starts = np.arange(len(masks)) * stride
    parts = np.split(changes, np.searchsorted(changes, starts[1:]))
    runs = [np.diff(part - start, prepend=0, append=height * width) for part, start in zip(parts, starts)]
    return [{"size": [height, width], "counts": compress(mask_runs)} for mask_runs in runs]


def _nonzero(mask: Tensor) -> np.ndarray:
    """Returns indices int64 [k] of true pixels in the flattened mask; on CPUs by NumPy, several times faster than
    torch."""
    flat = mask.flatten()
    return np.flatnonzero(flat.numpy()) if flat.device.type == "cpu" else flat.nonzero()[:, 0].cpu().numpy()


def decode(rle: RLE | dict) -> np.ndarray:
    """Decodes a mask, bool [H, W]."""
    from pycocotools import mask

    return mask.decode(rle).view(bool)


class Decoded(Sequence[np.ndarray]):
    """Sequence of masks bool [H, W], each decoded on access."""

    def __init__(self, rles: Sequence[RLE | dict]):
        self.rles = rles

    def __len__(self) -> int:
        return len(self.rles)

    def __getitem__(self, i: int) -> np.ndarray:  # type: ignore[override]  # no slices
        return decode(self.rles[i])


def compress(runs: np.ndarray) -> str:
    """Encodes run lengths int64 [k] as COCO's text: five bits per character; from the fourth number on, the difference
    to the number two places before."""
    numbers = runs if runs[-1] or len(runs) == 1 else runs[:-1]
    numbers = np.concatenate([numbers[:3], numbers[3:] - numbers[1:-2]])
    longest = 1
    while (numbers >= 1 << BITS * longest - 1).any() or (numbers < -1 << BITS * longest - 1).any():
        longest += 1
    shifts = BITS * np.arange(longest)
    rest = numbers[:, None] >> shifts
    # A character is the last one if only the sign remains after it.
    more = (rest < -MORE // 2) | (rest >= MORE // 2)
    written = np.concatenate([np.ones((len(numbers), 1), bool), more[:, :-1]], 1)
    return ((rest & MORE - 1) + MORE * more + ZERO)[written].astype(np.uint8).tobytes().decode("ascii")
