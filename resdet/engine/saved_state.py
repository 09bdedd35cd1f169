"""Validation of a last.pth before a run resumes from it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resdet.errors import WeightsError
from resdet.weights.description import is_text, mapping_of, settings

SCALER = ("scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker")  # of torch's GradScaler

PACE = ("position", "speed", "evaluation", "seconds")

# Keys of a parameter's optimizer state: none, SGD, AdamW.
STATE_KEYS: tuple[set[str], ...] = (set(), {"momentum_buffer"}, {"step", "exp_avg", "exp_avg_sq"})


def validate(content: Any, path: Path) -> dict[str, Any]:
    """Returns the content with an updated experiment; raises a WeightsError that names a missing or damaged part."""
    if not isinstance(content, dict) or not isinstance(content.get("trainer"), dict):
        raise WeightsError(
            f"{path} holds no training state: start a new run with another --out, or use --init for its weights."
        )
    experiment = settings(content.get("experiment"), str(path))
    train = experiment.get("train")
    if not isinstance(train, dict) or not isinstance(train.get("patience", ""), (int, type(None))):
        raise damaged(path, "experiment.train")
    if not is_state_dict(content.get("model")):
        raise damaged(path, "model")
    state = content["trainer"]
    for key, holds in CHECKS.items():
        if key not in state or not holds(state[key]):
            raise damaged(path, f"trainer.{key}")
    if not isinstance(state.get("evaluation_due", False), bool):
        raise damaged(path, "trainer.evaluation_due")
    if not is_pace(state.get("pace")):
        raise damaged(path, "trainer.pace")
    if not is_epoch(state.get("steps_per_epoch")):
        raise damaged(path, "trainer.steps_per_epoch")
    if state["averaged"] is not None and not is_average(state["averaged"], content["model"]):
        raise damaged(path, "trainer.averaged")
    return content | {"experiment": experiment}


def damaged(path: Path, part: str) -> WeightsError:
    return WeightsError(
        f"{path}: {part} is missing or damaged; start a new run with another --out, or use --init for its weights."
    )


def is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 53


def is_best(value: Any) -> bool:
    """Whether `value` is the metrics of the best evaluation, by name."""
    return value is None or (isinstance(value, dict) and "step" in value and all(map(is_metric, value.values())))


def is_number(value: Any) -> bool:
    return type(value) in (int, float)


def is_metric(value: Any) -> bool:
    return value is None or is_number(value)


def is_pace(value: Any) -> bool:
    """Whether `value` is the state of a Pace, with or without a budget. Older checkpoints have None, or a state without
    `stretch`."""
    if value is None or mapping_of({"position": is_amount})(value):
        return True
    whole = {"stretch": 1, **value} if isinstance(value, dict) else value
    checks = {**dict.fromkeys(PACE, is_amount), "stretch": is_count}
    return mapping_of(checks)(whole) and whole["speed"] > 0 and whole["stretch"] > 0


def is_epoch(value: Any) -> bool:
    """Whether `value` is the number of steps per epoch; None in older checkpoints and for lengths in steps."""
    return value is None or (is_amount(value) and value > 0)


def is_amount(value: Any) -> bool:
    return is_number(value) and 0 <= value < float("inf")


def is_state_dict(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(tensor, Tensor) for tensor in value.values())


def is_average(value: Any, model: Mapping[str, Tensor]) -> bool:
    """Whether `value` is the state of torch's AveragedModel with the tensors of the model."""
    if not is_state_dict(value) or "n_averaged" not in value or value["n_averaged"].numel() != 1:
        return False
    shapes = {name: tensor.shape for name, tensor in value.items() if name != "n_averaged"}
    return shapes == {f"module.{name}": tensor.shape for name, tensor in model.items()}


def is_optimizer(value: Any) -> bool:
    """Whether `value` has parameter groups with indices, and the state of each parameter."""
    if not isinstance(value, dict) or not isinstance(groups := value.get("param_groups"), list) or not groups:
        return False
    numbers = [group.get("params") if isinstance(group, dict) else None for group in groups]
    if not all(isinstance(listed, list) and all(map(is_count, listed)) for listed in numbers):
        return False
    states = value.get("state")
    return isinstance(states, dict) and all(
        isinstance(state, dict) and all(isinstance(item, Tensor) or is_metric(item) for item in state.values())
        for state in states.values()
    )


def is_scaler(value: Any) -> bool:
    return value == {} or mapping_of({key: is_number for key in SCALER})(value)


def is_window(value: Any) -> bool:
    """Whether `value` is the state of a MetricBuffer: rows with one value per name, and the images of each row."""
    if not isinstance(value, dict) or not all(isinstance(value.get(key), list) for key in ("rows", "indices", "names")):
        return False
    rows, indices, names, losses = value["rows"], value["indices"], value["names"], value.get("losses")
    return (
        all(map(is_text, names))
        and all(isinstance(row, Tensor) and row.shape == (len(names),) and row.is_floating_point() for row in rows)
        and all(isinstance(row, Tensor) and row.dim() == 1 and row.dtype == torch.int64 for row in indices)
        and len(rows) == len(indices)
        and isinstance(losses, int)
        and is_count(losses)
        and losses <= len(names)
    )


CHECKS = {
    "step": is_count,
    "total": is_count,
    "waited": is_count,
    "best": is_best,
    "optimizer": is_optimizer,
    "scaler": is_scaler,
    "averaged": lambda value: value is None or is_state_dict(value),
    "schedule": mapping_of({"holds": lambda value: type(value) is bool, "reductions": is_count, "waited": is_count}),
    "window": is_window,
}


def refuse_other_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Raises a ValueError for the state of other parameters: a fused step would write beyond a smaller buffer."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    if numbers != list(range(len(parameters))) or not state["state"].keys() <= set(numbers):
        raise ValueError("the state of other parameters")
    kinds = {frozenset((key, value is None) for key, value in buffers.items()) for buffers in state["state"].values()}
    if len(kinds) > 1 or any({key for key, _ in kind} not in STATE_KEYS for kind in kinds):
        raise ValueError("the state of another optimizer, or of several")
    for number, buffers in state["state"].items():
        for key, value in buffers.items():
            empty = key == "momentum_buffer" and value is None
            shape = () if key == "step" else parameters[number].shape
            if not empty and (not isinstance(value, Tensor) or value.shape != shape):
                raise ValueError("the state of parameters of other shapes")


def complete_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Adds zero momentum where it is missing: a fused step requires momentum for all parameters or for none."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if any(buffers.get("momentum_buffer") is not None for buffers in optimizer.state.values()):
        for parameter in parameters:
            if parameter not in optimizer.state:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
