"""Faster R-CNN and its family: boxes and masks of the objects in an image."""

from resdet._lazy import attach

__getattr__, __dir__ = attach(
    __name__,
    {
        "Detector": "model",
        "images_from_list": "records",
        "targets_from_list": "records",
        "DetectionExperiment": "config",
        "DetectionTask": "task",
        "DetectorConfig": "config",
        "Annotations": "data.annotations",
        "ScenesConfig": "data.config",
        "from_coco": "data.coco",
        "open_coco": "data.coco",
        "register_evaluator": "evaluation.protocols",
        "register_box_head": "heads.registry",
        "register_mask_head": "heads.registry",
        "register_box_loss": "heads.registry",
        "register_class_loss": "heads.registry",
        "EnsembleDetector": "inference.tta",
        "TTAConfig": "inference.config",
        "Results": "evaluation.results",
        "coco": "evaluation.coco",
        "voc": "evaluation.voc",
    },
)
