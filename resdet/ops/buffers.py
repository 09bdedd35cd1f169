"""Buffers whose digits count: coordinates of boxes, statistics of pixels."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class ExactBuffers(nn.Module):
    """Its own buffers stay in float32 where the model is cast to a type of fewer digits (`half`, `bfloat16`, `to`)."""

    def _apply(self, fn: Callable[[Tensor], Tensor], *options: Any) -> nn.Module:
        exact = dict(self.named_buffers(recurse=False))
        super()._apply(fn, *options)
        for name, buffer in exact.items():
            cast = getattr(self, name)
            if cast.dtype.itemsize < torch.float32.itemsize:
                setattr(self, name, buffer.to(cast.device, torch.float32))
        return self
