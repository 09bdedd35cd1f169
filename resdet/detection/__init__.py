"""Faster R-CNN and its family: boxes and masks of the objects in an image."""

from resdet._lazy import attach

__getattr__, __dir__ = attach(
    __name__,
    {
        "Detector": "model",
        "EnsembleDetector": "inference.tta",
        "TTAConfig": "inference.config",
        "Results": "evaluation.results",
        "coco": "evaluation.coco",
        "voc": "evaluation.voc",
    },
)
