"""Tests resdet's operators in onnxruntime against torchvision's kernels and resdet's reference implementations."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from ops.references import roi_align_reference
from torch import Tensor, nn

from resdet.export.onnx import translate
from resdet.ops.nms import nms
from resdet.ops.roi_align import assign_levels, roi_align
from resdet.ops.roi_pool import roi_pool

torchvision = pytest.importorskip("torchvision")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

GROUPS = 3


class Function(nn.Module):
    """Wraps a function as a module, for export."""

    def __init__(self, function: Callable):
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        found = self.function(*inputs)
        return found if isinstance(found, tuple) else (found,)


def in_onnxruntime(function: Callable, *example: Tensor) -> Callable[..., list[Tensor]]:
    """Returns the function as computed by an ONNX file, for inputs of the example's shapes."""
    inputs = [f"in{number}" for number in range(len(example))]
    outputs = [f"out{number}" for number in range(len(Function(function)(*example)))]
    program = translate(torch.export.export(Function(function), example), inputs, outputs, GROUPS)
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    return lambda *given: [
        torch.from_numpy(a) for a in session.run(outputs, {n: x.numpy() for n, x in zip(inputs, given)})
    ]


def boxes_of(count: int, seed: int, side: float = 60.0) -> Tensor:
    """Returns boxes [2, count, 4], many of them overlapping."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(2, count, 2, generator=generator) * side / 2
    return torch.cat([corners, corners + torch.rand(2, count, 2, generator=generator) * side / 2], 2)


def candidates(seed: int, count: int = 40) -> list[Tensor]:
    """Returns boxes, positive and negative scores, groups, and a mask of valid boxes."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(2, count, generator=generator)
    groups = torch.randint(GROUPS, (2, count), generator=generator)
    return [boxes_of(count, seed), scores, groups, torch.rand(2, count, generator=generator) < 0.8]


def suppressed_by_torchvision(boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor) -> list[Tensor]:
    """Returns the kept indices of each image, in descending order of scores."""
    kept = []
    for image in range(len(boxes)):
        members = valid[image].nonzero()[:, 0]
        chosen = torchvision.ops.batched_nms(*(field[image, members] for field in (boxes, scores, groups)), 0.5)
        kept.append(members[chosen])
    return kept


@pytest.mark.parametrize("keep", [10, 60], ids=["fewer than survive", "more than there are"])
def test_nms_matches_torchvision(keep):
    run = in_onnxruntime(lambda *given: nms(*given, 0.5, keep), *candidates(0))
    for seed in range(3):
        given = candidates(seed)
        indices, kept = run(*given)
        assert indices.shape == kept.shape == (2, keep) and indices.dtype == torch.int64
        for image, expected in enumerate(suppressed_by_torchvision(*given)):
            assert indices[image, kept[image]].tolist() == expected[:keep].tolist()
        assert not indices[~kept].any()

    boxes, scores, groups, valid = candidates(5)
    ties = boxes, torch.zeros_like(scores), groups, valid
    for ours, theirs in zip(run(*ties), nms(*ties, 0.5, keep)):
        assert torch.equal(ours, theirs)
    assert not run(boxes, scores, groups, torch.zeros_like(valid))[1].any()


@pytest.mark.parametrize("sampling, aligned", [(2, True), (2, False), (0, True)])
def test_roi_align_on_a_pyramid_matches_the_reference(sampling, aligned):
    """Compares with the reference, also where a level has no regions."""
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, 5, 64 // 2**level, 80 // 2**level, generator=generator) for level in range(3)]
    scales = [1 / 4, 1 / 8, 1 / 16]
    level_of = partial(assign_levels, levels=3, canonical_size=100.0)

    def pool(boxes: Tensor, levels: Tensor, *maps: Tensor) -> Tensor:
        return roi_align(list(maps), boxes, levels, scales, 3, sampling, aligned)

    many = boxes_of(30, 1, 400.0)
    few = many.clamp(max=40)
    run = in_onnxruntime(pool, many, level_of(many), *maps)
    for boxes in (many, few):
        levels = level_of(boxes)
        expected = roi_align_reference(maps, boxes, levels, scales, 3, sampling, aligned)
        assert torch.allclose(run(boxes, levels, *maps)[0], expected, atol=1e-5)
    assert len(level_of(few).unique()) < 3 == len(level_of(many).unique())


def test_roi_align_and_roi_pool_on_one_map_match_torchvision():
    maps = torch.randn(2, 5, 12, 15, generator=torch.Generator().manual_seed(0))
    boxes = boxes_of(9, 2, 200.0)

    def align(boxes: Tensor, maps: Tensor) -> Tensor:
        return roi_align([maps], boxes, torch.zeros_like(boxes[..., 0], dtype=torch.int64), [1 / 16], 4)

    def pool(boxes: Tensor, maps: Tensor) -> Tensor:
        return roi_pool(maps, boxes, 1 / 16, 4)

    rois = list(boxes)
    expected = torchvision.ops.roi_align(maps, rois, 4, 1 / 16, sampling_ratio=2, aligned=True)
    assert torch.allclose(in_onnxruntime(align, boxes, maps)(boxes, maps)[0].flatten(0, 1), expected, atol=1e-5)
    expected = torchvision.ops.roi_pool(maps, rois, 4, 1 / 16)
    assert torch.allclose(in_onnxruntime(pool, boxes, maps)(boxes, maps)[0].flatten(0, 1), expected, atol=1e-6)
