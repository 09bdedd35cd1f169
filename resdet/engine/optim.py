"""The optimizer: parameter groups with and without weight decay, and scaling of the learning rate with the batch."""

from typing import Any

import torch
from torch import nn

from resdet.engine import saved_state
from resdet.engine.config import OptimConfig


def build_optimizer(model: nn.Module, config: OptimConfig, lr: float, graph: bool = False) -> torch.optim.Optimizer:
    """Builds SGD or AdamW over the trainable parameters; norms and biases have weight decay if the config enables it.

    A fused step reads and writes each parameter once: on a CPU, AdamW's step is ten times as fast. With `graph`, the
    learning rate is a tensor on the device, so that the step can be captured in a CUDA graph.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [{"params": trainable}]
    if not config.decay_norm_and_bias:
        groups = [
            {"params": [p for p in trainable if p.dim() > 1]},
            {"params": [p for p in trainable if p.dim() <= 1], "weight_decay": 0.0},
        ]
    rate = torch.tensor(lr, device=trainable[0].device) if graph else lr
    common: dict[str, Any] = {"lr": rate, "weight_decay": config.weight_decay, "fused": True}
    if config.name == "adamw":
        return torch.optim.AdamW(groups, betas=(config.betas[0], config.betas[1]), capturable=graph, **common)
    return torch.optim.SGD(groups, momentum=config.momentum, nesterov=config.nesterov, **common)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets the learning rate of all groups, in place if it is a tensor."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def saved_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Returns the optimizer's state, with the learning rate as a number."""
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        group["lr"] = float(group["lr"])
    return state


def load_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Loads the state of an earlier run, which may use another memory format (train.channels_last).

    A fused step requires the same memory layout for a parameter and its state. Hyperparameters such as weight decay and
    momentum keep the values of `optimizer`, since the config may have changed. Raises a ValueError for the state of
    another optimizer or model.
    """
    settings = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    if ("betas" in state["param_groups"][0]) != ("betas" in settings[0]):
        raise ValueError("the state of another optimizer")
    saved_state.refuse_other_optimizer(optimizer, state)
    optimizer.load_state_dict(state)
    saved_state.complete_momentum(optimizer)
    for group, values in zip(optimizer.param_groups, settings):
        group.update(values)
    for parameter, buffers in optimizer.state.items():
        for key, value in buffers.items():
            if torch.is_tensor(value) and value.shape == parameter.shape:
                buffers[key] = torch.empty_like(parameter).copy_(value)


def scaled_lr(config: OptimConfig, batch: int) -> float:
    """Applies the linear scaling rule (Goyal et al., 1706.02677): `config.lr` refers to `base_batch` images."""
    return config.lr * batch / config.base_batch if config.base_batch else config.lr
