"""RoIAlign of a feature map on the CPU, as a sparse linear map.

Each pixel of a channels_last map is a row of a table [B * h * w, C], and each output bin is a weighted sum of 4 *
sampling² of these rows: an embedding bag. Its gradient is the transposed map, an embedding bag over rows of the
output's gradient. Both use all threads and are deterministic.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from resdet.ops.rois import RoIs


class Bins(NamedTuple):
    """Bins of RoIs on a feature map; see `resdet.ops.roi_align.roi_align`."""

    scale: float
    size: int
    sampling: int
    aligned: bool


def forward(feature: Tensor, rois: RoIs, bins: Bins) -> Tensor:
    """Pools a feature map [B, C, h, w]: [n, size, size, C]."""
    _, channels, height, width = feature.shape
    rows, weights = _taps(rois, bins, height, width)
    table = feature.permute(0, 2, 3, 1).reshape(-1, channels)
    pooled = F.embedding_bag(rows, table, mode="sum", per_sample_weights=weights.to(table.dtype))
    return pooled.view(-1, bins.size, bins.size, channels)


def backward(grad: Tensor, shape: tuple[int, int, int], rois: RoIs, bins: Bins) -> Tensor:
    """Returns the gradient of the feature map [B, h, w, C] for grad [n, size, size, C]; shape is (B, h, w)."""
    batch, height, width = shape
    channels = grad.shape[-1]
    rows, weights = _taps(rois, bins, height, width)
    by_row = rows.view(-1).sort()
    starts = torch.searchsorted(by_row.values, torch.arange(batch * height * width))
    pixels = F.embedding_bag(
        by_row.indices // rows.shape[1],
        grad.reshape(-1, channels),
        starts,
        mode="sum",
        per_sample_weights=weights.view(-1)[by_row.indices].to(grad.dtype),
    )
    return pixels.view(batch, height, width, channels)


def _taps(rois: RoIs, bins: Bins, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Returns row indices into the table and their weights, [n * size * size, 4 * sampling²] each."""
    low, high = (rois.boxes * bins.scale - (0.5 if bins.aligned else 0.0)).split(2, -1)
    lengths = high - low if bins.aligned else (high - low).clamp(min=1)
    x, x_weights = _axis_taps(low[:, 0], lengths[:, 0], width, bins)
    y, y_weights = _axis_taps(low[:, 1], lengths[:, 1], height, bins)
    y = (rois.images[:, None, None] * height + y) * width
    rows = y[:, :, None, :, None] + x[:, None, :, None, :]  # [n, size, size, 2 * sampling, 2 * sampling]
    weights = y_weights[:, :, None, :, None] * x_weights[:, None, :, None, :]
    taps = 4 * bins.sampling**2
    return rows.reshape(-1, taps), weights.reshape(-1, taps)


def _axis_taps(start: Tensor, length: Tensor, limit: int, bins: Bins) -> tuple[Tensor, Tensor]:
    """Returns the pixel pair around each sample of a bin on one axis, and weights, [n, size, 2 * sampling] each."""
    bin = length[:, None, None] / bins.size
    numbers = torch.arange(bins.size)[:, None]
    samples = torch.arange(bins.sampling) + 0.5
    position = start[:, None, None] + numbers * bin + samples * bin / bins.sampling
    inside = (position >= -1) & (position <= limit)  # False for NaN
    position = position.where(inside, 0).clamp(0, limit - 1)
    low = position.floor()
    high = (low + 1).clamp(max=limit - 1)
    to_high = (position - low) * inside / bins.sampling
    to_low = (1 - (position - low)) * inside / bins.sampling
    return torch.cat([low, high], -1).long(), torch.cat([to_low, to_high], -1)
