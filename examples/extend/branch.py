"""A custom branch of the RoI heads that predicts the GIoU of each box with its object, clamped to 0..1.

The branch is built if the model's config has a section with its name; this file also registers a task with it.

resdet train --config custom.yaml --import branch task=detection_quality model.quality={}
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

import resdet
from resdet.detection import DetectionExperiment, DetectionTask, DetectorConfig
from resdet.detection.heads.matcher import take
from resdet.ops.boxes import giou


@dataclass
class QualityConfig:
    width: int = 64


@dataclass
class QualityDetectorConfig(DetectorConfig):
    quality: QualityConfig | None = None


@dataclass
class QualityExperiment(DetectionExperiment):
    task: Literal["detection_quality"] = "detection_quality"
    model: QualityDetectorConfig = field(default_factory=QualityDetectorConfig)


@resdet.tasks.register("detection_quality", QualityExperiment)
class QualityTask(DetectionTask):
    """Detection with `model.quality`."""


@resdet.detection.register_roi_branch("quality")
class QualityBranch:
    def __init__(self, config, given):
        self.features = given.features(resolution=7, sampling=2, aligned=True)
        layers = nn.Flatten(), nn.Linear(self.features.channels, config.width), nn.ReLU(), nn.Linear(config.width, 1)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), *layers)  # registered as roi_heads.quality_head

    def losses(self, maps, rois, first_maps, targets):
        expected = self.targets(rois, targets)
        logits = self.head(self.features.of_sample(maps, rois.boxes, first_maps)).view_as(expected).float()
        terms = F.binary_cross_entropy_with_logits(logits, expected, reduction="none").where(rois.positive, 0.0)
        return {"quality": terms.sum() / rois.positive.sum().clamp(min=1)}

    def predict(self, maps, boxes, labels):  # [B, N]; called as model.roi_heads.branches["quality"].predict
        return self.head(self.features(maps, boxes)).view_as(labels).sigmoid()

    @torch.no_grad()
    def targets(self, rois, targets):
        return giou(rois.boxes, take(targets.boxes, rois.objects)).clamp(min=0)
