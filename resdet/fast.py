"""The fast path of inference: folded norms, channels_last, bfloat16, compiled."""

import torch
from torch import nn

from resdet.backbones.surgery import fold_norms


def accelerate(model: nn.Module, dtype: torch.dtype = torch.bfloat16, compile: bool = True) -> nn.Module:
    """Prepares a model for inference alone, in place. Pixels are normalized and boxes computed in float32 still.

    It compiles anew for each shape of images, padding included: give a detector few of them.
    """
    fold_norms(model)
    model.to(dtype=dtype, memory_format=torch.channels_last)
    model.eval().requires_grad_(False)
    if compile:
        model.compile_inference()
    return model
