"""Tests that the detector's losses and detections compile and export as one graph, with equal results."""

from collections.abc import Callable

import pytest
import torch
from detection.heads import tiny
from narrow import shallow_nets

from resdet.detection.model import Detector
from resdet.structures import Detections, Images, Targets

pytest.importorskip("torchvision")

OBJECTS = [[5.0, 8.0, 30.0, 40.0], [20.0, 20.0, 60.0, 50.0]]
FAMILIES = {  # the overrides cover options that no other family uses
    "fpn": ["model.box.loss=giou"],
    "c4": ["model.box.pool=max"],
    "cascade": ["model.box.sampling=0"],
    "mnc": [],
}


@pytest.fixture(autouse=True)
def fresh():
    torch.compiler.reset()


def batch() -> tuple[Images, Targets]:
    return tiny.images((64, 64), (64, 50)), tiny.targets(OBJECTS, OBJECTS[:1])


def make(family: str) -> Detector:
    """Builds a model with masks that samples all anchors and regions, as compiled code draws other random numbers."""
    with shallow_nets():
        return tiny.make(family, True, *FAMILIES[family], everything=True)


def check_losses(model: Detector, backend: str, tolerance: float) -> None:
    """Compares compiled and eager losses and gradients; a second batch of the same shape must not recompile."""
    compiled = torch.compile(model.losses, fullgraph=True, backend=backend)
    found = {}
    for kind, losses_of in (("eager", model.losses), ("compiled", compiled)):
        model.zero_grad()
        losses = losses_of(*batch())
        sum(losses.values()).backward()
        found[kind] = losses, {n: p.grad.clone() for n, p in model.named_parameters()}
    (expected, wanted), (losses, gradients) = found["eager"], found["compiled"]
    assert losses.keys() == expected.keys()
    for name, loss in expected.items():
        assert losses[name].item() == pytest.approx(loss.item(), rel=tolerance), name
    for name, gradient in wanted.items():
        assert (gradients[name] - gradient).norm() <= 10 * tolerance * gradient.norm() + 1e-6, name
    with torch.compiler.set_stance("fail_on_recompile"):
        compiled(batch()[0], tiny.targets([], OBJECTS))


def check_detections(found: Detections, expected: Detections) -> None:
    assert torch.equal(found.valid, expected.valid) and expected.valid.any()
    kept = expected.valid
    assert torch.allclose(found.scores[kept], expected.scores[kept], atol=1e-5)
    assert torch.allclose(found.boxes[kept], expected.boxes[kept], atol=1e-2)
    assert torch.equal(found.labels[kept], expected.labels[kept])


@pytest.mark.parametrize("family", FAMILIES)
def test_losses_compile_to_one_graph(family):
    check_losses(make(family).train(), "aot_eager" if family == "fpn" else "eager", 1e-4)


@pytest.mark.parametrize("family", ["c4", "cascade", "mnc"])  # cascade includes all of fpn
@torch.no_grad()
def test_detections_and_masks_compile_to_one_graph_each(family):
    model, (images, _) = make(family).eval(), batch()
    (found, maps), (expected, _) = whole(model.detect)(images, 0.2), model.detect(images, 0.2)
    check_detections(found, expected)
    boxes, labels = found.boxes[:, :8], found.labels[:, :8]
    assert torch.allclose(whole(model.masks)(maps, boxes, labels), model.masks(maps, boxes, labels), atol=1e-6)


def whole(function: Callable) -> Callable:
    return torch.compile(function, fullgraph=True, backend="eager")


@torch.no_grad()
def test_inference_can_be_exported():
    """Exports with one image and runs on another one; tests/export covers the other families."""
    model = make("mnc").eval()
    model.score = 0.2
    first, second = batch()[0].pixels
    program = torch.export.export(model, (first[None],))
    check_detections(program.module()(second[None]), model(second[None]))
    operators = [str(node.target) for node in program.graph.nodes]
    assert operators.count("resdet.nms.default") == 2
    assert any(name.startswith(("resdet.roi_", "aten.grid_sampler")) for name in operators)


@pytest.mark.slow
def test_inductor_gives_equal_results():
    model = make("fpn")
    check_losses(model.train(), "inductor", 1e-3)
    with torch.no_grad():
        images = batch()[0]
        check_detections(torch.compile(model.eval(), fullgraph=True)(images), model(images))
