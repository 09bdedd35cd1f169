"""Selects the predictor for given models and the settings of `eval`."""

from collections.abc import Sequence
from typing import Any

from resdet.detection.inference.config import TTAConfig
from resdet.detection.inference.predictor import BranchPredictor
from resdet.detection.inference.tiles import TiledDetector
from resdet.detection.inference.tta import EnsembleDetector


def choose(models: Sequence[Any], settings: TTAConfig) -> BranchPredictor:
    """Returns the model itself, or an ensemble for several models or test-time augmentation; tiled with `eval.tile`."""
    alone = len(models) == 1 and settings.plain
    detector = models[0] if alone else EnsembleDetector(models, settings)
    if settings.tile is None:
        return detector
    return TiledDetector(detector, settings.tile, settings.overlap, detector.nms)
