"""Tests counts of parameters and multiply-adds against the paper, torchvision and torch's FLOP counter."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from resdet.backbones import count_multiply_adds, count_parameters, create
from resdet.backbones.complexity import on_paper

# The exact counts of tables 1 and 6, as listed in PAPER.md (A1).
CIFAR = {20: 269_722, 32: 464_154, 44: 658_586, 56: 853_018, 110: 1_727_962, 1202: 19_421_274}
SHORTCUTS = {
    ("resnet18", "A"): 11_515_688,
    ("resnet18", "B"): 11_689_512,
    ("resnet34", "A"): 21_623_848,
    ("resnet34", "B"): 21_797_672,
    ("resnet34", "C"): 22_716_840,
}
# The last row of table 1 and section 3.3, in units of 1e9, for the paper's variants of the nets.
MULTIPLY_ADDS = {
    "resnet18": 1.8,
    "resnet34": 3.6,
    "resnet50": 3.8,
    "resnet101": 7.6,
    "resnet152": 11.3,
    "plain34": 3.6,
    "vgg16": 15.3,
    "vgg19": 19.6,
}


def paper_net(name: str) -> torch.nn.Module:
    if name in ("resnet18", "resnet34"):
        return on_paper(name, 1000, shortcut="A")
    return on_paper(name, 1000, **({"stride_in": "1x1"} if name.startswith("resnet") else {}))


@pytest.fixture
def meta():
    """Builds nets on the meta device, to avoid the initialization of 1202 layers."""
    with torch.device("meta"):
        yield


@pytest.mark.parametrize("depth", CIFAR)
def test_cifar_residual_and_plain_parameters(depth, meta):
    assert count_parameters(on_paper(f"cifar_resnet{depth}", 10)) == CIFAR[depth]
    assert count_parameters(on_paper(f"cifar_plain{depth}", 10)) == CIFAR[depth]


@pytest.mark.parametrize("name, option", SHORTCUTS)
def test_parameters_of_the_shortcut_options(name, option):
    assert count_parameters(on_paper(name, 1000, shortcut=option)) == SHORTCUTS[name, option]


@pytest.mark.parametrize("name, residual", [("plain18", "resnet18"), ("plain34", "resnet34")])
def test_plain_nets_have_the_parameters_of_option_a(name, residual):
    assert count_parameters(on_paper(name, 1000)) == SHORTCUTS[residual, "A"]


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "vgg16", "vgg19"])
def test_parameters_equal_torchvision(name):
    from torchvision.models import get_model_weights

    assert count_parameters(on_paper(name, 1000)) == get_model_weights(name).IMAGENET1K_V1.meta["num_params"]


def test_stride_placement_does_not_change_parameters():
    early, late = (count_parameters(on_paper("resnet50", 1000, stride_in=place)) for place in ("1x1", "3x3"))
    assert early == late


@pytest.mark.parametrize("name", MULTIPLY_ADDS)
def test_multiply_adds_match_table_1(name):
    assert count_multiply_adds(paper_net(name), 224) / 1e9 == pytest.approx(MULTIPLY_ADDS[name], rel=0.02)


@pytest.mark.parametrize("name", [*MULTIPLY_ADDS, "cifar_resnet56"])
def test_multiply_adds_equal_torchs_counter(name):
    net, size = paper_net(name), 97
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, 3, size, size, device="meta"))
    assert count_multiply_adds(net, size) == counter.get_total_flops() / 2


def test_plain_34_costs_18_percent_of_vgg_19():
    share = count_multiply_adds(paper_net("plain34"), 224) / count_multiply_adds(paper_net("vgg19"), 224)
    assert share == pytest.approx(0.18, abs=0.006)


def test_v1_5_costs_more_than_the_paper():
    """Compares with the 4.09 G that torchvision states for its ResNet-50, which strides in the 3×3 convolution."""
    assert count_multiply_adds(on_paper("resnet50", 1000, stride_in="3x3"), 224) / 1e9 == pytest.approx(4.09, abs=0.005)


def test_counting_leaves_a_net_unchanged():
    net = create("cifar_resnet20", 10)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert count_multiply_adds(net.eval(), 32) > 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())


def test_frozen_norms_do_not_change_multiply_adds():
    nets = (on_paper("resnet18", 10, norm=norm) for norm in ("bn", "frozen"))
    assert len({count_multiply_adds(net, 64) for net in nets}) == 1
