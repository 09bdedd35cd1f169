"""Runs models on fake tensors of a GPU, and fails where they would wait for it."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from resdet.structures import each

DEVICE = torch.device("cuda", 0)
OLD = tuple(map(int, torch.__version__.split(".")[:2])) < (2, 11)
needs_fake_gpu = pytest.mark.skipif(OLD, reason="torch 2.6 calls the driver for a fake CUDA tensor; tried from 2.11")
WAITING = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::unique2", "aten::equal"}


class Waits(AssertionError):
    """Raised for an operation that waits for the device."""


class NoSync(TorchDispatchMode):
    """Raises at operations that wait for the device: reading values, value-dependent shapes, copies across devices."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name
        given = {leaf.device.type for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor) and leaf.dim()}
        made = {leaf.device.type for leaf in tree_leaves(result) if isinstance(leaf, Tensor)}
        if name in WAITING and "cuda" in given:
            raise Waits(name)
        if name in ("aten::_to_copy", "aten::copy_") and len(given | made) > 1:
            raise Waits(f"{name} from {given} to {made}")
        if name in ("aten::index", "aten::index_put_") and any(
            isinstance(leaf, Tensor) and leaf.dtype in (torch.bool, torch.uint8) for leaf in args[1]
        ):
            raise Waits(f"{name} by a mask")
        return result


def on_device(model: nn.Module) -> nn.Module:
    """Moves parameters and buffers to the fake GPU; call it within a FakeTensorMode."""

    def empty(tensor: Tensor) -> Tensor:
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=DEVICE)

    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(empty(parameter), requires_grad=parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = empty(buffer)
    return model


def batch_on_device(*records: Any) -> list[Any]:
    return [each(record, lambda x: torch.empty(x.shape, dtype=x.dtype, device=DEVICE)) for record in records]
