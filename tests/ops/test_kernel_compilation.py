"""Tests the instructions, registers and spills of Triton kernels compiled for GPUs that need not be present."""

import itertools

import pytest
import torch

# The compiler of older versions returns other objects.
pytest.importorskip("triton", "3.6", reason="Triton 3.6 or newer is not installed here")

from ops.launches import compiled, launches  # noqa: E402

from resdet.ops.kernels import nms, roi_align  # noqa: E402

CAPABILITIES = (80, 90)
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
CHANNELS = 256
SIDES = [(200, 336), (100, 168)]
SCALES = [1 / 4, 1 / 8]


def maps(dtype: torch.dtype, channels: int = CHANNELS) -> list[torch.Tensor]:
    last = [torch.empty(2, *sides, channels, dtype=dtype) for sides in SIDES]
    return [x.permute(0, 3, 1, 2) for x in last]


def pooling(monkeypatch, dtype: torch.dtype, sampling: int, aligned: bool, channels: int = CHANNELS):
    """Returns the launches of RoIAlign's forward and backward pass on two levels."""
    boxes, levels = torch.zeros(2, 512, 4), torch.zeros(2, 512, dtype=torch.int64)
    images = torch.zeros_like(levels)

    def call() -> None:
        out = roi_align.forward(maps(dtype, channels), boxes, images, levels, SCALES, 7, sampling, aligned)
        roi_align.backward(out, boxes, images, levels, 2, *zip(*SIDES), SCALES, sampling, aligned)

    return launches(monkeypatch, roi_align, ["_forward", "_backward"], call)


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("sampling, aligned", [(2, True), (0, False)])
def test_roi_align(monkeypatch, tmp_path, capability, dtype, sampling, aligned):
    forward, _, backward, _ = pooling(monkeypatch, dtype, sampling, aligned)
    for launch in (forward, backward):
        code = compiled(launch, capability, tmp_path)
        assert code.ptx.count("div.rn.f32") >= 2  # bin sizes are rounded as on the CPU
        assert "fma.rn.f32" not in code.ptx and "acq_rel" not in code.ptx
        assert code.spills == 0 and code.registers <= 128
    assert "relaxed" in code.ptx
    if capability >= 90:
        assert ".add.v4.f32" in code.ptx


def test_levels_share_compiled_kernels(monkeypatch):
    """Checks that no specialized argument is 1 or a multiple of 16 for one level only, which would recompile."""
    found = pooling(monkeypatch, torch.bfloat16, 2, True)
    for first, second in (found[:2], found[2:]):
        for parameter, a, b in zip(first.kernel.params, first.arguments, second.arguments):
            differs = type(a) is int and (a % 16 == 0, a == 1) != (b % 16 == 0, b == 1)
            assert not differs or parameter.do_not_specialize, parameter.name


def suppression(monkeypatch, count: int):
    boxes, groups, valid = torch.zeros(2, count, 4), torch.zeros(2, count, dtype=torch.int64), torch.ones(2, count) > 0
    return launches(monkeypatch, nms, ["_suppress", "_sweep"], lambda: nms.survivors(boxes, groups, valid, 0.7))


@pytest.mark.parametrize("capability, count", itertools.product(CAPABILITIES, (2000, 40_000)))
def test_nms(monkeypatch, tmp_path, capability, count):
    suppress, sweep = (compiled(launch, capability, tmp_path) for launch in suppression(monkeypatch, count))
    assert "div.rn.f32" in suppress.ptx and "fma.rn.f32" not in suppress.ptx  # the IoU is rounded as on the CPU
    for code in (suppress, sweep):
        assert code.spills == 0 and code.registers <= 128


def test_every_launch_states_the_fusion_of_its_arithmetic(monkeypatch):
    """Triton 3.9 warns of kernels that leave it open, because the default of later versions differs."""
    for launch in (*pooling(monkeypatch, torch.bfloat16, 2, True), *suppression(monkeypatch, 2000)):
        assert launch.keywords["enable_fp_fusion"] is False
