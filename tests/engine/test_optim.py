"""Compares optimizer steps with torch's plain loops and checks that a loaded state adapts to the memory format."""

import copy

import pytest
import torch
from torch import nn

from resdet.engine.config import OptimConfig
from resdet.engine.optim import build_optimizer, load_state


def step(net: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    images = torch.rand(2, 4, 5, 5, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    net(images).square().sum().backward()
    optimizer.step()


def conv(layout: torch.memory_format) -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(4, 6, 3).to(memory_format=layout)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_state_loads_into_another_memory_format(name):
    config = OptimConfig(name=name)
    plain, last = conv(torch.contiguous_format), conv(torch.channels_last)
    before = build_optimizer(plain, config, 0.01)
    step(plain, before, 0)
    last.load_state_dict(plain.state_dict())
    after = build_optimizer(last, config, 0.01)
    load_state(after, copy.deepcopy(before.state_dict()))
    for seed in (1, 2):
        step(plain, before, seed)
        step(last, after, seed)
    assert last.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last.weight, plain.weight)


@pytest.mark.parametrize("name, plain", [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_steps_match_the_plain_loops(name, plain):
    ours, theirs = conv(torch.channels_last), conv(torch.contiguous_format)
    options = {"momentum": 0.8, "nesterov": True} if name == "sgd" else {"betas": (0.8, 0.95)}
    config = OptimConfig(name=name, weight_decay=0.1, **options)
    expected = plain(theirs.parameters(), 0.01, weight_decay=0.1, fused=False, foreach=False, **options)
    found = build_optimizer(ours, config, 0.01)
    for seed in range(3):
        step(ours, found, seed)
        step(theirs, expected, seed)
    torch.testing.assert_close(ours.weight, theirs.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)


def test_loaded_state_uses_the_new_settings():
    """Compares a step with torch's after weight decay and momentum have changed; the momentum buffers are kept."""
    ours, theirs = conv(torch.contiguous_format), conv(torch.contiguous_format)
    before = build_optimizer(ours, OptimConfig(weight_decay=0.0, momentum=0.9), 0.01)
    step(ours, before, 0)
    after = build_optimizer(ours, OptimConfig(weight_decay=0.5, momentum=0.5), 0.01)
    load_state(after, copy.deepcopy(before.state_dict()))
    step(ours, after, 1)
    plain = torch.optim.SGD(theirs.parameters(), 0.01, momentum=0.9, fused=False, foreach=False)
    step(theirs, plain, 0)
    plain.param_groups[0] |= {"weight_decay": 0.5, "momentum": 0.5}
    step(theirs, plain, 1)
    torch.testing.assert_close(ours.weight, theirs.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)


def test_the_state_of_another_optimizer_is_refused():
    net = conv(torch.contiguous_format)
    state = build_optimizer(net, OptimConfig(name="sgd"), 0.01).state_dict()
    with pytest.raises(ValueError):
        load_state(build_optimizer(net, OptimConfig(name="adamw"), 0.01), state)
    with pytest.raises(ValueError):
        load_state(build_optimizer(net, OptimConfig(decay_norm_and_bias=False), 0.01), state)
