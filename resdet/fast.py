"""Fast inference: folded norms, channels_last, bfloat16, compiled."""

from typing import Any

import torch

from resdet.backbones.surgery import fold_norms


def accelerate(model: Any, dtype: torch.dtype = torch.bfloat16, compile: bool = True) -> Any:
    """Prepares a model for inference in place, and returns it; normalization and boxes stay in float32.

    Each padded image shape is compiled separately: use few shapes with a detector.
    """
    fold_norms(model)
    model.to(dtype=dtype, memory_format=torch.channels_last)
    model.eval().requires_grad_(False)
    if compile:
        model.compile_inference()
    return model
