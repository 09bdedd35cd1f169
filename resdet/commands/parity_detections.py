"""Detections of another library in an image, and their differences from resdet's."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from resdet.bench.detection import tensor_of
from resdet.detection.inference import compare
from resdet.results.result import Result

# boxes [n, 4], scores [n], labels [n] from 0, masks bool [n, H, W] or None
PeerDetections = tuple[Tensor, Tensor, Tensor, Tensor | None]


def predict_torchvision(detector: nn.Module, image: np.ndarray, short: int, long: int) -> PeerDetections:
    output = detector([tensor_of(image.astype(np.float64))])[0]
    masks = output["masks"][:, 0] > 0.5 if "masks" in output else None
    return output["boxes"], output["scores"], output["labels"] - 1, masks


def single(value: Any) -> Any:
    """Converts nested lists of tensors to float32."""
    return [single(entry) for entry in value] if isinstance(value, (list, tuple)) else value.float()


def predict_detectron2(detector: nn.Module, image: np.ndarray, short: int, long: int) -> PeerDetections:
    """Rounds head outputs, computed in float64, to float32, which detectron2's NMS requires."""
    from detectron2.data.transforms import ResizeShortestEdge
    from detectron2.modeling.proposal_generator.rpn import StandardRPNHead
    from detectron2.modeling.roi_heads import FastRCNNOutputLayers

    for module in detector.modules():
        if isinstance(module, (StandardRPNHead, FastRCNNOutputLayers)):
            module.register_forward_hook(lambda module, inputs, output: single(output))
    pixels = image[:, :, ::-1]
    resized = ResizeShortestEdge([short, short], long).get_transform(pixels).apply_image(pixels)
    tensor = torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1)))
    instances = detector([{"image": tensor, "height": image.shape[0], "width": image.shape[1]}])[0]["instances"]
    masks = instances.pred_masks if instances.has("pred_masks") else None
    return instances.pred_boxes.tensor, instances.scores, instances.pred_classes, masks


PREDICT = {"torchvision": predict_torchvision, "detectron2": predict_detectron2}


def differences(
    result: Result, boxes: Tensor, scores: Tensor, labels: Tensor, masks: Tensor | None
) -> dict[str, float]:
    """Returns the largest differences from the peer's detections; infinite if they do not match one to one."""
    expected = compare.DetectionTuple(
        boxes.numpy(), scores.numpy(), labels.numpy(), None if masks is None else masks.numpy()
    )
    pairs = compare.pair(result, expected, pixels=np.inf, scores=np.inf)
    if not len(result) == len(scores) == len(np.unique(pairs.actual)) > 0:
        return {"detections": float("inf")}
    largest = {
        f"boxes of {len(result)} detections, in pixels": pairs.pixels.max().item(),
        "scores": pairs.scores.max().item(),
    }
    if pairs.ious is not None:
        largest["masks, 1 - IoU"] = (1 - pairs.ious).max().item()
    return largest
