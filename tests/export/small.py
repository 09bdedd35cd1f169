"""Small detectors, and noise for them to see."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from detection.heads import tiny
from narrow import shallow_resnets
from torch import nn

from resdet.structures import Images

SHAPE = (64, 96)


class File(NamedTuple):
    """A model, and the ONNX file it was exported to."""

    model: nn.Module
    path: Path


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=(height, width, 3), dtype=np.uint8)


def batch(count: int = 1) -> Images:
    """Noise, the last quarter of its columns padding."""
    pixels = torch.from_numpy(np.stack([picture(*SHAPE, seed) for seed in range(count)])).permute(0, 3, 1, 2)
    return Images(pixels, torch.tensor([[64.0, 72.0]]).repeat(count, 1))


def detector(family: str, masks: bool, *overrides: str) -> nn.Module:
    """With a shallow backbone."""
    with shallow_resnets():
        return tiny.make(family, masks, "data=coco", *overrides).eval()
