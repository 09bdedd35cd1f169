"""Fast inference: folded norms, channels_last, bfloat16 where the device computes in it, compiled when it pays."""

from collections.abc import Callable
from functools import partial
from typing import Literal, TypeVar

import torch

from resdet.backbones.surgery import fold_norms
from resdet.compilation import CompiledPerShape
from resdet.engine.precision import PRECISIONS, choose_precision
from resdet.model import Model

Compile = bool | Literal["auto"]

# Elements of one shape that run before it is compiled: on a CPU 64 images of 800 x 1344, on a GPU eight times as many,
# since it is faster and its compiler is not. Folded float32 convolutions on a CPU gain too little.
PAYS = {("cpu", torch.bfloat16): 3 * 2**26, ("cuda", torch.bfloat16): 3 * 2**29, ("cuda", torch.float32): 3 * 2**29}


M = TypeVar("M", bound=Model)


def accelerate(
    model: M, dtype: torch.dtype | None = None, compile: Compile = "auto", backend: str | Callable = "inductor"
) -> M:
    """Prepares a model in place for inference on its device, and returns it; it cannot be trained any more.

    `dtype` of convolutions and linear layers: by default bfloat16 where the device computes in it, else float32;
    the normalization of images and boxes stay in float32. `compile`: True compiles each shape of images at its first
    use, "auto" after so many images that it pays (a first compilation takes 10 to 60 seconds; never in float32 on a
    CPU), False never. Without a C++ compiler on the machine, the model stays uncompiled.
    """
    device = next(model.parameters()).device
    fold_norms(model)
    dtype = dtype or fast_dtype(device)
    model.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.eval().requires_grad_(False)
    after = PAYS.get((device.type, dtype)) if compile == "auto" else 0
    if compile and after is not None:
        model.compile_inference(partial(CompiledPerShape, after=after, backend=backend))
    return model


def fast_dtype(device: torch.device) -> torch.dtype:
    return PRECISIONS.get(choose_precision("auto", device), torch.float32)
