"""Skips random initialization while a checkpoint's model is built, and limits the model's size to the file's."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from resdet.errors import WeightsError

FACTORIES = {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.arange, torch.linspace}
RANDOM = {
    *(nn.init.kaiming_normal_, nn.init.kaiming_uniform_, nn.init.xavier_normal_, nn.init.xavier_uniform_),
    *(nn.init.normal_, nn.init.uniform_, nn.init.trunc_normal_, Tensor.normal_, Tensor.uniform_),
}
SPARE_VALUES, SPARE_TENSORS = 10_000_000, 10_000  # allowance for temporaries


class SkipInit(TorchFunctionMode):
    """A context that skips initialization and counts tensors before their memory is allocated.

    The config in a malicious file may specify any number of layers of any width. Every tensor of a model must be in its
    file, so a model that outgrows the file raises a WeightsError.
    """

    def __init__(self, state: Mapping[str, Tensor], origin: str):
        super().__init__()
        self.origin = origin
        self.values = 2 * sum(tensor.numel() for tensor in state.values()) + SPARE_VALUES
        self.tensors = 8 * len(state) + SPARE_TENSORS

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in RANDOM:
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        if func in FACTORIES:
            self.count(func(*args, **{**kwargs, "device": "meta"}))
        return func(*args, **kwargs)

    def count(self, tensor: Tensor) -> None:
        self.tensors -= 1
        self.values -= tensor.numel()
        if min(self.tensors, self.values) < 0:
            raise WeightsError(
                f"{self.origin}: the config describes a far larger net than the tensors: save the model again."
            )
