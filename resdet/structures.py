"""Tensor records passed between modules, with static shapes.

Padding is masked, never removed. Boxes are xyxy in pixels of the padded image, right and bottom exclusive.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Images(NamedTuple):
    """A batch of images, padded on the right and at the bottom."""

    pixels: Tensor  #: [B, 3, H, W] uint8 or float with values 0 to 255, RGB
    sizes: Tensor  #: [B, 2] float32: height and width without padding


class Targets(NamedTuple):
    """The objects of each image, padding last."""

    boxes: Tensor  #: [B, G, 4] float32
    labels: Tensor  #: [B, G] int64, 0 to C - 1
    valid: Tensor  #: [B, G] bool: False for padding
    crowd: Tensor  #: [B, G] bool: ignored in training (COCO's crowds, VOC's difficult objects)
    masks: Tensor | None = None  #: [B, G, m, m] uint8, 0 to 255: the mask of each object within its box, resized
    #: [B, G, K, 3] float32: x, y and visibility of each keypoint; 0: not labeled, 1: hidden, 2: visible
    keypoints: Tensor | None = None


class Proposals(NamedTuple):
    """Proposals of each image, by descending score."""

    boxes: Tensor  #: [B, N, 4] float32
    scores: Tensor  #: [B, N] float32, logits
    valid: Tensor  #: [B, N] bool


class Detections(NamedTuple):
    """Detections of each image, by descending score."""

    boxes: Tensor  #: [B, D, 4] float32
    scores: Tensor  #: [B, D] float32, 0 to 1
    labels: Tensor  #: [B, D] int64
    valid: Tensor  #: [B, D] bool


class RegionTargets(NamedTuple):
    """Targets of warped regions (appendix C)."""

    boxes: Tensor  # [R, 4] float32: the regions
    objects: Tensor  # [R, 4] float32: the object with the largest IoU
    labels: Tensor  # [R] int64: its class; -1: ignored
    positive: Tensor  # [R] bool: whether its IoU is high enough


class Batch(NamedTuple):
    """A batch with its targets."""

    images: Tensor | Images  # classifiers: [B, 3, H, W] uint8, RGB; float if mixed
    targets: Tensor | Targets  # classifiers: labels [B], -1: ignored; [B, C] float if mixed
    indices: Tensor  # [B] int64 on the CPU: indices into the data set

    def parts(self, count: int) -> list["Batch"]:
        """Splits the batch into `count` micro-batches, whose sizes differ by at most one image."""
        shares = [share(len(self.indices), number, count) for number in range(count)]
        return [each(self, lambda field: field[part.start : part.stop]) for part in shares]

    def to(self, device: torch.device) -> "Batch":
        """Moves images and targets to the device; copies from pinned memory are asynchronous."""
        move = lambda field: field.to(device, non_blocking=True)
        return Batch(each(self.images, move), each(self.targets, move), self.indices)


def share(count: int, number: int, shares: int) -> range:
    """Returns part `number` of `count` items in `shares` consecutive parts, whose sizes differ by at most one."""
    return range(number * count // shares, (number + 1) * count // shares)


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """Copies the tensor to the device; copies to a GPU are asynchronous, through pinned memory."""
    pinned = tensor.pin_memory() if device.type == "cuda" and tensor.device.type == "cpu" else tensor
    return pinned.to(device, non_blocking=True)


BUCKETS = (8, 16, 32, 64)


def bucket(count: int, most: int) -> int:
    """Rounds `count` up to one of a few sizes, at most `most`."""
    return next((size for size in BUCKETS if count <= size < most), most)


def each(record: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Applies a function to all tensors of a record, including nested records; None stays None."""
    if isinstance(record, Tensor):
        return function(record)
    return None if record is None else type(record)(*(each(field, function) for field in record))


def tensors_of(record: Any) -> list[Tensor]:
    """Returns the tensors of a nested record, in order."""
    tensors: list[Tensor] = []

    def collect(tensor: Tensor) -> Tensor:
        tensors.append(tensor)
        return tensor

    each(record, collect)
    return tensors
