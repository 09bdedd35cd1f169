"""Faster and Mask R-CNN, ResNet-50 on a pyramid, by torchvision and by us with the same weights.

The weights are random and brought to where trained ones are: each layer's output keeps its scale through the net, and
the last layers speak so that about 600 pairs of a region and a class score above 0.05, and 100 detections stand.
"""

import numpy as np
import torch
from torch import Tensor, nn

from resdet import config as configs
from resdet.detection.model import Detector
from resdet.hub import build_for
from resdet.weights import loading
from resdet.weights.layouts import torchvision_detectors

CLASSES = 80
CANDIDATES, SCORE = 600, 0.05
FROZEN_STAGES = 2  # conv1 and conv2_x, as both train from ImageNet weights
SPREAD = {  # the standard deviation of each last layer's output
    "rpn.head.cls_logits": 2.0,
    "rpn.head.bbox_pred": 0.3,
    "roi_heads.box_predictor.cls_score": 1.5,
    "roi_heads.box_predictor.bbox_pred": 1.0,
    "roi_heads.mask_predictor.mask_fcn_logits": 3.0,
}


def twins(masks: bool, height: int, width: int, body: str = "resnet50") -> tuple[nn.Module, Detector]:
    """torchvision's detector and ours for `picture`s of this size, in eval mode."""
    theirs = torchvision_detector(masks, height, width, body)
    calibrate(theirs, tensor_of(picture(height, width)))
    return theirs, resdet_detector(theirs, height, width)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A generated photograph, uint8 RGB [height, width, 3]."""
    import cv2

    from resdet.images.photographs import photograph

    return cv2.resize(photograph(np.random.default_rng(seed)), (width, height))


def tensor_of(pixels: np.ndarray) -> Tensor:
    """As torchvision's detectors take images: [3, H, W], 0 to 1."""
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous() / 255


def torchvision_detector(masks: bool, height: int, width: int, body: str = "resnet50") -> nn.Module:
    """torchvision's, for images of this size, which it then does not resize; in eval mode."""
    from torchvision.models.detection import FasterRCNN, MaskRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    torch.manual_seed(0)
    backbone = resnet_fpn_backbone(backbone_name=body, weights=None, trainable_layers=5 - FROZEN_STAGES)
    sides = {"min_size": min(height, width), "max_size": max(height, width)}
    return (MaskRCNN if masks else FasterRCNN)(backbone, CLASSES + 1, **sides).eval()


@torch.no_grad()
def calibrate(detector: nn.Module, image: Tensor) -> nn.Module:
    """Brings the weights of torchvision's detector to where trained ones are, on an image [3, H, W], 0 to 1."""
    hooks = [m.register_forward_pre_hook(take_statistics) for m in detector.modules() if hasattr(m, "running_var")]
    for name, layer in detector.named_modules():
        if name in SPREAD:
            spread_first_output(layer, SPREAD[name])
    logits = []
    hooks.append(detector.roi_heads.box_predictor.cls_score.register_forward_hook(lambda *call: logits.append(call[2])))
    detector([image])
    for hook in hooks:
        hook.remove()
    detector.roi_heads.box_predictor.cls_score.bias[0] += background(logits[0])
    return detector


def take_statistics(norm: nn.Module, given: tuple[Tensor]) -> None:
    """Each norm brings what comes first to mean 0 and variance 1."""
    norm.running_var.copy_(given[0].var((0, 2, 3))), norm.running_mean.copy_(given[0].mean((0, 2, 3)))


def spread_first_output(layer: nn.Module, wanted: float) -> None:
    """Scales the layer so that each channel of its first output [n, C, …] has mean 0 and this standard deviation."""

    def scale(module: nn.Module, given: tuple, output: Tensor) -> Tensor:
        hook.remove()
        values = output.transpose(0, 1).flatten(1)
        factor = wanted / values.std(1)
        layer.weight.mul_(factor.view(-1, *[1] * (layer.weight.dim() - 1)))
        layer.bias.copy_((layer.bias - values.mean(1)) * factor)
        return module.forward(*given)

    hook = layer.register_forward_hook(scale)


def background(logits: Tensor) -> float:
    """What the background's logit, the first of each row, must gain so that CANDIDATES others score above SCORE."""
    low, high = -20.0, 20.0
    for _ in range(30):
        middle = (low + high) / 2
        shifted = torch.cat([logits[:, :1] + middle, logits[:, 1:]], 1)
        found = (shifted.softmax(1)[:, 1:] > SCORE).sum()
        low, high = (middle, high) if found > CANDIDATES else (low, middle)
    return high


def resdet_detector(theirs: nn.Module, height: int, width: int) -> Detector:
    """Ours with the weights of torchvision's, in eval mode."""
    state = theirs.state_dict()
    model = torchvision_detectors.settings(state) | {"freeze_stages": FROZEN_STAGES}
    model["input"] |= {"min_size": min(height, width), "max_size": max(height, width)}
    detector = build_for(configs.from_dict({"task": "detection", "model": model}), [str(n) for n in range(CLASSES)])
    loading.load(detector, state)
    return detector.eval()
