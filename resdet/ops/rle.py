"""Run-length encoding of masks as COCO has it: runs down the columns, the first one outside of the object.

Masks are encoded from the part of the image where they lie, without pycocotools: a run begins or ends where two pixels
of a column differ, and the positions of these changes are few.
"""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

BITS, MORE, ZERO = 5, 32, 48  # of the characters of compressed counts


class RLE(TypedDict):
    """A mask in COCO's compressed form, of plain types that JSON takes."""

    size: list[int]  # height and width of the image
    counts: str


def encode(masks: Tensor, size: tuple[int, int], left: int = 0, top: int = 0) -> list[RLE]:
    """Masks [n, h, w] bool at (left, top) in images of `size` (height, width), which are empty elsewhere."""
    height, width = size
    outside = masks.new_zeros(len(masks), 1, masks.shape[2])
    padded = torch.cat([outside, masks, outside], 1)
    differs = padded[:, 1:] != padded[:, :-1]
    number, y, x = np.unravel_index(_nonzero(differs), differs.shape)
    stride = height * width + 1  # one place more than pixels, for a run that ends with the image
    changes = np.sort(number * stride + (x + left) * height + y + top)
    # A run that ends with a column while the next column begins with another is one run.
    same = np.diff(changes, prepend=-1, append=-1) == 0
    changes = changes[~(same[1:] | same[:-1])]
    starts = np.arange(len(masks)) * stride
    parts = np.split(changes, np.searchsorted(changes, starts[1:]))
    runs = [np.diff(part - start, prepend=0, append=height * width) for part, start in zip(parts, starts)]
    return [{"size": [height, width], "counts": compress(of_mask)} for of_mask in runs]


def _nonzero(mask: Tensor) -> np.ndarray:
    """Where the flattened mask is true, int64 [k]; NumPy is several times as fast as torch on a CPU."""
    flat = mask.flatten()
    return np.flatnonzero(flat.numpy()) if flat.device.type == "cpu" else flat.nonzero()[:, 0].cpu().numpy()


def decode(rle: RLE) -> np.ndarray:
    """bool [H, W]"""
    from pycocotools import mask

    return mask.decode(rle).view(bool)


class Decoded(Sequence):
    """Masks bool [H, W] that are decoded one at a time, each when it is asked for."""

    def __init__(self, rles: Sequence[RLE]):
        self.rles = rles

    def __len__(self) -> int:
        return len(self.rles)

    def __getitem__(self, i: int) -> np.ndarray:
        return decode(self.rles[i])


def compress(runs: np.ndarray) -> str:
    """Run lengths int64 [k] as COCO's text: five bits a character, numbers from the fourth on as a difference from
    the one before the last."""
    numbers = runs if runs[-1] or len(runs) == 1 else runs[:-1]
    numbers = np.concatenate([numbers[:3], numbers[3:] - numbers[1:-2]])
    longest = 1
    while (numbers >= 1 << BITS * longest - 1).any() or (numbers < -1 << BITS * longest - 1).any():
        longest += 1
    shifts = BITS * np.arange(longest)
    rest = numbers[:, None] >> shifts
    # A character is the last one where what it leaves is nothing but the sign.
    more = (rest < -MORE // 2) | (rest >= MORE // 2)
    written = np.concatenate([np.ones((len(numbers), 1), bool), more[:, :-1]], 1)
    return ((rest & MORE - 1) + MORE * more + ZERO)[written].astype(np.uint8).tobytes().decode("ascii")
