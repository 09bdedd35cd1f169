"""Tests nets against torchvision's and timm's with the same weights: logits, gradients, statistics."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from resdet import weights
from resdet.backbones import create
from resdet.weights.layouts.names import resnet_from_torchvision

models = pytest.importorskip("torchvision").models


def randomise(net: nn.Module) -> nn.Module:
    """Draws random weights and statistics, so that a tensor that is not loaded changes the result."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in net.state_dict().items():
        if tensor.dim() > 1:
            tensor.normal_(0, tensor[0].numel() ** -0.5, generator=generator)
        elif name.endswith(("weight", "running_var")):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif tensor.is_floating_point():
            tensor.normal_(0, 0.1, generator=generator)
        else:
            tensor.fill_(7)
    return net


def built(make, *arguments, **options) -> nn.Module:
    """Builds a net without the cost of its initialization; the weights are arbitrary."""
    with torch.device("meta"):
        net = make(*arguments, **options)
    return net.to_empty(device="cpu")


def images(count: int, height: int = 96, width: int = 75, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1), dtype=dtype)


def largest_difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """Returns the maximum difference, relative to the largest value of `b`."""
    return ((a - b).abs().max() / b.abs().max()).item()


@pytest.mark.parametrize("name", ["resnet34", "resnet50", "resnet152"])
def test_resnets_equal_torchvision(name):
    theirs = randomise(built(getattr(models, name))).eval()
    ours = built(create, name).eval()
    weights.load(ours, theirs.state_dict())
    with torch.no_grad():
        assert largest_difference(ours(images(2)), theirs(images(2))) < 1e-5


@pytest.mark.parametrize("name, theirs, norm", [("vgg19", "vgg19", None), ("vgg16", "vgg16_bn", "bn")])
def test_vggs_equal_torchvision(name, theirs, norm):
    theirs = randomise(built(getattr(models, theirs), num_classes=12)).eval()
    ours = built(create, name, 12, norm=norm).eval()
    weights.load(ours, theirs.state_dict())
    with torch.no_grad():
        assert largest_difference(ours(images(2)), theirs(images(2))) < 1e-5


def test_resnet50_equals_timm():
    timm = pytest.importorskip("timm")
    theirs = randomise(timm.create_model("resnet50", num_classes=9)).eval()
    ours = built(create, "resnet50", 9).eval()
    weights.load(ours, theirs.state_dict())
    with torch.no_grad():
        assert largest_difference(ours(images(2)), theirs(images(2))) < 1e-5


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_a_training_step_equals_torchvision(name):
    """Compares gradients and batch-norm statistics, in double precision, so that rounding cannot hide a difference."""
    theirs = randomise(built(getattr(models, name), num_classes=5)).double().train()
    ours = create(name, 5).double().train()
    weights.load(ours, theirs.state_dict())
    x, labels = images(2, 64, 64, torch.float64), torch.tensor([0, 1])
    for net in (ours, theirs):
        F.cross_entropy(net(x), labels).backward()
    gradients = {resnet_from_torchvision(n): p.grad for n, p in theirs.named_parameters()}
    for parameter_name, parameter in ours.named_parameters():
        assert largest_difference(parameter.grad, gradients[parameter_name]) < 1e-9, parameter_name
    buffers = {resnet_from_torchvision(n): b for n, b in theirs.named_buffers()}
    assert buffers.keys() == dict(ours.named_buffers()).keys()
    for buffer_name, buffer in ours.named_buffers():
        assert torch.allclose(buffer, buffers[buffer_name], rtol=1e-10, atol=1e-12), buffer_name


def test_frozen_norms_equal_torchvision():
    from torchvision.ops import FrozenBatchNorm2d

    theirs = randomise(models.resnet18(num_classes=5, norm_layer=FrozenBatchNorm2d))
    ours = create("resnet18", 5, norm="frozen")
    weights.load(ours, theirs.state_dict())
    assert {n for n, _ in ours.named_parameters()} == {resnet_from_torchvision(n) for n, _ in theirs.named_parameters()}
    for mode in (True, False):
        assert largest_difference(ours.train(mode)(images(2)), theirs.train(mode)(images(2))) < 1e-5


def test_group_norm_equals_torchvision_with_32_groups():
    theirs = randomise(models.resnet18(num_classes=5, norm_layer=lambda channels: nn.GroupNorm(32, channels))).eval()
    ours = create("resnet18", 5, norm="gn").eval()
    weights.load(ours, theirs.state_dict())
    assert largest_difference(ours(images(2)), theirs(images(2))) < 1e-5
