"""Fast inference: folded norms, channels_last, bfloat16 where the device computes in it, packed or compiled."""

from collections.abc import Callable
from functools import partial
from typing import Literal, TypeVar

import torch

from resdet.backbones.surgery import fold_norms
from resdet.compilation import CompiledPerShape
from resdet.engine.precision import PRECISIONS, choose_precision
from resdet.model import Model
from resdet.onednn import pack_convolutions

Compile = bool | Literal["auto"]

# Elements of one shape that run on a GPU before it is compiled: about 500 images of 800 x 1344. A CPU computes
# convolutions for nearly all of the time, and gains nothing that packed ones do not have already.
PAYS = 3 * 2**29


M = TypeVar("M", bound=Model)


def accelerate(
    model: M, dtype: torch.dtype | None = None, compile: Compile = "auto", backend: str | Callable = "inductor"
) -> M:
    """Prepares a model in place for inference on its device, and returns it; it can no longer be trained or saved.

    `dtype` of convolutions and linear layers: by default bfloat16 where the device computes in it, else float32;
    the normalization of images and boxes stay in float32. `compile`: True compiles each shape of images at its first
    use, "auto" on a GPU after so many images that it pays (a first compilation takes 10 to 60 seconds), and never on a
    CPU, False never. Without a C++ compiler on the machine, the model stays uncompiled. Uncompiled models on x86 CPUs
    pack the weights of convolutions, see `resdet.onednn`.
    """
    device = model.device
    model.accelerated = True
    fold_norms(model)
    dtype = dtype or fast_dtype(device)
    model.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.eval().requires_grad_(False)
    after = eager_elements(compile, device)
    if after is not None:
        model.compile_inference(partial(CompiledPerShape, after=after, backend=backend))
    elif device.type == "cpu":
        pack_convolutions(model)
    return model


def eager_elements(compile: Compile, device: torch.device) -> int | None:
    """Elements of one shape that run before it is compiled; None: it never is."""
    if compile == "auto":
        return PAYS if device.type == "cuda" else None
    return 0 if compile else None


def fast_dtype(device: torch.device) -> torch.dtype:
    return PRECISIONS.get(choose_precision("auto", device), torch.float32)
