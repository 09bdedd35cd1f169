"""RoIAlign and NMS against torchvision's, on inputs that change between calls."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from typing import Any, NamedTuple

import torch
from torch import Tensor

from resdet.bench.gpu_stages.stage import Call, Stage
from resdet.bench.ops import HEIGHT, STRIDES, WIDTH, clustered_boxes, random_boxes
from resdet.ops.nms import nms
from resdet.ops.roi_align import assign_levels, roi_align

SCALES = [1 / stride for stride in STRIDES]
POOLERS = ((7, 512), (14, 128))  # bins per side, RoIs per image
WARPS = (1, 2, 4)  # numbers of warps to compare
INPUTS = 2  # number of input sets, used in turn
LEVELS, CANDIDATES, KEPT, IOU = 5, 2000, 2000, 0.7


def run(stage: Stage) -> None:
    """Times the kernels; other numbers of warps come last, since each compiles a kernel."""
    suppress(stage)
    for dtype in (torch.float32, torch.bfloat16):
        maps = [pyramids(stage, dtype) for _ in range(INPUTS)]
        scenes = [Scene.make(stage, maps, *pooler) for pooler in POOLERS]
        for scene in scenes:
            align(stage, scene, "", torchvision=dtype == torch.float32)  # torchvision's kernel lacks bfloat16
        del maps, scene
        stage.free()
    for scene in scenes if stage.cuda else ():
        for warps in WARPS:
            with kernel_warps(warps):
                align(stage, scene, f", {warps}")


def pyramids(stage: Stage, dtype: torch.dtype) -> list[Tensor]:
    """Returns random maps of four levels, channels_last, that require gradients."""
    batch, channels, scale = (2, 16, 8) if stage.tiny else (16, 256, 1)
    shapes = [(batch, channels, HEIGHT // stride // scale, WIDTH // stride // scale) for stride in STRIDES]
    maps = (torch.randn(shape, device=stage.device, dtype=dtype) for shape in shapes)
    return [level.contiguous(memory_format=torch.channels_last).requires_grad_() for level in maps]


class Scene(NamedTuple):
    """Sets of maps and RoIs for one pooler."""

    name: str
    maps: list[list[Tensor]]
    boxes: list[Tensor]
    bins: int

    @classmethod
    def make(cls, stage: Stage, maps: list[list[Tensor]], bins: int, rois: int) -> "Scene":
        batch, rois = len(maps[0][0]), 8 if stage.tiny else rois
        boxes = [regions(stage, batch, rois, seed) for seed in range(INPUTS)]
        return cls(f"roi_align {bins}×{bins}, {batch}×{rois} RoIs, {str(maps[0][0].dtype)[6:]}", maps, boxes, bins)


def align(stage: Stage, scene: Scene, label: str, torchvision: bool = False) -> None:
    sides = {label: Alignment, ", torchvision": TorchvisionAlignment} if torchvision else {label: Alignment}
    for side, kind in sides.items():
        calls = [kind(maps, boxes, scene.bins) for maps, boxes in zip(scene.maps, scene.boxes)]
        stage.kernel(f"{scene.name}, forward{side}", in_turn([one.forward for one in calls]))
        stage.attempt(f"{scene.name}, backward{side}", lambda: backward_time(stage, calls))


def backward_time(stage: Stage, alignments: list[Any]) -> dict[str, Any]:
    return stage.kernel_time(in_turn([one.backward() for one in alignments]))


def regions(stage: Stage, batch: int, count: int, seed: int) -> Tensor:
    """Returns boxes [batch, count, 4]: half are small, half up to twice as large."""
    rng = torch.Generator().manual_seed(seed)
    boxes = random_boxes(batch * count, rng).view(batch, count, 4)
    boxes[:, count // 2 :] *= 1.5
    return boxes.to(stage.device)


class Alignment:
    """resdet's RoIAlign of all levels."""

    def __init__(self, maps: list[Tensor], boxes: Tensor, bins: int):
        self.maps, self.boxes, self.bins = maps, boxes, bins
        self.levels = assign_levels(boxes, len(maps))

    def pooled(self) -> Tensor:
        return roi_align(self.maps, self.boxes, self.levels, SCALES, self.bins, 2, False)

    @torch.no_grad()
    def forward(self) -> Tensor:
        return self.pooled()

    def backward(self) -> Call:
        out = self.pooled()
        grad = torch.randn_like(out)
        return lambda: torch.autograd.grad(out, self.maps, grad, retain_graph=True)


class TorchvisionAlignment(Alignment):
    """torchvision's kernel, called once per level; the RoIs of each level are found beforehand."""

    def __init__(self, maps: list[Tensor], boxes: Tensor, bins: int):
        super().__init__(maps, boxes, bins)
        images = torch.arange(len(boxes), device=boxes.device).repeat_interleave(boxes.shape[1])
        rois, levels = torch.cat([images[:, None], boxes.flatten(0, 1)], 1), self.levels.flatten()
        self.rois = [rois[levels == level] for level in range(len(maps))]

    def pooled(self) -> Tensor:
        from torchvision.ops import roi_align as torchvision_align

        parts = zip(self.maps, self.rois, SCALES)
        return torch.cat([torchvision_align(level, rois, self.bins, scale, 2) for level, rois, scale in parts])


def in_turn(calls: list[Call]) -> Call:
    turns = cycle(calls)
    return lambda: next(turns)()


@contextmanager
def kernel_warps(count: int) -> Iterator[None]:
    """Context that sets the number of warps per program of resdet's RoIAlign kernel."""
    from resdet.ops.kernels import roi_align as kernels

    before, kernels.WARPS = kernels.WARPS, count
    try:
        yield
    finally:
        kernels.WARPS = before


def suppress(stage: Stage) -> None:
    """Times NMS within the levels of an RPN: all levels in one call, and one row per level."""
    batch, count = (2, 50) if stage.tiny else (16, CANDIDATES)
    scenes = [candidates(stage, batch, count, seed) for seed in range(INPUTS)]
    name = f"nms {batch}×{LEVELS}×{count} boxes, {{}}".format
    stage.kernel(name("joined"), in_turn([joined(*scene) for scene in scenes]))
    stage.kernel(name("a row for each level"), in_turn([by_level(*scene) for scene in scenes]))
    stage.kernel(name("torchvision's batched_nms"), in_turn([torchvision_nms(*scene) for scene in scenes]))


def candidates(stage: Stage, batch: int, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Returns boxes [batch, LEVELS, count, 4] and their scores."""
    rng = torch.Generator().manual_seed(seed)
    boxes = torch.stack([clustered_boxes(count, rng) for _ in range(batch * LEVELS)])
    shape = (batch, LEVELS, count)
    return boxes.view(*shape, 4).to(stage.device), torch.rand(shape, generator=rng).to(stage.device)


def joined(boxes: Tensor, scores: Tensor) -> Callable[[], Any]:
    groups = torch.arange(LEVELS, device=boxes.device)[:, None].expand_as(scores).flatten(1)
    given = boxes.flatten(1, 2), scores.flatten(1), groups.contiguous(), torch.ones_like(groups, dtype=torch.bool)
    return lambda: nms(*given, IOU, KEPT)


def by_level(boxes: Tensor, scores: Tensor) -> Callable[[], Any]:
    rows = scores.flatten(0, 1)
    given = (
        boxes.flatten(0, 1),
        rows,
        torch.zeros_like(rows, dtype=torch.int64),
        torch.ones_like(rows, dtype=torch.bool),
    )
    return lambda: nms(*given, IOU, KEPT)


def torchvision_nms(boxes: Tensor, scores: Tensor) -> Callable[[], Any]:
    from torchvision.ops import batched_nms

    levels = torch.arange(LEVELS, device=boxes.device)[:, None].expand_as(scores).flatten(1)
    images = list(zip(boxes.flatten(1, 2), scores.flatten(1), levels))
    return lambda: [batched_nms(*image, IOU)[:KEPT] for image in images]
