"""Parameters and multiply-adds: the paper's figures, torchvision's published counts, and torch's own counter."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from resdet.backbones import count_multiply_adds, count_parameters, create
from resdet.backbones.counting import on_paper

# Tables 1 and 6: to the unit, as PAPER.md (A1) lists them.
CIFAR = {20: 269_722, 32: 464_154, 44: 658_586, 56: 853_018, 110: 1_727_962, 1202: 19_421_274}
SHORTCUTS = {
    ("resnet18", "A"): 11_515_688,
    ("resnet18", "B"): 11_689_512,
    ("resnet34", "A"): 21_623_848,
    ("resnet34", "B"): 21_797_672,
    ("resnet34", "C"): 22_716_840,
}
# Table 1's last row and section 3.3, in units of 1e9, for nets as the paper builds them.
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
    """Nets without memory for their weights: 1202 layers are initialized in vain otherwise."""
    with torch.device("meta"):
        yield


@pytest.mark.parametrize("depth", CIFAR)
def test_cifar_parameters_and_plain_ones_identical(depth, meta):
    assert count_parameters(on_paper(f"cifar_resnet{depth}", 10)) == CIFAR[depth]
    assert count_parameters(on_paper(f"cifar_plain{depth}", 10)) == CIFAR[depth]


@pytest.mark.parametrize("name, option", SHORTCUTS)
def test_parameters_of_the_shortcut_options(name, option):
    assert count_parameters(on_paper(name, 1000, shortcut=option)) == SHORTCUTS[name, option]


@pytest.mark.parametrize("name, residual", [("plain18", "resnet18"), ("plain34", "resnet34")])
def test_plain_nets_have_the_parameters_of_option_a(name, residual):
    assert count_parameters(on_paper(name, 1000)) == SHORTCUTS[residual, "A"]


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "vgg16", "vgg19"])
def test_parameters_are_those_that_torchvision_publishes(name):
    from torchvision.models import get_model_weights

    assert count_parameters(on_paper(name, 1000)) == get_model_weights(name).IMAGENET1K_V1.meta["num_params"]


def test_where_the_stride_lies_changes_no_parameter():
    early, late = (count_parameters(on_paper("resnet50", 1000, stride_in=place)) for place in ("1x1", "3x3"))
    assert early == late


@pytest.mark.parametrize("name", MULTIPLY_ADDS)
def test_multiply_adds_are_table_1s(name):
    assert count_multiply_adds(paper_net(name), 224) / 1e9 == pytest.approx(MULTIPLY_ADDS[name], rel=0.02)


@pytest.mark.parametrize("name", [*MULTIPLY_ADDS, "cifar_resnet56"])
def test_multiply_adds_agree_with_torchs_counter(name):
    net, size = paper_net(name), 97
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, 3, size, size, device="meta"))
    assert count_multiply_adds(net, size) == counter.get_total_flops() / 2


def test_plain_34_costs_18_percent_of_vgg_19():
    share = count_multiply_adds(paper_net("plain34"), 224) / count_multiply_adds(paper_net("vgg19"), 224)
    assert share == pytest.approx(0.18, abs=0.006)


def test_v1_5_costs_more_than_the_paper():
    """torchvision gives 4.09 for its ResNet-50, which strides in the 3×3."""
    assert count_multiply_adds(on_paper("resnet50", 1000, stride_in="3x3"), 224) / 1e9 == pytest.approx(4.09, abs=0.005)


def test_counting_leaves_a_real_net_as_it_was():
    net = create("cifar_resnet20", 10)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert count_multiply_adds(net.eval(), 32) > 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())


def test_frozen_norms_change_no_count():
    nets = (on_paper("resnet18", 10, norm=norm) for norm in ("bn", "frozen"))
    assert len({count_multiply_adds(net, 64) for net in nets}) == 1
