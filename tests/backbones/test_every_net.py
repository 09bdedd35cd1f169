"""Tests every registered net: shapes and reach of gradients on meta tensors, and real gradients of small nets."""

import re
from functools import cache

import pytest
import torch

from resdet.backbones import create, entry, names
from resdet.backbones.complexity import on_paper
from resdet.errors import ConfigError


def odd_size(name: str) -> tuple[int, int]:
    return (33, 47) if name.startswith("cifar") else (65, 97)


def blank(height: int, width: int) -> torch.Tensor:
    return torch.zeros(2, 3, height, width, device="meta")


@cache
def net_of(name: str) -> torch.nn.Module:
    """Builds a net on the meta device, once for all tests; no test modifies it."""
    return on_paper(name, 7)


def test_the_registry_has_the_nets_of_the_paper():
    """Compares with the nets of section 3.3, Table 1 and section 4.2."""
    imagenet = {"resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "plain18", "plain34", "vgg16", "vgg19"}
    cifar = {f"cifar_{kind}{depth}" for kind in ("resnet", "plain") for depth in (20, 32, 44, 56, 110, 1202)}
    assert set(names()) == imagenet | cifar and len(names()) == len(set(names()))


SHALLOWER = [name for name in names() if "1202" not in name]  # 1202 layers repeat the same blocks and take many seconds


@pytest.mark.parametrize("name", SHALLOWER)
@torch.no_grad()
def test_features_match_the_registry(name):
    net, known = net_of(name), entry(name)
    assert (net.strides, net.channels) == (known.strides, known.channels)
    size = odd_size(name)
    features = net.features(blank(*size))
    assert list(features) == list(known.strides)
    for level, feature in features.items():
        # Padded convolutions round up; VGG's pooling rounds down.
        side = [s // known.strides[level] if name.startswith("vgg") else -(-s // known.strides[level]) for s in size]
        assert feature.shape == (2, known.channels[level], *side)


@pytest.mark.parametrize("name", SHALLOWER)
@torch.no_grad()
def test_logits_in_evaluation(name):
    side = entry(name).image_size
    assert net_of(name).eval()(blank(side, side)).shape == (2, 7)


@pytest.mark.parametrize("name", [name for name in SHALLOWER if not name.endswith(("101", "152", "110"))])
def test_training_reaches_every_parameter(name):
    net = net_of(name).train()
    logits = net(blank(*odd_size(name)))
    assert logits.shape == (2, 7)
    logits.sum().backward()
    assert [n for n, parameter in net.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("name", SHALLOWER)
def test_depth_is_the_number_in_the_name(name):
    """Counts convolutions and linear layers on the main path, without the shortcuts, as the paper does.

    `test_counts.py` counts the parameters of 1202 layers.
    """
    layers = (torch.nn.Conv2d, torch.nn.Linear)
    counted = [n for n, module in net_of(name).named_modules() if isinstance(module, layers) and "shortcut" not in n]
    assert len(counted) == entry(name).depth == int(re.search(r"\d+$", name)[0])


@pytest.mark.parametrize("name", ["cifar_plain20", "resnet18", "resnet50"])
def test_real_gradients_are_finite_and_not_zero(name):
    torch.manual_seed(0)
    net = create(name, 7).train()
    images = torch.randn(4, 3, 64, 64)
    torch.nn.functional.cross_entropy(net(images), torch.tensor([0, 1, 2, 3])).backward()
    for parameter_name, parameter in net.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.any(), parameter_name
    assert net.eval()(images).isfinite().all()


@pytest.mark.parametrize("name", ["resnet50", "vgg16", "cifar_resnet20"])
def test_features_stop_at_the_given_level(name):
    net = net_of(name)
    found = net.features(blank(64, 64), upto="c3")
    assert list(found) == list(net.strides)[: list(net.strides).index("c3") + 1]


@pytest.mark.parametrize("name", ["resnet18", "plain18", "vgg16", "cifar_resnet20"])
def test_a_net_without_classes_has_no_linear_layer(name):
    net = on_paper(name, 0)
    assert not any(isinstance(module, torch.nn.Linear) for module in net.modules())
    assert list(net.features(blank(64, 64))) == list(entry(name).strides)


@pytest.mark.parametrize("name", ["resnet50", "plain18", "vgg16", "cifar_resnet20"])
def test_a_net_without_classes_returns_the_pooled_last_map(name):
    net, images = create(name, 0).eval(), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = net.last(images).mean((2, 3))
        assert expected.any() and torch.equal(net(images), expected)


@pytest.mark.parametrize("depth, blocks", [(8, 1), (26, 4), (164, 27)])
def test_cifar_nets_of_other_depths(depth, blocks):
    net = on_paper(f"cifar_resnet{depth}", 10)
    assert [len(getattr(net, stage)) for stage in net.stages.values()] == [blocks] * 3
    assert entry(f"cifar_resnet{depth}").depth == depth


@pytest.mark.parametrize("name, hint", [("resnet51", "resnet50"), ("cifar_resnet21", "6n"), ("timm/resnet18", "timm")])
def test_unknown_names_are_refused(name, hint):
    with pytest.raises(ConfigError, match=hint):
        entry(name)


@pytest.mark.parametrize(
    "name, option", [("plain18", "shortcut"), ("cifar_resnet20", "shortcut"), ("vgg16", "zero_init")]
)
def test_unsupported_options_are_refused(name, option):
    with pytest.raises(ConfigError, match=f"{name} has no option '{option}'"):
        create(name, 10, **{option: "B"})
