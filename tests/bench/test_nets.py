"""Tests that benchmarks of classifiers compare the same work: equal outputs, and steps that train."""

import sys
from functools import partial

import pytest
import torch

from resdet.bench import cifar, forward, nets, ops, train
from resdet.bench.nets import EAGER, NOT_INSTALLED
from resdet.classification.training import ClassifierStep


def test_outputs_are_compared_before_timing():
    found = nets.each(nets.resnet50s(), torch.nn.Module.eval)
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    sides = nets.each(found, lambda net: nets.inference(partial(net, images)))
    assert forward.check_agreement(sides) < forward.TOLERANCE
    sides["resdet"] = lambda: sides["torchvision"]() + 1
    with pytest.raises(RuntimeError, match="differ"):
        forward.check_agreement(sides)


def test_a_missing_timm_is_reported(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "timm"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "timm", None)
    assert nets.resnet50s()["timm"] == NOT_INSTALLED
    assert cifar.cifar_nets(20)["timm"] == NOT_INSTALLED
    assert nets.each({"timm": NOT_INSTALLED}, lambda net: net) == {"timm": NOT_INSTALLED}


@pytest.mark.parametrize("depth, parameters", [(20, 0.27e6), (56, 0.85e6), (110, 1.7e6)])
def test_cifar_models_of_peers_match_table_6(depth, parameters):
    """Compares with the paper's counts for option A; projections add 64·32 + 32·16 weights and 192 of the norms."""
    for name, net in cifar.cifar_nets(depth).items():
        count = sum(p.numel() for p in net.parameters())
        assert abs(count - parameters) < 0.03 * parameters
        layers = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size == (3, 3)]
        assert len(layers) == depth - 1, name


def test_training_cases_compare_defaults_and_every_variant():
    found = cifar.cifar_nets(8)
    cases = list(train.training_cases("resnet8 ", found, nets.pixels(4, 32), EAGER))
    names = [case.name for case in cases]
    assert names[0].startswith("resnet8 defaults (resdet: channels_last, ")
    assert names[1:] == ["resnet8 eager, channels_last, fp32", "resnet8 eager, channels_last, bf16"]
    for case in cases:
        assert list(case.sides) == ["torchvision", "timm", "resdet"] and case.count == 4


def test_a_step_reduces_the_loss_and_keeps_the_original_model():
    net = cifar.cifar_nets(8)["resdet"]
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    loss = EAGER[0].prepare(train.Loss(net))
    images, labels = torch.rand(8, 3, 32, 32), torch.arange(8)
    step = train.training_step(loss, images, labels)
    first = loss(images, labels).item()
    for _ in range(10):
        step()
    assert loss(images, labels).item() < first
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_the_default_side_of_resdet_is_a_step_of_the_trainer():
    model = nets.classifier(cifar.cifar_nets(8)["resdet"], 32)
    before = model.backbone.fc.weight.clone()
    trainer = train.stepping_trainer(model, ClassifierStep(model), 4)
    trainer.take_step(train.Batch(nets.pixels(4, 32), torch.arange(4), torch.arange(4)))
    assert len(trainer.window) == 1
    assert not torch.equal(model.backbone.fc.weight, before)
    assert model.backbone.conv1.conv.weight.is_contiguous(memory_format=torch.channels_last)


def test_models_and_images_are_on_the_device():
    """Uses `meta` in place of a GPU, before and after the comparison of the outputs."""
    defaults = next(forward.cases(1, 32, device="meta"))
    assert {side().device.type for side in defaults.sides.values() if callable(side)} == {"meta"}
    assert "outputs agree" in defaults.note
    assert nets.pixels(2, 8, "meta").device.type == "meta"
    assert EAGER[1].on("cuda").device == "cuda"


def test_operations_are_on_the_device():
    """Checks resdet's side on the meta device; torchvision's operations and the gradients need values."""
    for case in ops.suppression(40, "meta"):
        assert {x.device.type for x in case.sides["resdet"]()} == {"meta"}, case.name
    maps, boxes = [torch.empty(1, 4, side, side, device="meta") for side in (32, 16, 8, 4)], torch.empty(8, 4)
    assert ops.resdet_align(maps, boxes.to("meta"))().device.type == "meta"
