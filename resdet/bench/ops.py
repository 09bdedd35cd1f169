"""The two operations of detectors that no convolution library has: suppression of duplicates, and RoIAlign."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from resdet.ops.nms import nms
from resdet.ops.roi_align import assign_levels, roi_align
from resdet.timing import Case

BOXES, REGIONS, CLASSES = 10_000, 1_000, 80
HEIGHT, WIDTH, CHANNELS, SIZE, SAMPLING = 800, 1344, 256, 7, 2
STRIDES = (4, 8, 16, 32)


def cases(boxes: int = BOXES, regions: int = REGIONS, channels: int = CHANNELS) -> Iterator[Case]:
    yield from suppression(boxes)
    yield from alignment(regions, channels)


def suppression(count: int) -> Iterator[Case]:
    """At an IoU of 0.5, of all boxes together and within classes."""
    from torchvision.ops import batched_nms
    from torchvision.ops import nms as their_nms

    draw = torch.Generator().manual_seed(0)
    scores = torch.rand(count, generator=draw)
    spread, clustered = random_boxes(count, draw), clustered_boxes(count, draw)
    labels = torch.randint(CLASSES, (count,), generator=draw)
    one, valid = torch.zeros_like(labels), torch.ones(1, count, dtype=torch.bool)
    ours = lambda boxes, groups: nms(boxes[None], scores[None], groups[None], valid, 0.5, count)
    for name, boxes in (("random", spread), ("clustered", clustered)):
        sides = {"torchvision": partial(their_nms, boxes, scores, 0.5), "resdet": partial(ours, boxes, one)}
        yield Case(f"nms of {count} boxes, {name}", count, sides, unit="ms")
    sides = {
        "torchvision": partial(batched_nms, clustered, scores, labels, 0.5),
        "resdet": partial(ours, clustered, labels),
    }
    yield Case(f"nms of {count} boxes, clustered, of {CLASSES} classes", count, sides, unit="ms")


def random_boxes(count: int, draw: torch.Generator) -> Tensor:
    """Of 16 to 300 pixels a side, anywhere in the image, [count, 4]."""
    limits = torch.tensor([WIDTH, HEIGHT])
    sides = 16 + 284 * torch.rand(count, 2, generator=draw)
    corners = torch.rand(count, 2, generator=draw) * (limits - sides)
    return torch.cat([corners, corners + sides], 1)


def clustered_boxes(count: int, draw: torch.Generator) -> Tensor:
    """Around a fiftieth as many places, as proposals and detections lie around objects."""
    centers = random_boxes(max(1, count // 50), draw)
    boxes = centers[torch.randint(len(centers), (count,), generator=draw)]
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    return boxes + 0.1 * sides * torch.randn(count, 4, generator=draw)


def alignment(count: int, channels: int) -> Iterator[Case]:
    """Regions of one image from the four levels of a pyramid, with two samples a bin and axis."""
    draw = torch.Generator().manual_seed(0)
    shapes = [(HEIGHT // stride, WIDTH // stride) for stride in STRIDES]
    maps = [torch.randn(1, channels, *shape, generator=draw) for shape in shapes]
    boxes = torch.cat([random_boxes(count // 2, draw), 3 * random_boxes(count - count // 2, draw) / 2])
    sizes = f"roi_align of {count} regions, {channels}×{SIZE}×{SIZE}"
    for dtype, name in ((torch.float32, "fp32"), (torch.bfloat16, "bf16")):
        theirs = [level.to(dtype).requires_grad_() for level in maps]
        ours = [level.detach().contiguous(memory_format=torch.channels_last).requires_grad_() for level in theirs]
        sides = {"torchvision": torchvision_align(theirs, boxes), "resdet": resdet_align(ours, boxes)}
        yield Case(f"{sizes}, {name}", count, {key: without_gradient(side) for key, side in sides.items()}, unit="ms")
        sides = {
            "torchvision": with_gradient(sides["torchvision"], theirs),
            "resdet": with_gradient(sides["resdet"], ours),
        }
        yield Case(f"{sizes}, {name}, forward and backward", count, sides, unit="ms")


def torchvision_align(maps: list[Tensor], boxes: Tensor) -> Callable[[], Tensor]:
    """Its kernels know no bfloat16: under autocast they work in float32, which is how its detectors meet it."""
    from torchvision.ops import MultiScaleRoIAlign

    names = [str(level) for level in range(len(maps))]
    pool = MultiScaleRoIAlign(names, SIZE, SAMPLING)

    def run() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=maps[0].dtype == torch.bfloat16):
            return pool(dict(zip(names, maps)), [boxes], [(HEIGHT, WIDTH)])

    return run


def resdet_align(maps: list[Tensor], boxes: Tensor) -> Callable[[], Tensor]:
    scales = [1 / stride for stride in STRIDES]

    def run() -> Tensor:
        levels = assign_levels(boxes[None], len(maps))
        return roi_align(maps, boxes[None], levels, scales, SIZE, SAMPLING, False).flatten(0, 1)

    return run


def without_gradient(align: Callable[[], Tensor]) -> Callable[[], Tensor]:
    return torch.inference_mode()(align)


def with_gradient(align: Callable[[], Tensor], maps: list[Tensor]) -> Callable[[], Tensor]:
    """Forward, and backward from a gradient of ones laid out as a convolution would give it."""
    gradient = torch.ones_like(align())

    def run() -> tuple[Tensor, ...]:
        return torch.autograd.grad(align(), maps, gradient)

    return run
