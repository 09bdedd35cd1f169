"""Checks on fake tensors that no loss and no detection of any family waits for a GPU."""

import pytest
import torch
from detection.heads import tiny
from detection.no_sync import DEVICE, NoSync, Waits, batch_on_device, needs_fake_gpu, on_device
from narrow import shallow_nets
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

from resdet.engine.ema import ModelEMA
from resdet.engine.metric_buffer import MetricBuffer

pytestmark = needs_fake_gpu

OBJECTS = [[5.0, 8.0, 30.0, 40.0], [20.0, 20.0, 60.0, 50.0]]
FAMILIES = [
    ("fpn", False),
    ("fpn", True),
    ("c4", True),
    ("dc5", True),
    ("cascade", True),
    ("mnc", True),
]


def make(family: str, masks: bool, *overrides: str):
    with shallow_nets():
        return tiny.make(family, masks, *overrides)


def run(model, masks: bool, training: bool):
    """Runs losses, or detections and masks, under the dispatch mode, without computing values."""
    given = tiny.images((64, 64), (64, 50), (30, 64)), tiny.targets(OBJECTS, OBJECTS[:1], [], masks=masks)
    with FakeTensorMode(), torch.no_grad():
        model = on_device(model).train(training)
        images, targets = batch_on_device(*given)
        with NoSync():
            if training:
                return model.losses(images, targets)
            detections, maps = model.detect(images)
            if model.draws_masks:
                model.masks(maps, detections.boxes, detections.labels)
            return detections


@pytest.mark.parametrize("family, masks", FAMILIES)
def test_losses(family, masks):
    losses = run(make(family, masks), masks, True)
    assert losses and all(loss.device == DEVICE and loss.shape == () for loss in losses.values())


@pytest.mark.parametrize("family, masks", FAMILIES)
def test_detections(family, masks):
    assert run(make(family, masks), masks, False).boxes.device == DEVICE


def test_clipping_averaging_and_metrics():
    """Clipping, weight averaging and metrics read no value; backward and the fused optimizer need a driver."""
    model = make("fpn", True)
    average = ModelEMA(model, 0.9)
    with FakeTensorMode(), torch.no_grad():
        on_device(model), on_device(average)
        for parameter in model.parameters():
            parameter.grad = torch.empty_like(parameter)
        with NoSync():
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for _ in range(2):
                average.update(model)
            row = MetricBuffer().row(
                {"loss": torch.empty((), device=DEVICE)}, {"error": torch.empty((), device=DEVICE)}
            )
    assert row.device == DEVICE and row.shape == (2,)


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x.cpu(),
        lambda x: x + torch.zeros(4).to(x.device),
        lambda x: torch.tensor([1.0, 2, 3, 4], device=x.device) + x,
    ],
    ids=["item", "mask", "nonzero", "download", "upload", "list"],
)
def test_the_mode_detects_waits(wait):
    with FakeTensorMode(), pytest.raises((Waits, DataDependentOutputException, DynamicOutputShapeException)):
        x = torch.empty(4, device=DEVICE)
        with NoSync():
            wait(x)
