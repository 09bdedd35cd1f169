"""Faster and Mask R-CNN R50-FPN of torchvision and of resdet, with the same weights.

The random weights are calibrated to behave like trained ones: activations keep their scale through the net, and the
last layers are scaled so that about 600 (RoI, class) pairs score above 0.05 and 100 detections remain after NMS.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from resdet.backbones.config import ResNetConfig
from resdet.detection.build import build_detector
from resdet.detection.config import DetectionExperiment, DetectorConfig, InputConfig
from resdet.detection.heads.config import AnchorConfig, BoxConfig, MaskConfig, RPNConfig
from resdet.detection.model import Detector
from resdet.images.photographs import surface
from resdet.necks.config import FPNConfig
from resdet.weights import load_weights
from resdet.weights.layouts import torchvision_detectors

CLASSES = 80
CANDIDATES, SCORE = 600, 0.05
WINDOWS = 4  # number of patches of other surfaces in a sample image
FROZEN_STAGES = 2  # conv1 and conv2_x, as in training from ImageNet weights


class Counts(NamedTuple):
    """Numbers of RoIs per image; both libraries have these defaults."""

    sampled: int = 512  # in training
    proposals: tuple[int, int] = (2000, 1000)  # training, inference
    detections: int = 100


COUNTS = Counts()
SPREAD = {  # last layer -> target standard deviation of its output
    "rpn.head.cls_logits": 2.0,
    "rpn.head.bbox_pred": 0.3,
    "roi_heads.box_predictor.cls_score": 1.5,
    "roi_heads.box_predictor.bbox_pred": 1.0,
    "roi_heads.mask_predictor.mask_fcn_logits": 3.0,
}


def twins(
    masks: bool, height: int, width: int, body: str = "resnet50", counts: Counts = COUNTS, device: str = "cpu"
) -> tuple[nn.Module, Detector]:
    """Returns torchvision's and resdet's detector in eval mode, calibrated on a `sample_image` of this size."""
    peer = torchvision_detector(masks, height, width, body, counts).to(device)
    calibrate(peer, tensor_of(sample_image(height, width)).to(device))
    return peer, resdet_detector(peer, height, width, counts).to(device)


def sample_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Generates a photo-like image, uint8 RGB [height, width, 3]: a surface with patches of other surfaces."""
    rng = np.random.default_rng(seed)
    image = surface(rng, height, width)
    for _ in range(WINDOWS):
        h, w = (int(rng.integers(side // 8, side // 2)) for side in (height, width))
        y, x = rng.integers(height - h), rng.integers(width - w)
        image[y : y + h, x : x + w] = surface(rng, h, w)
    return image.clip(0, 255).astype(np.uint8)


def tensor_of(pixels: np.ndarray) -> Tensor:
    """Converts an image [H, W, 3] to torchvision's format: float [3, H, W] from 0 to 1."""
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous() / 255


def torchvision_detector(
    masks: bool, height: int, width: int, body: str = "resnet50", counts: Counts = COUNTS
) -> nn.Module:
    """Builds torchvision's detector in eval mode, configured not to resize images of this size."""
    from torchvision.models.detection import FasterRCNN, MaskRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    torch.manual_seed(0)
    backbone = resnet_fpn_backbone(backbone_name=body, weights=None, trainable_layers=5 - FROZEN_STAGES)
    train, test = counts.proposals
    options = {
        "min_size": min(height, width),
        "max_size": max(height, width),
        "rpn_post_nms_top_n_train": train,
        "rpn_post_nms_top_n_test": test,
        "box_batch_size_per_image": counts.sampled,
        "box_detections_per_img": counts.detections,
    }
    return (MaskRCNN if masks else FasterRCNN)(backbone, CLASSES + 1, **options).eval()


@torch.no_grad()
def calibrate(detector: nn.Module, image: Tensor) -> nn.Module:
    """Calibrates the weights of torchvision's detector on an image [3, H, W] from 0 to 1."""
    hooks = [m.register_forward_pre_hook(take_statistics) for m in detector.modules() if hasattr(m, "running_var")]
    for name, layer in detector.named_modules():
        if name in SPREAD:
            spread_first_output(layer, SPREAD[name])
    logits: list[Tensor] = []
    cls_score = detector.get_submodule("roi_heads.box_predictor.cls_score")
    hooks.append(cls_score.register_forward_hook(lambda *call: logits.append(call[2])))
    detector([image])
    for hook in hooks:
        hook.remove()
    cls_score.get_parameter("bias")[0] += background_shift(logits[0])
    return detector


def take_statistics(norm: nn.Module, inputs: tuple[Tensor]) -> None:
    """Forward pre-hook that sets the running statistics of a norm to those of its input [B, C, H, W]."""
    norm.get_buffer("running_var").copy_(inputs[0].var((0, 2, 3)))
    norm.get_buffer("running_mean").copy_(inputs[0].mean((0, 2, 3)))


def spread_first_output(layer: nn.Module, deviation: float) -> None:
    """Rescales the layer at its first call: each output channel [n, C, …] gets mean 0 and this standard deviation."""
    weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")

    def scale(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        hook.remove()
        values = output.transpose(0, 1).flatten(1)
        factor = deviation / values.std(1)
        weight.mul_(factor.view(-1, *[1] * (weight.dim() - 1)))
        bias.copy_((bias - values.mean(1)) * factor)
        return module.forward(*inputs)

    hook = layer.register_forward_hook(scale)


def background_shift(logits: Tensor) -> float:
    """Finds the shift of the background logit (first column) at which CANDIDATES class scores exceed SCORE."""
    low, high = -20.0, 20.0
    for _ in range(30):
        middle = (low + high) / 2
        shifted = torch.cat([logits[:, :1] + middle, logits[:, 1:]], 1)
        count = (shifted.softmax(1)[:, 1:] > SCORE).sum()
        low, high = (middle, high) if count > CANDIDATES else (low, middle)
    return high


def resdet_detector(peer: nn.Module, height: int, width: int, counts: Counts = COUNTS) -> Detector:
    """Builds resdet's detector in eval mode with torchvision's weights, from a config without YAML or validation."""
    state = peer.state_dict()
    settings = torchvision_detectors.settings(state)
    rpn = RPNConfig(
        **settings["rpn"] | {"anchors": AnchorConfig(**settings["rpn"]["anchors"]), "post_nms": counts.proposals}
    )
    config = DetectorConfig(
        backbone=ResNetConfig(**settings["backbone"]),
        num_classes=settings["num_classes"],
        freeze_stages=FROZEN_STAGES,
        neck=FPNConfig(**settings["neck"]),
        rpn=rpn,
        box=BoxConfig(**settings["box"], batch_per_image=counts.sampled, detections=counts.detections),
        mask=MaskConfig(**settings["mask"]) if "mask" in settings else None,
        input=InputConfig(min(height, width), max(height, width), **settings["input"]),
    )
    detector = build_detector(DetectionExperiment(model=config), [str(n) for n in range(CLASSES)])
    load_weights.load(detector, state)
    return detector.eval()
