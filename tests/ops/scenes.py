"""Random inputs for the tests of the operators: ordinary and degenerate boxes, maps and candidates."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from resdet.ops.masks import Part

NOWHERE = [[30, 30, 30, 30], [10, 10, 10, 50], [-90, -90, -60, -70], [900, 20, 950, 60], [-40, -40, 200, 200]]
SCALES = [1 / 4, 1 / 8, 1 / 16]
SIDES = [(32, 40), (16, 20), (8, 10)]  # of the maps of a 128 × 160 image


def random_boxes(*shape: int, extent: float = 120) -> Tensor:
    """Returns boxes [*shape, 4] of all sizes; some extend beyond a 128 × 160 image."""
    corner = torch.rand(*shape, 2) * extent - 10
    return torch.cat([corner, corner + 1 + torch.rand(*shape, 2) ** 2 * extent], -1)


def with_degenerate(boxes: Tensor) -> Tensor:
    """Replaces some boxes of the first image by boxes without area, outside the image and larger than it."""
    boxes = boxes.clone()
    boxes[0, : len(NOWHERE)] = torch.tensor(NOWHERE, dtype=boxes.dtype)
    return boxes


def candidates(count: int, images: int = 2, groups: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns the arguments of `nms`: boxes, scores with many ties, groups, valid."""
    boxes = random_boxes(images, count)
    if count > len(NOWHERE):
        boxes = with_degenerate(boxes)
    scores = torch.rand(images, count).mul(50).round().div(50)
    return boxes, scores, torch.randint(0, groups, (images, count)), torch.rand(images, count) < 0.8


def pyramid(channels: int = 6, images: int = 2, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Returns maps of three levels, channels_last."""
    maps = [torch.randn(images, channels, *sides, dtype=dtype) for sides in SIDES]
    return [each.contiguous(memory_format=torch.channels_last) for each in maps]


def regions(count: int = 9, images: int = 2) -> tuple[Tensor, Tensor]:
    """Returns boxes, some of them degenerate, and a random level for each."""
    return with_degenerate(random_boxes(images, count)), torch.randint(0, len(SIDES), (images, count))


def assembled(paste: Callable[..., Iterator[Part]]) -> Callable[..., Tensor]:
    """Wraps a paste function to return whole images, bool [n, height, width] on the CPU."""

    def draw(masks: Tensor, boxes: Tensor, height: int, width: int, **options: Any) -> Tensor:
        images, done = torch.zeros(len(masks), height, width, dtype=torch.bool), 0
        for part, left, top in paste(masks, boxes, height, width, **options):
            count, h, w = part.shape
            images[done : done + count, top : top + h, left : left + w] = part.cpu()
            done += count
        return images

    return draw
