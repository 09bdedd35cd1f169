"""Faster R-CNN and its family: boxes, masks and keypoints of the objects in an image."""

from typing import TYPE_CHECKING

from resdet._lazy import attach

if TYPE_CHECKING:
    from resdet.detection.config import DetectionExperiment as DetectionExperiment
    from resdet.detection.config import DetectorConfig as DetectorConfig
    from resdet.detection.data.annotations import Annotations as Annotations
    from resdet.detection.data.coco import from_coco as from_coco
    from resdet.detection.data.coco import open_coco as open_coco
    from resdet.detection.data.config import ScenesConfig as ScenesConfig
    from resdet.detection.evaluation import coco as coco
    from resdet.detection.evaluation import voc as voc
    from resdet.detection.evaluation.protocols import register_evaluator as register_evaluator
    from resdet.detection.evaluation.results import Results as Results
    from resdet.detection.formats.registry import register_format as register_format
    from resdet.detection.heads.registry import register_box_head as register_box_head
    from resdet.detection.heads.registry import register_box_loss as register_box_loss
    from resdet.detection.heads.registry import register_class_loss as register_class_loss
    from resdet.detection.heads.registry import register_mask_head as register_mask_head
    from resdet.detection.heads.registry import register_roi_branch as register_roi_branch
    from resdet.detection.inference.config import TTAConfig as TTAConfig
    from resdet.detection.inference.tracker import Tracker as Tracker
    from resdet.detection.inference.tta import EnsembleDetector as EnsembleDetector
    from resdet.detection.model import Detector as Detector
    from resdet.detection.records import images_from_list as images_from_list
    from resdet.detection.records import targets_from_list as targets_from_list
    from resdet.detection.task import DetectionTask as DetectionTask

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
        "register_format": "formats.registry",
        "register_box_head": "heads.registry",
        "register_mask_head": "heads.registry",
        "register_roi_branch": "heads.registry",
        "register_box_loss": "heads.registry",
        "register_class_loss": "heads.registry",
        "EnsembleDetector": "inference.tta",
        "TTAConfig": "inference.config",
        "Tracker": "inference.tracker",
        "Results": "evaluation.results",
        "coco": "evaluation.coco",
        "voc": "evaluation.voc",
    },
)
