"""Records that travel through the house: tensors that belong together, under one name, of shapes known beforehand.

What is padding is marked and never removed. Boxes are xyxy in pixels of the padded image, right and bottom exclusive.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Images(NamedTuple):
    """Images of different sizes in one tensor, each in its upper left corner."""

    pixels: Tensor  # [B, 3, H, W] uint8 or float with values 0 to 255, RGB
    sizes: Tensor  # [B, 2] float32: height and width of what is not padding


class Targets(NamedTuple):
    """The objects of each image, the real ones first."""

    boxes: Tensor  # [B, G, 4] float32
    labels: Tensor  # [B, G] int64, 0 to C - 1
    valid: Tensor  # [B, G] bool, False where it is padding
    crowd: Tensor  # [B, G] bool: neither learned nor punished (COCO's crowds, VOC's difficult objects)
    masks: Tensor | None = None  # [B, G, m, m] uint8, 0 to 255: each object's mask, stretched over its own box


class Proposals(NamedTuple):
    """Where objects may be, by falling score."""

    boxes: Tensor  # [B, N, 4] float32
    scores: Tensor  # [B, N] float32, logits
    valid: Tensor  # [B, N] bool


class Detections(NamedTuple):
    """What was found in each image, by falling score."""

    boxes: Tensor  # [B, D, 4] float32
    scores: Tensor  # [B, D] float32, 0 to 1
    labels: Tensor  # [B, D] int64
    valid: Tensor  # [B, D] bool


class RegionTargets(NamedTuple):
    """What warped regions show, each alone (appendix C)."""

    boxes: Tensor  # [R, 4] float32: the regions themselves
    objects: Tensor  # [R, 4] float32: the object that each overlaps most
    labels: Tensor  # [R] int64: its class, -1 to be left out
    positive: Tensor  # [R] bool: whether it overlaps enough


class Batch(NamedTuple):
    """Images on the device with what is known of them."""

    images: Tensor | Images  # a classifier's are [B, 3, H, W] uint8, RGB; float where images were mixed
    targets: Tensor | Targets  # a classifier's: labels [B], -1 to be left out; [B, C] float where mixed
    indices: Tensor  # [B] int64 on the CPU: which images of the data set these are

    def parts(self, count: int) -> list["Batch"]:
        """The batch in `count` equal parts, for gradient accumulation."""
        size = len(self.indices) // count
        return [each(self, lambda field: field[start : start + size]) for start in range(0, size * count, size)]

    def to(self, device: torch.device) -> "Batch":
        """The same with images and targets on the device; copies from pinned memory are not waited for."""
        move = lambda field: field.to(device, non_blocking=True)
        return Batch(each(self.images, move), each(self.targets, move), self.indices)


BUCKETS = (8, 16, 32, 64)


def bucket(count: int, most: int) -> int:
    """How many places to work on for so many that are taken: few different sizes, up to all of them."""
    return next((size for size in BUCKETS if count <= size < most), most)


def each(record: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """A record of the function's results on its tensors; records may lie in records."""
    if isinstance(record, Tensor):
        return function(record)
    return None if record is None else type(record)(*(each(field, function) for field in record))
