"""Another library's detections in an image, and how far ours are from them."""

import numpy as np
import torch
from torch import Tensor, nn

from resdet.bench.detection import tensor_of
from resdet.detection.inference import compare
from resdet.results.result import Result

FoundInImage = tuple[
    Tensor, Tensor, Tensor, Tensor | None
]  # boxes [n, 4], scores, labels from 0 on, masks [n, H, W] bool


def of_torchvision(detector: nn.Module, image: np.ndarray, short: int, long: int) -> FoundInImage:
    found = detector([tensor_of(image.astype(np.float64))])[0]
    masks = found["masks"][:, 0] > 0.5 if "masks" in found else None
    return found["boxes"], found["scores"], found["labels"] - 1, masks


def of_detectron2(detector: nn.Module, image: np.ndarray, short: int, long: int) -> FoundInImage:
    """Its suppression takes float32 alone: what the heads say is rounded, after it was computed in float64."""
    from detectron2.data.transforms import ResizeShortestEdge
    from detectron2.modeling.proposal_generator.rpn import StandardRPNHead
    from detectron2.modeling.roi_heads import FastRCNNOutputLayers

    single = lambda value: [single(v) for v in value] if isinstance(value, (list, tuple)) else value.float()
    for module in detector.modules():
        if isinstance(module, (StandardRPNHead, FastRCNNOutputLayers)):
            module.register_forward_hook(lambda module, given, output: single(output))
    pixels = image[:, :, ::-1]
    resized = ResizeShortestEdge([short, short], long).get_transform(pixels).apply_image(pixels)
    tensor = torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1)))
    found = detector([{"image": tensor, "height": image.shape[0], "width": image.shape[1]}])[0]["instances"]
    masks = found.pred_masks if found.has("pred_masks") else None
    return found.pred_boxes.tensor, found.scores, found.pred_classes, masks


PREDICT = {"torchvision": of_torchvision, "detectron2": of_detectron2}


def differences(found: Result, boxes: Tensor, scores: Tensor, labels: Tensor, masks: Tensor | None) -> dict[str, float]:
    """Detections beside theirs; infinite where these are others."""
    theirs = compare.DetectionTuple(
        *(None if field is None else field.numpy() for field in (boxes, scores, labels, masks))
    )
    pairs = compare.pair(found, theirs, pixels=np.inf, scores=np.inf)
    if not len(found) == len(scores) == len(np.unique(pairs.found)) > 0:
        return {"detections": float("inf")}
    result = {
        f"boxes of {len(found)} detections, in pixels": pairs.pixels.max().item(),
        "their scores": pairs.scores.max().item(),
    }
    if pairs.ious is not None:
        result["their masks, 1 - IoU"] = (1 - pairs.ious).max().item()
    return result
