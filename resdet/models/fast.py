"""The fast path of inference: folded norms, channels_last, bfloat16, compiled."""

import torch

from resdet.backbones.surgery import fold_norms
from resdet.models.classifier import Classifier
from resdet.models.detector import Detector

Model = Classifier | Detector


def accelerate(model: Model, dtype: torch.dtype = torch.bfloat16, compile: bool = True) -> Model:
    """Prepares a model for inference alone, in place. Pixels are normalised and boxes computed in float32 still.

    It compiles anew for each shape of images, padding included: give a detector few of them.
    """
    fold_norms(model)
    model.to(dtype=dtype, memory_format=torch.channels_last)
    model.eval().requires_grad_(False)
    if compile:
        compile_whole(model)
    return model


def compile_whole(model: Model) -> None:
    if isinstance(model, Classifier):
        model.compile()
    else:
        model.detect = torch.compile(model.detect, fullgraph=True, dynamic=False)
        if model.draws_masks:
            model.regions.mask_head.compile(dynamic=False)
