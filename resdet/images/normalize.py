"""Normalization of uint8 images; part of the model, so that a checkpoint contains its statistics."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from resdet.ops.buffers import ExactBuffers


class Normalize(ExactBuffers):
    """Computes (pixels - mean) / std on the device, for RGB images with values 0 to 255.

    `mean` is [3, 1, 1] per channel, or [3, H, W] per pixel as in the paper (sections 3.4 and 4.2). Images of another
    size, as in multi-scale testing, use the average of a per-pixel mean.

    Casting the model to another dtype (`half`, `double`, `to`) only changes the dtype of the result.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, mean: Sequence[float] | Tensor = (0.0, 0.0, 0.0), std: Sequence[float] | Tensor = (1.0, 1.0, 1.0)
    ):
        super().__init__()
        self.register_buffer("mean", as_map(mean))
        self.register_buffer("std", as_map(std))
        self.dtype = torch.float32  # of the result

    def _apply(self, fn: Callable[[Tensor], Tensor], *options: Any) -> "Normalize":
        super()._apply(fn, *options)
        self.dtype = fn(torch.empty(0, dtype=self.dtype, device=self.std.device)).dtype
        return self

    def set(self, mean: Tensor, std: Tensor) -> None:
        """Replaces the statistics, in any of the shapes above, for example with those of pretrained weights."""
        self.mean, self.std = (as_map(values).to(self.std.device) for values in (mean, std))

    def average(self) -> None:
        """Reduces a per-pixel mean to one color, for a net with images of varying size."""
        self.set(self.mean.mean((1, 2)), self.std)

    def _load_from_state_dict(self, state: Mapping[str, Tensor], prefix: str, *rest: Any) -> None:
        """Adopts the shape of the checkpoint's statistics before loading them."""
        for name, present in (("mean", self.mean), ("std", self.std)):
            if prefix + name in state:
                setattr(self, name, present.new_empty(state[prefix + name].shape))
        super()._load_from_state_dict(state, prefix, *rest)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] uint8 or float -> [B, 3, H, W] float."""
        fits = self.mean.shape[1:] in ((1, 1), images.shape[2:])
        mean = self.mean if fits else self.mean.mean((1, 2), keepdim=True)
        return ((images.float() - mean) / self.std).to(self.dtype)


def as_map(values: Sequence[float] | Tensor) -> Tensor:
    """Reshapes [3] to [3, 1, 1]; returns maps unchanged."""
    values = torch.as_tensor(values, dtype=torch.float32)
    return values if values.dim() == 3 else values[:, None, None]
