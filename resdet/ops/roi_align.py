"""RoIAlign over pyramid levels: pools RoIs from feature maps to a fixed size.

`resdet::roi_align` has static shapes. On CPUs it gathers rows (roi_taps.py), or runs torchvision's kernel if the number
of samples is adaptive; on CUDA it is a Triton kernel.
"""

import torch
from torch import Tensor

from resdet.ops import roi_taps
from resdet.ops.boxes import area
from resdet.ops.operators import define
from resdet.ops.roi_taps import Bins
from resdet.ops.rois import RoIs, image_of_each, torchvision_rows
from resdet.optional import torchvision_operators


def assign_levels(boxes: Tensor, levels: int, canonical_size: float = 224.0, canonical_level: int = 2) -> Tensor:
    """Assigns boxes [..., 4] to pyramid levels by size (FPN, eq. 1): [...] int64, 0 to levels - 1.

    A box of area `canonical_size` squared belongs to `canonical_level`, counted from the finest map.
    """
    level = canonical_level + torch.log2(area(boxes).sqrt() / canonical_size) + 1e-6
    # A diverged net outputs NaN, which has no integer value.
    return level.floor().nan_to_num(0).clamp(0, levels - 1).long()


def roi_align(
    features: list[Tensor],
    boxes: Tensor,
    levels: Tensor,
    scales: list[float],
    size: int,
    sampling: int = 2,
    aligned: bool = True,
    images: Tensor | None = None,
) -> Tensor:
    """Applies RoIAlign (Mask R-CNN, section 3), pooling each RoI from the feature map of its level.

    Args:
        features: [B, C, h, w] for each level; channels_last is fastest.
        boxes: [B, N, 4] in image pixels; [A, N, 4] with any A if `images` is given.
        levels: [B, N] int64, index into `features`.
        scales: pixels of each feature map per image pixel.
        size: side of the output; each of the size x size bins is the mean of its samples.
        sampling: bilinear samples per bin and axis; 0 adapts the number to the size of the RoI.
        aligned: continuous coordinates. False: pixel centers at integers and RoIs at least one pixel wide, as in the
            original Caffe layer.
        images: [A, N] int64, the image of each RoI; None: row i contains the RoIs of image i.

    Returns:
        [B, N, C, size, size] in the dtype of the features, channels_last in memory: fastest for convolutions; flatten
        before a linear layer copies it once. Only the features get gradients, also channels_last.
    """
    images = image_of_each(boxes) if images is None else images
    return roi_align_op(features, boxes, images, levels, scales, size, sampling, aligned)


# No default arguments: torch before 2.13 omits their values in `setup_context`.
FORWARD = (
    "roi_align(Tensor[] features, Tensor boxes, Tensor images, Tensor levels, float[] scales, int size, int sampling, "
    "bool aligned) -> Tensor"
)
BACKWARD = (
    "roi_align_backward(Tensor grad, Tensor boxes, Tensor images, Tensor levels, int batch, int[] heights, "
    "int[] widths, float[] scales, int sampling, bool aligned) -> Tensor[]"
)


def _forward(
    features: list[Tensor],
    boxes: Tensor,
    images: Tensor,
    levels: Tensor,
    scales: list[float],
    size: int,
    sampling: int,
    aligned: bool,
) -> Tensor:
    out = _empty(features[0], boxes, size)
    for level, (feature, scale) in enumerate(zip(features, scales)):
        rows, rois = _rois_of_level(level, boxes, images, levels)
        pool = roi_taps.forward if sampling > 0 else _adaptive_forward
        out.view(-1, *out.shape[2:])[rows] = pool(feature, rois, Bins(scale, size, sampling, aligned))
    return out.permute(0, 1, 4, 2, 3)


def _forward_on_cuda(features, boxes, images, levels, scales, size, sampling, aligned):
    from resdet.ops.kernels.roi_align import forward

    with torch.cuda.device(boxes.device):
        return forward(features, boxes, images, levels, scales, size, sampling, aligned)


def _fake_forward(features, boxes, images, levels, scales, size, sampling, aligned):
    return _empty(features[0], boxes, size).permute(0, 1, 4, 2, 3)


def _backward(
    grad: Tensor,
    boxes: Tensor,
    images: Tensor,
    levels: Tensor,
    batch: int,
    heights: list[int],
    widths: list[int],
    scales: list[float],
    sampling: int,
    aligned: bool,
) -> list[Tensor]:
    """Returns the gradients of the levels' maps [B, C, h, w], channels_last, from the output gradient of
    `roi_align`."""
    size = grad.shape[-1]
    grad = grad.permute(0, 1, 3, 4, 2).flatten(0, 1)
    grads = []
    for level, (height, width, scale) in enumerate(zip(heights, widths, scales)):
        rows, rois = _rois_of_level(level, boxes, images, levels)
        spread = roi_taps.backward if sampling > 0 else _adaptive_backward
        pixels = spread(grad[rows], (batch, height, width), rois, Bins(scale, size, sampling, aligned))
        grads.append(pixels.permute(0, 3, 1, 2))
    return grads


def _backward_on_cuda(grad, boxes, images, levels, batch, heights, widths, scales, sampling, aligned):
    from resdet.ops.kernels.roi_align import backward

    with torch.cuda.device(boxes.device):
        return backward(grad, boxes, images, levels, batch, heights, widths, scales, sampling, aligned)


def _fake_backward(grad, boxes, images, levels, batch, heights, widths, scales, sampling, aligned):
    channels = grad.shape[2]
    sides = zip(heights, widths)
    return [grad.new_empty(batch, height, width, channels).permute(0, 3, 1, 2) for height, width in sides]


def _save_context(ctx, inputs, output):
    features, boxes, images, levels, ctx.scales, _, ctx.sampling, ctx.aligned = inputs
    sides = [feature.shape[2] for feature in features], [feature.shape[3] for feature in features]
    ctx.shapes = features[0].shape[0], *sides  # as in image_of_each
    ctx.save_for_backward(boxes, images, levels)


def _gradients(ctx, grad):
    grads = roi_align_backward(grad, *ctx.saved_tensors, *ctx.shapes, ctx.scales, ctx.sampling, ctx.aligned)
    return grads, None, None, None, None, None, None, None


roi_align_backward = define(BACKWARD, cpu=_backward, cuda=_backward_on_cuda, fake=_fake_backward)
roi_align_op = define(
    FORWARD,
    cpu=_forward,
    cuda=_forward_on_cuda,
    fake=_fake_forward,
    backward=_gradients,
    setup_context=_save_context,
)


def _empty(feature: Tensor, boxes: Tensor, size: int) -> Tensor:
    return feature.new_empty(*boxes.shape[:2], size, size, feature.shape[1])


def _rois_of_level(level: int, boxes: Tensor, images: Tensor, levels: Tensor) -> tuple[Tensor, RoIs]:
    """Returns the RoIs of a level, and their rows in [B * N]."""
    rows = (levels.flatten() == level).nonzero()[:, 0]
    return rows, RoIs(images.flatten()[rows], boxes.reshape(-1, 4)[rows])


def _adaptive_forward(feature: Tensor, rois: RoIs, bins: Bins) -> Tensor:
    """As `roi_taps.forward`, with torchvision's kernel."""
    rows, (scale, size, sampling, aligned) = torchvision_rows(rois, feature), bins
    pooled = torchvision_operators().roi_align(feature.to(rows.dtype), rows, scale, size, size, sampling, aligned)
    return pooled.permute(0, 2, 3, 1).to(feature.dtype)


def _adaptive_backward(grad: Tensor, shape: tuple[int, int, int], rois: RoIs, bins: Bins) -> Tensor:
    """As `roi_taps.backward`, with torchvision's kernel."""
    batch, height, width = shape
    rows, (scale, size, sampling, aligned) = torchvision_rows(rois, grad), bins
    sizes = (size, size, batch, grad.shape[-1], height, width)
    incoming = grad.permute(0, 3, 1, 2).to(rows.dtype)
    pixels = torchvision_operators()._roi_align_backward(incoming, rows, scale, *sizes, sampling, aligned)
    return pixels.permute(0, 2, 3, 1).to(grad.dtype).contiguous()
