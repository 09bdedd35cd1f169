"""Tests the options of residual nets: shortcuts, stride placement, norms and initialization."""

import pytest
import torch
from norms import randomise_norms
from torch import nn

from resdet.backbones import create
from resdet.backbones.layers import ConvNorm, FrozenBatchNorm2d
from resdet.backbones.resnet import BasicBlock, Bottleneck, PadShortcut
from resdet.errors import ConfigError


def test_option_a_subsamples_and_adds_channels_of_zeros():
    x = torch.randn(2, 3, 7, 6)
    y = PadShortcut(extra=5, stride=2)(x)
    assert y.shape == (2, 8, 4, 3)
    assert torch.equal(y[:, :3], x[:, :, ::2, ::2]) and not y[:, 3:].any()


@pytest.mark.parametrize("name", ["resnet18", "cifar_resnet20"])
def test_option_a_with_zero_residuals_passes_the_stem_through(name):
    """Compares the last map with the (nonnegative) output of the stem, subsampled and padded with zeros."""
    options = {"shortcut": "A"} if name == "resnet18" else {}
    net = create(name, 10, zero_init=True, **options)
    images = torch.randn(2, 3, 65, 65)
    step = list(net.strides.values())[-1] // list(net.strides.values())[0]
    for mode in (True, False):
        net.train(mode)
        stem, last = net.stem(images), net.last(images)
        width = stem.shape[1]
        assert torch.equal(last[:, :width], stem[:, :, ::step, ::step]) and not last[:, width:].any()


@pytest.mark.parametrize("option, expected", [("A", 0), ("B", 3), ("C", 16)])
def test_projections_of_resnet34(option, expected):
    """Counts projections; option C has one in each of 16 blocks, thirteen more than B, as in the paper."""
    blocks = [m for m in create("resnet34", 10, shortcut=option).modules() if isinstance(m, BasicBlock)]
    projections = [block.shortcut for block in blocks if isinstance(block.shortcut, ConvNorm)]
    assert len(blocks) == 16 and len(projections) == expected
    assert all(projection.conv.kernel_size == (1, 1) for projection in projections)


@pytest.mark.parametrize("place, strides", [("1x1", (2, 1)), ("3x3", (1, 2))])
def test_stride_placement_in_bottlenecks(place, strides):
    net = create("resnet50", 10, stride_in=place)
    for stage in ("conv3_x", "conv4_x", "conv5_x"):
        first, *rest = getattr(net, stage)
        assert (first.conv1.conv.stride[0], first.conv2.conv.stride[0]) == strides
        assert all(block.conv1.conv.stride == block.conv2.conv.stride == (1, 1) for block in rest)


@pytest.mark.parametrize("norm", ["bn", "gn"])
def test_zero_init_makes_the_first_stage_an_identity(norm):
    net = create("resnet18", 10, zero_init=True, norm=norm)
    images = torch.randn(2, 3, 64, 64)
    for mode in (True, False):
        assert torch.equal(net.train(mode).features(images)["c2"], net.stem(images)), f"training: {mode}"


def test_zero_init_of_bottlenecks_zeroes_only_the_third_norm():
    net = create("resnet50", 10, zero_init=True)
    for block in (module for module in net.modules() if isinstance(module, Bottleneck)):
        assert not block.conv3.norm.weight.any()
        assert block.conv1.norm.weight.all() and block.conv2.norm.weight.all()


def test_frozen_norms_equal_batch_norms_in_evaluation_mode():
    torch.manual_seed(0)
    moving = randomise_norms(create("resnet18", 10)).eval()
    frozen = create("resnet18", 10, norm="frozen")
    frozen.load_state_dict({n: t for n, t in moving.state_dict().items() if "num_batches" not in n})
    images = torch.randn(3, 3, 64, 64)
    expected = moving(images)
    for mode in (True, False):
        assert torch.allclose(frozen.train(mode)(images), expected, rtol=1e-5, atol=1e-6)


def test_frozen_norms_do_not_learn():
    net = create("cifar_resnet20", 10, norm="frozen").train()
    randomise_norms(net)
    before = {n: b.clone() for n, b in net.named_buffers()}
    assert not any(".norm." in name for name, _ in net.named_parameters())
    net(torch.randn(2, 3, 32, 32)).sum().backward()
    assert all(torch.equal(buffer, before[name]) for name, buffer in net.named_buffers())
    assert sum(isinstance(module, FrozenBatchNorm2d) for module in net.modules()) == 19


def test_group_norm_is_independent_of_other_images():
    torch.manual_seed(0)
    net = create("cifar_resnet20", 10, norm="gn").train()
    images = torch.randn(3, 3, 32, 32)
    images[1:] *= 50
    assert torch.allclose(net(images)[:1], net(images[:1]), rtol=1e-4, atol=1e-5)


def test_synchronized_norms_in_one_process_equal_batch_norms():
    torch.manual_seed(0)
    plain = create("cifar_resnet20", 10).train()
    synchronized = create("cifar_resnet20", 10, norm="sync").train()
    synchronized.load_state_dict(plain.state_dict())
    images = torch.randn(4, 3, 32, 32)
    assert torch.equal(synchronized(images), plain(images))


def test_he_initialization():
    """Checks filters of variance 2 / (k² d) for d filters (the paper's reference [13]), scales of 1, shifts of 0, and a
    classifier of standard deviation 0.01 with biases of 0."""
    torch.manual_seed(0)
    net = create("resnet18", 10)
    conv = net.conv4_x[1].conv1.conv.weight
    assert conv.std().item() == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.01)
    assert all((m.weight == 1).all() and not m.bias.any() for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    assert not any(m.bias is not None for m in net.modules() if isinstance(m, nn.Conv2d))
    assert net.fc.weight.std().item() == pytest.approx(0.01, rel=0.1) and not net.fc.bias.any()


@pytest.mark.parametrize(
    "name, option", [("resnet34", {"shortcut": "D"}), ("resnet50", {"stride_in": "2x2"}), ("vgg16", {"norm": "ln"})]
)
def test_unknown_option_values_are_refused(name, option):
    (key,) = option
    with pytest.raises(ConfigError, match=f"{name}: {key} is .*choose one of"):
        create(name, **option)
