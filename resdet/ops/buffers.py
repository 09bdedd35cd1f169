"""Buffers that require full precision, such as box coordinates and pixel statistics."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class ExactBuffers(nn.Module):
    """Keeps its buffers in float32 when the model is cast to a narrower type (`half`, `bfloat16`, `to`)."""

    def _apply(self, fn: Callable[[Tensor], Tensor], *options: Any) -> nn.Module:
        exact = dict(self.named_buffers(recurse=False))
        super()._apply(fn, *options)
        for name, buffer in exact.items():
            cast = getattr(self, name)
            if cast.dtype.itemsize < torch.float32.itemsize:
                setattr(self, name, buffer.to(cast.device, torch.float32))
        return self
