"""RoIAlign on CUDA: one launch per level over all RoIs; programs for RoIs of other levels return immediately.

This avoids sorting, counting and host syncs. A program computes one row of bins of an RoI for a block of channels, with
contiguous reads on channels_last maps. Sums are in float32, with the same rounding as on the CPU.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

MAX_CHANNELS = 256  # per program
WARPS = 1  # per program; one instruction adds four neighboring channels


def forward(
    features: list[Tensor],
    boxes: Tensor,
    images: Tensor,
    levels: Tensor,
    scales: list[float],
    size: int,
    sampling: int,
    aligned: bool,
) -> Tensor:
    """As `resdet.ops.roi_align.roi_align_op`."""
    channels = features[0].shape[1]
    out = features[0].new_empty(*levels.shape, size, size, channels)
    boxes, images, levels = boxes.float().contiguous(), images.contiguous(), levels.contiguous()
    block, grid = _launch(levels.numel(), size, channels)
    for level, (feature, scale) in enumerate(zip(features, scales)):
        if out.numel() > 0:
            _forward[grid](
                feature, *feature.stride(), out, boxes, images, levels, level, channels, *feature.shape[2:], scale,
                SIZE=size, SAMPLING=sampling, ALIGNED=aligned, BLOCK=block, num_warps=WARPS, enable_fp_fusion=False,
            )  # fmt: skip
    return out.permute(0, 1, 4, 2, 3)


def backward(
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
    """As `resdet.ops.roi_align.roi_align_backward`; not deterministic, since the order of summation varies."""
    channels, size = grad.shape[2:4]
    incoming = grad.permute(0, 1, 3, 4, 2).contiguous()
    boxes, images, levels = boxes.float().contiguous(), images.contiguous(), levels.contiguous()
    block, grid = _launch(levels.numel(), size, channels)
    grads = []
    for level, (height, width, scale) in enumerate(zip(heights, widths, scales)):
        pixels = torch.zeros(batch, height, width, channels, device=grad.device)
        if grad.numel() > 0:
            _backward[grid](
                incoming, pixels, boxes, images, levels, level, channels, height, width, scale,
                SIZE=size, SAMPLING=sampling, ALIGNED=aligned, BLOCK=block, num_warps=WARPS, enable_fp_fusion=False,
            )  # fmt: skip
        grads.append(pixels.to(grad.dtype).permute(0, 3, 1, 2))
    return grads


def _launch(rois: int, size: int, channels: int) -> tuple[int, tuple[int, int, int]]:
    block = min(MAX_CHANNELS, triton.next_power_of_2(channels))
    return block, (rois, size, triton.cdiv(channels, block))


@triton.jit
def _axis(low, high, scale, SIZE: tl.constexpr, SAMPLING: tl.constexpr, ALIGNED: tl.constexpr):
    """Returns the start of an RoI along one axis of the map, the length of a bin, and the samples per bin."""
    start = low * scale
    length = (high - low) * scale
    if ALIGNED:
        start -= 0.5
    else:
        length = tl.maximum(length, 1.0)
    bin = tl.div_rn(length, SIZE * 1.0)  # as on the CPU; multiplying by 1 / SIZE would round up one bin of some RoIs
    if SAMPLING == 0:
        samples = tl.ceil(bin).to(tl.int32)
    else:
        samples = tl.full([], SAMPLING, tl.int32)
    return start, bin, samples


@triton.jit
def _around(position, limit):
    """Returns the two pixels around a sample and their weights, which are 0 outside the map and for NaN."""
    inside = (position >= -1.0) & (position <= limit)
    position = tl.minimum(tl.maximum(tl.where(inside, position, 0.0), 0.0), limit - 1.0)
    low = tl.floor(position)
    to_high = position - low
    low = low.to(tl.int32)
    high = tl.minimum(low + 1, limit - 1)
    return low, high, tl.where(inside, 1.0 - to_high, 0.0), tl.where(inside, to_high, 0.0)


@triton.jit(do_not_specialize=["level", "height", "width"])
def _forward(
    feature, image_stride, channel_stride, row_stride, column_stride, out, boxes, images, levels, level,
    channels, height, width, scale,
    SIZE: tl.constexpr, SAMPLING: tl.constexpr, ALIGNED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    roi = tl.program_id(0).to(tl.int64)
    if tl.load(levels + roi) != level:
        return
    row = tl.program_id(1)
    channel = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    exists = channel < channels
    box = boxes + roi * 4
    left, x_bin, x_samples = _axis(tl.load(box), tl.load(box + 2), scale, SIZE, SAMPLING, ALIGNED)
    top, y_bin, y_samples = _axis(tl.load(box + 1), tl.load(box + 3), scale, SIZE, SAMPLING, ALIGNED)
    share = 1.0 / tl.maximum((x_samples * y_samples).to(tl.float32), 1.0)
    pixels = feature + tl.load(images + roi) * image_stride + channel.to(tl.int64) * channel_stride
    for column in range(SIZE):
        total = tl.zeros([BLOCK], tl.float32)
        for i in range(y_samples):
            y = top + row * y_bin + (i + 0.5) * y_bin / y_samples
            y_low, y_high, to_y_low, to_y_high = _around(y, height)
            upper = pixels + y_low.to(tl.int64) * row_stride
            lower = pixels + y_high.to(tl.int64) * row_stride
            for j in range(x_samples):
                x = left + column * x_bin + (j + 0.5) * x_bin / x_samples
                x_low, x_high, to_x_low, to_x_high = _around(x, width)
                at_low = x_low.to(tl.int64) * column_stride
                at_high = x_high.to(tl.int64) * column_stride
                total += to_y_low * to_x_low * tl.load(upper + at_low, mask=exists, other=0.0).to(tl.float32)
                total += to_y_low * to_x_high * tl.load(upper + at_high, mask=exists, other=0.0).to(tl.float32)
                total += to_y_high * to_x_low * tl.load(lower + at_low, mask=exists, other=0.0).to(tl.float32)
                total += to_y_high * to_x_high * tl.load(lower + at_high, mask=exists, other=0.0).to(tl.float32)
        target = out + ((roi * SIZE + row) * SIZE + column) * channels + channel
        tl.store(target, total * share, mask=exists)


@triton.jit(do_not_specialize=["level", "height", "width"])
def _backward(
    grad, pixels, boxes, images, levels, level, channels, height, width, scale,
    SIZE: tl.constexpr, SAMPLING: tl.constexpr, ALIGNED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    roi = tl.program_id(0).to(tl.int64)
    if tl.load(levels + roi) != level:
        return
    row = tl.program_id(1)
    channel = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    exists = channel < channels
    box = boxes + roi * 4
    left, x_bin, x_samples = _axis(tl.load(box), tl.load(box + 2), scale, SIZE, SAMPLING, ALIGNED)
    top, y_bin, y_samples = _axis(tl.load(box + 1), tl.load(box + 3), scale, SIZE, SAMPLING, ALIGNED)
    share = 1.0 / tl.maximum((x_samples * y_samples).to(tl.float32), 1.0)
    pixels += tl.load(images + roi) * height * width * channels
    for column in range(SIZE):
        source = grad + ((roi * SIZE + row) * SIZE + column) * channels + channel
        incoming = tl.load(source, mask=exists, other=0.0).to(tl.float32) * share
        # Padded RoIs have no gradient. A mask per channel would prevent vectorized additions.
        if tl.max((incoming != 0.0).to(tl.int32), axis=0) != 0:
            for i in range(y_samples):
                y = top + row * y_bin + (i + 0.5) * y_bin / y_samples
                y_low, y_high, to_y_low, to_y_high = _around(y, height)
                upper = pixels + y_low.to(tl.int64) * width * channels + channel
                lower = pixels + y_high.to(tl.int64) * width * channels + channel
                for j in range(x_samples):
                    x = left + column * x_bin + (j + 0.5) * x_bin / x_samples
                    x_low, x_high, to_x_low, to_x_high = _around(x, width)
                    at_low = x_low * channels
                    at_high = x_high * channels
                    tl.atomic_add(upper + at_low, to_y_low * to_x_low * incoming, mask=exists, sem="relaxed")
                    tl.atomic_add(upper + at_high, to_y_low * to_x_high * incoming, mask=exists, sem="relaxed")
                    tl.atomic_add(lower + at_low, to_y_high * to_x_low * incoming, mask=exists, sem="relaxed")
                    tl.atomic_add(lower + at_high, to_y_high * to_x_high * incoming, mask=exists, sem="relaxed")
