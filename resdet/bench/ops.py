"""The custom operations of detectors: NMS and RoIAlign."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from resdet.ops.nms import nms
from resdet.ops.roi_align import assign_levels, roi_align
from resdet.timing import Case, Side

BOXES, REGIONS, CLASSES = 10_000, 1_000, 80
HEIGHT, WIDTH, CHANNELS, SIZE, SAMPLING = 800, 1344, 256, 7, 2
STRIDES = (4, 8, 16, 32)


def cases(boxes: int = BOXES, regions: int = REGIONS, channels: int = CHANNELS, device: str = "cpu") -> Iterator[Case]:
    yield from suppression(boxes, device)
    yield from alignment(regions, channels, device)


def suppression(count: int, device: str) -> Iterator[Case]:
    """Yields cases of NMS at an IoU of 0.5, over all boxes and per class."""
    from torchvision.ops import batched_nms
    from torchvision.ops import nms as torchvision_nms

    rng = torch.Generator().manual_seed(0)
    scores = torch.rand(count, generator=rng).to(device)
    spread, clustered = random_boxes(count, rng).to(device), clustered_boxes(count, rng).to(device)
    labels = torch.randint(CLASSES, (count,), generator=rng).to(device)
    one, valid = torch.zeros_like(labels), torch.ones(1, count, dtype=torch.bool, device=device)
    resdet = lambda boxes, groups: nms(boxes[None], scores[None], groups[None], valid, 0.5, count)
    for name, boxes in (("random", spread), ("clustered", clustered)):
        sides: dict[str, Side] = {
            "torchvision": partial(torchvision_nms, boxes, scores, 0.5),
            "resdet": partial(resdet, boxes, one),
        }
        yield Case(f"nms of {count} boxes, {name}", count, sides, unit="ms")
    sides = {
        "torchvision": partial(batched_nms, clustered, scores, labels, 0.5),
        "resdet": partial(resdet, clustered, labels),
    }
    yield Case(f"nms of {count} boxes, clustered, of {CLASSES} classes", count, sides, unit="ms")


def random_boxes(count: int, rng: torch.Generator) -> Tensor:
    """Returns boxes [count, 4] with sides of 16 to 300 pixels, anywhere in the image."""
    limits = torch.tensor([WIDTH, HEIGHT])
    sides = 16 + 284 * torch.rand(count, 2, generator=rng)
    corners = torch.rand(count, 2, generator=rng) * (limits - sides)
    return torch.cat([corners, corners + sides], 1)


def clustered_boxes(count: int, rng: torch.Generator) -> Tensor:
    """Returns boxes [count, 4] clustered around count / 50 centers, like proposals around objects."""
    centers = random_boxes(max(1, count // 50), rng)
    boxes = centers[torch.randint(len(centers), (count,), generator=rng)]
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    return boxes + 0.1 * sides * torch.randn(count, 4, generator=rng)


def alignment(count: int, channels: int, device: str) -> Iterator[Case]:
    """Yields cases of RoIAlign of one image on the four levels of a pyramid, with sampling ratio 2."""
    rng = torch.Generator().manual_seed(0)
    shapes = [(HEIGHT // stride, WIDTH // stride) for stride in STRIDES]
    maps = [torch.randn(1, channels, *shape, generator=rng).to(device) for shape in shapes]
    boxes = torch.cat([random_boxes(count // 2, rng), 3 * random_boxes(count - count // 2, rng) / 2]).to(device)
    sizes = f"roi_align of {count} RoIs, {channels}×{SIZE}×{SIZE}"
    for dtype, name in ((torch.float32, "fp32"), (torch.bfloat16, "bf16")):
        contiguous = [level.to(dtype).requires_grad_() for level in maps]
        channels_last = [
            level.detach().contiguous(memory_format=torch.channels_last).requires_grad_() for level in contiguous
        ]
        peer, resdet = torchvision_align(contiguous, boxes), resdet_align(channels_last, boxes)
        sides: dict[str, Side] = {"torchvision": without_gradient(peer), "resdet": without_gradient(resdet)}
        yield Case(f"{sizes}, {name}", count, sides, unit="ms")
        sides = {"torchvision": with_gradient(peer, contiguous), "resdet": with_gradient(resdet, channels_last)}
        yield Case(f"{sizes}, {name}, forward and backward", count, sides, unit="ms")


def torchvision_align(maps: list[Tensor], boxes: Tensor) -> Callable[[], Tensor]:
    """Returns torchvision's RoIAlign, which runs in float32 under autocast, since its kernel lacks bfloat16."""
    from torchvision.ops import MultiScaleRoIAlign

    names = [str(level) for level in range(len(maps))]
    pool = MultiScaleRoIAlign(names, SIZE, SAMPLING)

    def run() -> Tensor:
        with torch.autocast(boxes.device.type, torch.bfloat16, enabled=maps[0].dtype == torch.bfloat16):
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


def with_gradient(align: Callable[[], Tensor], maps: list[Tensor]) -> Callable[[], tuple[Tensor, ...]]:
    """Adds the backward pass, from a gradient of ones in the memory format of the output."""
    gradient = torch.ones_like(align())

    def run() -> tuple[Tensor, ...]:
        return torch.autograd.grad(align(), maps, gradient)

    return run
