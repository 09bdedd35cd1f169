"""Fast inference: folded norms, channels_last, bfloat16 on devices with native support, packed or compiled layers."""

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

# Elements of one shape that run on a GPU before compilation: about 500 images of 800 x 1344. On a CPU, convolutions
# take nearly all of the time, and compilation gains nothing over packed ones.
PAYS = 3 * 2**29


M = TypeVar("M", bound=Model)


def accelerate(
    model: M, dtype: torch.dtype | None = None, compile: Compile = "auto", backend: str | Callable = "inductor"
) -> M:
    """Prepares a model in place for inference on its device, and returns it; it can no longer be trained or saved.

    `dtype`: type of convolutions and linear layers; by default bfloat16 on devices with native support, else float32.
    The normalization of images and boxes stay in float32. `compile`: True compiles each image shape at its first use,
    False never compiles, and "auto" compiles on a GPU after enough images to amortize the compilation (10 to 60 seconds
    for the first one), and never on a CPU. Without a C++ compiler on the machine, the model stays uncompiled.
    Uncompiled models on x86 CPUs pack the weights of convolutions, see `resdet.onednn`.
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
    """Returns the number of elements of one shape that run before compilation; None: never compile."""
    if compile == "auto":
        return PAYS if device.type == "cuda" else None
    return 0 if compile else None


def fast_dtype(device: torch.device) -> torch.dtype:
    return PRECISIONS.get(choose_precision("auto", device), torch.float32)
