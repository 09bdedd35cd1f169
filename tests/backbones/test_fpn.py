"""Tests that the FPN equals torchvision's FPN with the same weights."""

import pytest
import torch
from torch import nn

from resdet.backbones.complexity import on_paper
from resdet.errors import ConfigError
from resdet.necks.fpn import FPN

ops = pytest.importorskip("torchvision").ops
SIZES = {"c2": (33, 47), "c3": (17, 24), "c4": (9, 12), "c5": (5, 6)}  # for an image of 130×187; no stride divides it


def features(channels: dict[str, int]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {c: torch.randn(2, channels[c], *SIZES[c], generator=generator) for c in channels}


def give_weights(ours: FPN, theirs: nn.Module) -> None:
    for units, blocks in ((ours.lateral, theirs.inner_blocks), (ours.output, theirs.layer_blocks)):
        for unit, block in zip(units.values(), blocks):
            modules = list(block) if isinstance(block, nn.Sequential) else [block]
            for mine, source in zip([unit.conv, unit.norm], modules):
                for tensor in source.state_dict().values():
                    tensor.normal_(0, 0.1)
                mine.load_state_dict(source.state_dict())


@pytest.mark.parametrize("extra", [True, False])
def test_values_equal_torchvision(extra):
    net = on_paper("resnet18", 0)
    blocks = ops.feature_pyramid_network.LastLevelMaxPool() if extra else None
    theirs = ops.FeaturePyramidNetwork(list(net.channels.values()), 32, extra_blocks=blocks)
    ours = FPN(net, 32, extra=extra)
    give_weights(ours, theirs)
    inputs = features(net.channels)
    expected, found = theirs(inputs), ours(inputs)
    assert list(found) == ["p2", "p3", "p4", "p5", "p6"][: len(expected)]
    for (level, mine), theirs_of_level in zip(found.items(), expected.values()):
        assert torch.allclose(mine, theirs_of_level, rtol=1e-5, atol=1e-5), level


def test_values_with_group_norm_equal_torchvision():
    net = on_paper("resnet18", 0)
    theirs = ops.FeaturePyramidNetwork(list(net.channels.values()), 64, norm_layer=lambda c: nn.GroupNorm(32, c))
    ours = FPN(net, 64, norm="gn", extra=False)
    give_weights(ours, theirs)
    inputs = features(net.channels)
    for mine, source in zip(ours(inputs).values(), theirs(inputs).values()):
        assert torch.allclose(mine, source, rtol=1e-4, atol=1e-4)


def test_group_norm_refuses_widths_without_whole_groups():
    net = on_paper("resnet18", 0)
    for width in (16, 64):
        FPN(net, width, norm="gn")
    with pytest.raises(ConfigError, match="norm is gn and a layer has 48 channels: give a width that is a multiple of"):
        FPN(net, 48, norm="gn")


@pytest.mark.parametrize(
    "name, strides",
    [("resnet50", [4, 8, 16, 32, 64]), ("vgg16", [1, 2, 4, 8, 16, 32]), ("cifar_resnet20", [1, 2, 4, 8])],
)
def test_shapes_and_strides(name, strides):
    net = on_paper(name, 0)
    with torch.device("meta"):
        fpn = FPN(net, 16)
        pyramid = fpn(net.features(torch.zeros(1, 3, 128, 192)))
    assert list(fpn.strides.values()) == strides and list(pyramid) == list(fpn.strides)
    assert fpn.channels == dict.fromkeys(pyramid, 16)
    for level, feature in pyramid.items():
        assert feature.shape == (1, 16, 128 // fpn.strides[level], 192 // fpn.strides[level])


def test_initial_weights_keep_the_variance():
    """Checks weights of variance 1 / fan-in and biases of 0."""
    torch.manual_seed(0)
    fpn = FPN(on_paper("resnet18", 0), 32)
    for units, fans in ((fpn.lateral, (64, 128, 256, 512)), (fpn.output, [32 * 9] * 4)):
        for unit, fan in zip(units.values(), fans):
            assert unit.conv.weight.std().item() == pytest.approx(fan**-0.5, rel=0.1)
            assert not unit.conv.bias.any()
