"""RoIPool (Appendix A) with torchvision's kernels: pools RoIs from a feature map to a fixed size."""

import torch
from torch import Tensor

from resdet.ops.operators import define
from resdet.ops.rois import RoIs, image_of_each, torchvision_rows
from resdet.optional import torchvision_operators


def roi_pool(feature: Tensor, boxes: Tensor, scale: float, size: int) -> Tensor:
    """Applies RoIPool (Fast R-CNN, section 2.1): the maximum of each bin of whole pixels.

    feature [B, C, h, w], boxes [B, N, 4] in image pixels, scale: pixels of the map per image pixel. Returns
    [B, N, C, size, size] in the dtype of the feature; only the feature receives a gradient.
    """
    return roi_pool_with_indices(feature, boxes, scale, size)[0]


def _forward(feature: Tensor, boxes: Tensor, scale: float, size: int) -> tuple[Tensor, Tensor]:
    """Returns the maxima, and their flat indices in the map."""
    rois = _rows(boxes, feature)
    pooled, indices = torchvision_operators().roi_pool(feature.to(rois.dtype), rois, scale, size, size)
    shape = (*boxes.shape[:2], *pooled.shape[1:])
    return pooled.to(feature.dtype).view(shape), indices.view(shape)


def _fake_forward(feature, boxes, scale, size):
    shape = (*boxes.shape[:2], feature.shape[1], size, size)
    return feature.new_empty(shape), feature.new_empty(shape, dtype=torch.int32)


def _backward(grad: Tensor, boxes: Tensor, indices: Tensor, scale: float, height: int, width: int) -> Tensor:
    batch, _, channels, size, _ = grad.shape
    rois = _rows(boxes, grad)
    bins = grad.flatten(0, 1).to(rois.dtype)
    sizes = (size, size, batch, channels, height, width)
    pixels = torchvision_operators()._roi_pool_backward(bins, rois, indices.flatten(0, 1), scale, *sizes)
    return pixels.to(grad.dtype)


def _fake_backward(grad, boxes, indices, scale, height, width):
    return grad.new_empty(grad.shape[0], grad.shape[2], height, width)


def _save_context(ctx, inputs, output):
    feature, boxes, ctx.scale, _ = inputs
    ctx.sides = feature.shape[2:]
    ctx.save_for_backward(boxes, output[1])
    ctx.mark_non_differentiable(output[1])


def _gradients(ctx, grad, _):
    return roi_pool_backward(grad, *ctx.saved_tensors, ctx.scale, *ctx.sides), None, None, None


FORWARD = "roi_pool(Tensor feature, Tensor boxes, float scale, SymInt size) -> (Tensor, Tensor)"
BACKWARD = (
    "roi_pool_backward(Tensor grad, Tensor boxes, Tensor indices, float scale, SymInt height, SymInt width) -> Tensor"
)
roi_pool_backward = define(BACKWARD, cpu=_backward, cuda=_backward, fake=_fake_backward)
roi_pool_with_indices = define(
    FORWARD, cpu=_forward, cuda=_forward, fake=_fake_forward, backward=_gradients, setup_context=_save_context
)


def _rows(boxes: Tensor, like: Tensor) -> Tensor:
    return torchvision_rows(RoIs(image_of_each(boxes).flatten(), boxes.flatten(0, 1)), like)
