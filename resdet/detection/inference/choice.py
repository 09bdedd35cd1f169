"""The program that detects with given models and the settings of `eval`."""

from collections.abc import Sequence
from typing import Any

from resdet.detection.inference.config import TTAConfig
from resdet.detection.inference.predictor import BranchPredictor
from resdet.detection.inference.tiles import TiledDetector
from resdet.detection.inference.tta import EnsembleDetector


def choose(models: Sequence[Any], settings: TTAConfig) -> BranchPredictor:
    """The model itself; an ensemble for several, or for test-time augmentation; in tiles if `eval.tile` is set."""
    alone = len(models) == 1 and settings.plain
    detector = models[0] if alone else EnsembleDetector(models, settings)
    if settings.tile is None:
        return detector
    return TiledDetector(detector, settings.tile, settings.overlap, detector.nms)
