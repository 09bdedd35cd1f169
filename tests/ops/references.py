"""NMS and RoIAlign in plain torch: the references of the operators' kernels."""

import torch
from torch import Tensor

from resdet.ops.boxes import iou
from resdet.ops.nms import _best
from resdet.ops.rois import image_of_each


def nms_reference(
    boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, threshold: float, keep: int
) -> tuple[Tensor, Tensor]:
    """`nms` in plain torch with an N x N matrix."""
    return _best(survivors, boxes, scores, groups, valid, threshold, keep)


def survivors(boxes: Tensor, groups: Tensor, valid: Tensor, threshold: float) -> Tensor:
    suppresses = (iou(boxes, boxes) > threshold) & (groups[:, :, None] == groups[:, None, :])
    survives = valid.clone()
    for i in range(boxes.shape[1]):
        survives[:, i + 1 :] &= ~(survives[:, i, None] & suppresses[:, i, i + 1 :])
    return survives


def roi_align_reference(
    features: list[Tensor],
    boxes: Tensor,
    levels: Tensor,
    scales: list[float],
    size: int,
    sampling: int = 2,
    aligned: bool = True,
    images: Tensor | None = None,
) -> Tensor:
    """`roi_align` in plain torch, with a dense matrix for the rows and one for the columns of each RoI."""
    images = (image_of_each(boxes) if images is None else images).flatten()
    x1, y1, x2, y2 = boxes.flatten(0, 1).unbind(-1)
    out = torch.zeros((), dtype=features[0].dtype, device=boxes.device)
    for level, (feature, scale) in enumerate(zip(features, scales)):
        rows = _dense(y1, y2, feature.shape[2], scale, size, sampling, aligned).to(feature.dtype)
        columns = _dense(x1, x2, feature.shape[3], scale, size, sampling, aligned).to(feature.dtype)
        bins = torch.einsum("nih,nchw,njw->ncij", rows, feature[images], columns)
        out = torch.where((levels == level).view(-1, 1, 1, 1), bins, out)
    return out.view(*boxes.shape[:2], *out.shape[1:])


def _dense(start: Tensor, end: Tensor, limit: int, scale: float, size: int, sampling: int, aligned: bool) -> Tensor:
    """[n, size, limit]: weight of each pixel in each bin, along one axis."""
    length = (end - start) * scale
    start = start * scale - 0.5 if aligned else start * scale
    bin = (length if aligned else length.clamp(min=1))[:, None, None] / size
    samples = torch.full_like(bin, sampling) if sampling > 0 else bin.ceil()  # [n, 1, 1]
    sample = torch.arange(max([1, *samples.int().flatten().tolist()]), device=start.device)
    bins = torch.arange(size, device=start.device)[:, None]
    positions = start[:, None, None] + bins * bin + (sample + 0.5) * bin / samples.clamp(min=1)
    counts = (positions >= -1) & (positions <= limit) & (sample < samples)
    pixels = torch.arange(limit, device=start.device)
    hats = (1 - (positions.clamp(0, limit - 1)[..., None] - pixels).abs()).clamp(min=0)
    return (hats * counts[..., None]).sum(2) / samples.clamp(min=1)
