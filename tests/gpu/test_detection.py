"""Tests detectors on a GPU; run by `make test-gpu`."""

import pytest
import torch
from detection.heads import tiny

from resdet.detection.model import Detector
from resdet.structures import Images, Targets, each

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

OBJECTS = [[5.0, 8.0, 30.0, 40.0], [20.0, 20.0, 60.0, 50.0]]
FAMILIES = [("fpn", False), ("fpn", True), ("c4", False), ("c4", True), ("cascade", True), ("mnc", True)]


@pytest.fixture(autouse=True)
def full_precision():
    """Disables TF32 in convolutions, where it is the default; matrix products do not use it."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def batch(device: str, masks: bool) -> tuple[Images, Targets]:
    """Returns three images with two, one and no objects; the last two are padded."""
    images = tiny.images((64, 64), (64, 50), (30, 64))
    targets = tiny.targets(OBJECTS, OBJECTS[:1], [], masks=masks)
    return tuple(each(record, lambda field: field.to(device)) for record in (images, targets))


def pair(family: str, masks: bool) -> tuple[Detector, Detector]:
    """Builds a model on CPU and GPU; both train on all anchors and regions, since their random numbers differ."""
    return tuple(tiny.make(family, masks, everything=True).to(device) for device in ("cpu", "cuda"))


def gradients(model: Detector) -> dict[str, torch.Tensor]:
    return {name: parameter.grad.cpu() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("family, masks", FAMILIES)
def test_a_step_does_not_synchronize_with_the_device(family, masks):
    model = tiny.make(family, masks).cuda().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    given = batch("cuda", masks)

    def step() -> None:
        optimizer.zero_grad()
        sum(model.losses(*given).values()).backward()
        optimizer.step()

    step()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(loss.isfinite() for loss in model.losses(*given).values())


@pytest.mark.parametrize("family, masks", FAMILIES)
@torch.no_grad()
def test_inference_does_not_synchronize_with_the_device(family, masks):
    model, (images, _) = tiny.make(family, masks).cuda().eval(), batch("cuda", masks)
    model(images)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        model(images)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("family, masks", FAMILIES)
def test_losses_and_gradients_equal_the_cpu(family, masks):
    cpu, gpu = pair(family, masks)
    found = {}
    for model, device in ((cpu, "cpu"), (gpu, "cuda")):
        losses = model.train().losses(*batch(device, masks))
        sum(losses.values()).backward()
        found[device] = {name: loss.item() for name, loss in losses.items()}
    assert found["cuda"] == pytest.approx(found["cpu"], rel=1e-3)
    expected = gradients(cpu)
    for name, gradient in gradients(gpu).items():
        assert (gradient - expected[name]).norm() < 0.01 * expected[name].norm() + 1e-5, name


@pytest.mark.parametrize("family, masks", FAMILIES)
@torch.no_grad()
def test_detections_equal_the_cpu(family, masks):
    """Searches each box among all boxes, since nearly equal scores may change the order."""
    cpu, gpu = pair(family, masks)
    expected, found = cpu.eval()(batch("cpu", masks)[0]), each(gpu.eval()(batch("cuda", masks)[0]), torch.Tensor.cpu)
    assert torch.equal(found.valid, expected.valid) and expected.valid.any(1).all()
    near = (found.boxes[:, :, None] - expected.boxes[:, None]).abs().amax(-1) < 0.1
    near &= (found.scores[:, :, None] - expected.scores[:, None]).abs() < 1e-3
    near &= found.labels[:, :, None] == expected.labels[:, None]
    assert (near.any(1) | ~expected.valid).all() and (near.any(2) | ~found.valid).all()


@pytest.mark.parametrize("family, masks", FAMILIES)
def test_losses_and_detections_compile_fullgraph(family, masks):
    torch.compiler.reset()
    model = tiny.make(family, masks, everything=True).cuda().train()
    images, targets = batch("cuda", masks)
    expected = {name: loss.item() for name, loss in model.losses(images, targets).items()}
    losses = torch.compile(model.losses, fullgraph=True)(images, targets)
    sum(losses.values()).backward()
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(expected, rel=1e-2)
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    with torch.no_grad():
        found = torch.compile(model.eval(), fullgraph=True)(images)
        assert abs(int(found.valid.sum()) - int(model(images).valid.sum())) <= 2


@pytest.mark.parametrize("family, masks", FAMILIES)
def test_bfloat16_losses_approximate_float32(family, masks):
    model = tiny.make(family, masks, everything=True).cuda().train()
    given = batch("cuda", masks)
    with torch.no_grad():
        expected = sum(model.losses(*given).values()).item()
    with torch.autocast("cuda", torch.bfloat16):
        losses = model.losses(*given)
    sum(losses.values()).backward()
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    assert sum(losses.values()).item() == pytest.approx(expected, rel=0.1)
    assert all(gradient.isfinite().all() for gradient in gradients(model).values())


def test_a_step_in_a_cuda_graph():
    """Captures losses and gradients in a CUDA graph; a replay gives the same loss, and another for other images."""
    model = tiny.make("fpn", True, everything=True).cuda().train()
    images, targets = batch("cuda", True)

    def losses() -> torch.Tensor:
        total = sum(model.losses(images, targets).values())
        total.backward()
        return total

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            expected = losses().item()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        total = losses()
    for shift in (0, 40):
        images.pixels.add_(shift)
        graph.replay()
        assert total.isfinite() and (abs(total.item() - expected) < 0.01 * expected) is (shift == 0)
