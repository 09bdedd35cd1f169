"""Exponential moving average of a model's weights."""

import copy
from itertools import chain

import torch
from torch import Tensor, nn


class ModelEMA(nn.Module):
    """The moving average of a model's parameters and norm statistics; the first update copies them.

    Updates do not synchronize with the device. The state has the format of torch's `AveragedModel`.
    """

    n_averaged: Tensor

    def __init__(self, model: nn.Module, decay: float):
        super().__init__()
        self.module, self.decay = copy.deepcopy(model), decay
        self.register_buffer("n_averaged", torch.zeros((), dtype=torch.int64))
        self.to(next(model.parameters()).device)
        self.started = False

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        averages, values = state_of(self.module), state_of(model)
        if self.started:
            floats = [average.is_floating_point() for average in averages]
            select = lambda tensors, kind: [tensor for tensor, is_float in zip(tensors, floats) if is_float is kind]
            torch._foreach_lerp_(select(averages, True), select(values, True), 1 - self.decay)
            averages, values = select(averages, False), select(values, False)
        if averages:
            torch._foreach_copy_(averages, values)
        self.n_averaged += 1
        self.started = True

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.load_state_dict(state)
        self.started = bool(self.n_averaged > 0)


def state_of(model: nn.Module) -> list[Tensor]:
    return list(chain(model.parameters(), model.buffers()))
