"""Fast inference: folded norms, channels_last, bfloat16 where the device computes in it, compiled when it pays."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, Protocol, TypeVar, cast

import torch
from torch import nn

from resdet.backbones.surgery import fold_norms
from resdet.compilation import CompiledPerShape
from resdet.engine.trainer import PRECISIONS, choose_precision

Compile = bool | Literal["auto"]

# Elements of one shape that run before it is compiled. On a CPU, 16 images of 800 x 1344: a ResNet-50-FPN detector then
# saves in as many further images what its compilation takes. A GPU is some thirty times as fast, its compiler is not.
PAYS = {"cpu": 3 * 2**24, "cuda": 3 * 2**29}


class Compilable(Protocol):
    """A model of any task."""

    def compile_inference(self, compile: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Replaces the functions that inference spends its time in by `compile` of them."""


M = TypeVar("M", bound=nn.Module)


def accelerate(
    model: M, dtype: torch.dtype | None = None, compile: Compile = "auto", backend: str | Callable = "inductor"
) -> M:
    """Prepares a model in place for inference on its device, for good, and returns it.

    `dtype` of convolutions and linear layers: by default bfloat16 where the device computes in it, else float32;
    normalization and boxes stay in float32. `compile`: True compiles each shape of images at its first use, "auto"
    after so many images that it pays (a first compilation takes 10 to 60 seconds), False never. Without a C++ compiler
    on the machine, the model stays uncompiled.
    """
    device = next(model.parameters()).device
    fold_norms(model)
    model.to(dtype=dtype or fast_dtype(device), memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.eval().requires_grad_(False)
    if compile:
        after = PAYS.get(device.type, PAYS["cuda"]) if compile == "auto" else 0
        cast(Compilable, model).compile_inference(partial(CompiledPerShape, after=after, backend=backend))
    return model


def fast_dtype(device: torch.device) -> torch.dtype:
    return PRECISIONS.get(choose_precision("auto", device), torch.float32)
