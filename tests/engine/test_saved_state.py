"""Checks that last.pth is loaded completely or refused with an error that names the damaged part."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from resdet.engine import saved_state
from resdet.engine.config import OptimConfig
from resdet.engine.optim import build_optimizer, load_state
from resdet.errors import WeightsError

PATH = Path("runs/a/last.pth")


def stepped(**options) -> torch.optim.Optimizer:
    """Returns an optimizer of two layers after one step."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    optimizer = build_optimizer(model, OptimConfig(**options), 0.1)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return optimizer


def content() -> dict:
    model = {"weight": torch.ones(2, 3)}
    return {
        "model": model,
        "experiment": {"train": {"patience": None}},
        "classes": ["a"],
        "trainer": {
            "step": 3,
            "total": 9,
            "waited": 0,
            "best": {"error": 0.5, "step": 3},
            "optimizer": stepped().state_dict(),
            "scaler": {},
            "averaged": {"n_averaged": torch.tensor(3), "module.weight": torch.ones(2, 3)},
            "schedule": {"holds": False, "reductions": 0, "waited": 0},
            "window": {
                "rows": [torch.ones(2)] * 2,
                "indices": [torch.tensor([1, 2])] * 2,
                "names": ["loss", "error"],
                "losses": 1,
            },
        },
    }


def test_an_undamaged_state_is_accepted():
    found = saved_state.validate(content(), PATH)
    assert found["trainer"]["step"] == 3 and found["classes"] == ["a"]


@pytest.mark.parametrize("value", [None, 3, [], {}, {"model": {}}, {"trainer": 3}], ids=str)
def test_other_values_are_refused(value):
    with pytest.raises(WeightsError, match="last.pth holds no training state"):
        saved_state.validate(value, PATH)


ODD = {
    "model": [None, 3, {"weight": 3}],
    "experiment.train": [None, 3, {}, {"patience": "long"}],
    "trainer.step": [-1, 2.5, "3", True, None],
    "trainer.total": [None],
    "trainer.waited": [-1],
    "trainer.best": ["a", 3, {}, {"error": "a", "step": 3}, {"error": 0.5}],
    "trainer.optimizer": [None, {}, {"state": {}, "param_groups": []}, {"state": 3, "param_groups": [{"params": [0]}]}],
    "trainer.scaler": [None, {"scale": 1.0}],
    "trainer.averaged": [3, {"module.weight": torch.ones(2, 3)}, {"n_averaged": torch.tensor(1)}],
    "trainer.schedule": [None, {}, {"holds": 1, "reductions": 0, "waited": 0}],
    "trainer.window": [None, {}, {"rows": [], "indices": [torch.tensor([1])], "names": [], "losses": 0}],
    "trainer.evaluation_due": ["yes"],
    "trainer.steps_per_epoch": ["6", 0, -1.0, float("inf")],
}


@pytest.mark.parametrize("key, value", [(key, value) for key, values in ODD.items() for value in values])
def test_the_damaged_part_is_named(key, value):
    damaged = content()
    *path, last = key.split(".")
    holder = damaged
    for part in path:
        holder = holder[part]
    holder[last] = value
    with pytest.raises(WeightsError, match=f"last.pth: {key} is missing or damaged"):
        saved_state.validate(damaged, PATH)


@pytest.mark.parametrize("options", [{}, {"name": "adamw"}], ids=["sgd", "adamw"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda state: state["state"].pop(0) and state["state"].update({9: {}}),
        lambda state: state["state"][0].clear(),
        lambda state: state["state"][0].update(dict.fromkeys(state["state"][0], torch.ones(5))),
        lambda state: state["state"][0].update(dict.fromkeys(state["state"][0], torch.tensor(1.0))),
        lambda state: state["state"][0].update(dict.fromkeys(state["state"][0], "a")),
        lambda state: [kept.popitem() and kept.update(other=torch.ones(3)) for kept in state["state"].values()],
        lambda state: state["param_groups"][0].update(params=[5, 6]),
    ],
    ids=["number", "empty", "shape", "scalar", "text", "keys", "parameters"],
)
def test_an_optimizer_state_of_other_parameters_is_refused(options, damage):
    optimizer = stepped(**options)
    state = copy.deepcopy(optimizer.state_dict())
    load_state(optimizer, copy.deepcopy(state))
    damage(state)
    with pytest.raises(ValueError):
        load_state(stepped(**options), state)


def test_missing_momentum_buffers_are_filled():
    """Loads a state without one momentum buffer; a fused step cannot mix parameters with and without a buffer."""
    optimizer = stepped()
    state = copy.deepcopy(optimizer.state_dict())
    del state["state"][0]
    load_state(optimizer, state)
    optimizer.step()
    assert len(optimizer.state) == 4
