"""Provides small detectors and images of noise."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from detection.heads import tiny
from narrow import shallow_nets
from torch import nn

from resdet.detection.inference.predictor import results_of
from resdet.export.model import ExportedDetector
from resdet.export.verify import compare_results, exact
from resdet.structures import Images

SHAPE = (64, 96)
KEYPOINTS = "model.keypoint={convs: 1, width: 8, names: [left, right, top], skeleton: [[0, 1], [1, 2]]}"


class File(NamedTuple):
    """A model and the ONNX file that it was exported to."""

    model: nn.Module
    path: Path


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=(height, width, 3), dtype=np.uint8)


def batch(count: int = 1) -> Images:
    """Returns noise images whose last quarter of columns is padding."""
    pixels = torch.from_numpy(np.stack([picture(*SHAPE, seed) for seed in range(count)])).permute(0, 3, 1, 2)
    return Images(pixels, torch.tensor([[64.0, 72.0]]).repeat(count, 1))


def detector(family: str, masks: bool, *overrides: str) -> nn.Module:
    """Returns a detector with a shallow backbone; an FPN has three levels."""
    with shallow_nets():
        return tiny.make(family, masks, "data=coco", *overrides).eval()


def assert_agrees(model: nn.Module, exported: ExportedDetector, count: int = 1) -> None:
    """Compares all detections in padded noise with those of the model in float32 and in float64."""
    images = batch(count)
    sizes = [tuple(size) for size in images.sizes.int().tolist()]
    found = exported.results_of(images, sizes, 0.0)
    for reference in (model, exact(model)):
        with torch.inference_mode():
            expected = results_of(reference, images, sizes, 0.0)
        for ours, theirs in zip(found, expected, strict=True):
            assert len(theirs) > 5
            agrees, note = compare_results(theirs, ours)
            assert agrees, note
