"""Builds detectors of torchvision and resdet without weights, on the meta device."""

from functools import cache

import torch
from torch import Tensor, nn
from torchvision.models import detection

from resdet import config as configs
from resdet.hub import build_for

FOUR = ["fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2", "maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2"]
KEYPOINTS = "keypointrcnn_resnet50_fpn"


@cache
def on_paper(name: str) -> dict[str, Tensor]:
    """Returns the state dict of a torchvision detector on the meta device."""
    with torch.device("meta"):
        return getattr(detection, name)(weights=None, weights_backbone=None).state_dict()


def build(settings: dict) -> nn.Module:
    with torch.device("meta"):
        experiment = configs.from_dict({"task": "detection", "model": settings})
        return build_for(experiment, [str(n) for n in range(settings["num_classes"])])
