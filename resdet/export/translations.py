"""ONNX translations: grouped NMS, multi-level RoIAlign, RoIPool, and stable sort.

Output shapes equal those of the operators, and are static wherever theirs are; only intermediate shapes depend on data.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from onnxscript import ir
from onnxscript import opset18 as op

from resdet.ops.nms import nms_op
from resdet.ops.roi_align import roi_align_op
from resdet.ops.roi_pool import roi_pool_with_indices

LOWEST = float(np.finfo(np.float32).min)


def translations(groups: int) -> dict[Callable, Callable]:
    """Returns the translation table for torch.onnx.export; `groups`: maximum number of classes or levels."""

    def nms(boxes, scores, groups_of, valid, threshold: float, keep: int):
        return suppress(boxes, scores, groups_of, valid, threshold, keep, groups)

    return {
        nms_op: nms,
        roi_align_op: roi_align,
        roi_pool_with_indices: roi_pool,
        torch.ops.aten.sort.stable: stable_sort,
    }


def stable_sort(x, *, stable: bool, dim: int = -1, descending: bool = False):
    """`aten::sort.stable`: TopK returns equal values in order of their indices."""
    return op.TopK(x, constant([x.shape[dim]]), axis=dim, largest=int(descending))


def suppress(
    boxes: Any, scores: Any, groups_of: Any, valid: Any, threshold: float, keep: int, groups: int
) -> tuple[Any, Any]:
    """`resdet::nms`. NonMaxSuppression takes ranks as scores, which breaks ties and drops invalid boxes."""
    count = scores.shape[1]
    taken = min(keep, count)
    descending = op.TopK(op.Where(valid, scores, constant(LOWEST)), constant([count]), axis=1)[1]
    ranks = constant(np.arange(count, 0, -1, dtype=np.float32)[None])
    zeros = op.Expand(constant(0.0), op.Shape(scores))
    priority = op.ScatterElements(zeros, descending, op.Expand(ranks, op.Shape(scores)), axis=1)
    priority = op.Where(valid, priority, constant(0.0))

    numbers = constant(np.arange(groups)[None, :, None])
    members = op.Equal(op.Unsqueeze(groups_of, constant([1])), numbers)
    by_group = op.Where(members, op.Unsqueeze(priority, constant([1])), constant(0.0))  # [B, groups, N]
    chosen = op.NonMaxSuppression(boxes, by_group, constant([taken]), constant([threshold]), constant([0.5]))
    places = op.Gather(chosen, constant([0, 2]), axis=1)  # image and index of each remaining box
    survivors = op.ScatterND(zeros, places, op.GatherND(priority, places))

    best, indices = op.TopK(survivors, constant([taken]), axis=1)
    kept = op.Greater(best, constant(0.0))
    indices = op.Where(kept, indices, constant(0))
    if keep == taken:
        return indices, kept
    missing = constant([0, 0, 0, keep - taken])
    return op.Pad(indices, missing, constant(0)), op.Pad(kept, missing, constant(False))


def roi_align(features, boxes, images_of, levels, scales, size: int, sampling: int, aligned: bool):
    """`resdet::roi_align`: pools the RoIs of each level and scatters them to their original order."""
    rois, images = op.Reshape(boxes, constant([-1, 4])), op.Reshape(images_of, constant([-1]))
    count, channels = boxes.shape[1], features[0].shape[1]

    def pool(feature, scale, rois, images):
        return op.RoiAlign(
            feature,
            rois,
            images,
            coordinate_transformation_mode="half_pixel" if aligned else "output_half_pixel",
            output_height=size,
            output_width=size,
            sampling_ratio=sampling,
            spatial_scale=scale,
        )

    if len(features) == 1:
        pooled = pool(features[0], scales[0], rois, images)
    else:
        shape = op.Concat(op.Shape(images), constant([channels, size, size]), axis=0)
        pooled = op.Expand(constant(0.0), shape)
        level_of = op.Reshape(levels, constant([-1]))
        for level, (feature, scale) in enumerate(zip(features, scales)):
            rows = op.NonZero(op.Equal(level_of, constant(level)))
            here = op.Squeeze(rows, constant([0]))
            bins = pool(feature, scale, op.Gather(rois, here), op.Gather(images, here))
            pooled = op.ScatterND(pooled, op.Transpose(rows, perm=[1, 0]), bins)
    return op.Reshape(pooled, constant([-1, count, channels, size, size]))


def roi_pool(feature, boxes, scale: float, size: int):
    """`roi_pool_with_indices`, without the indices of the maxima, which only gradients need."""
    corners, images = flattened(boxes)
    rois = op.Concat(op.Unsqueeze(op.CastLike(images, boxes), constant([1])), corners, axis=1)
    pooled = op.MaxRoiPool(feature, rois, pooled_shape=[size, size], spatial_scale=scale)
    pooled = op.Reshape(pooled, constant([-1, boxes.shape[1], feature.shape[1], size, size]))
    return pooled, op.Cast(pooled, to=ir.DataType.INT32)


def flattened(boxes: Any) -> tuple[Any, Any]:
    """Flattens boxes [B, N, 4] to [B * N, 4]; returns them with their image indices [B * N]."""
    batch = op.Squeeze(op.Shape(boxes, start=0, end=1))
    images = op.Unsqueeze(op.Range(constant(0), batch, constant(1)), constant([1]))
    images = op.Expand(images, op.Shape(boxes, start=0, end=2))
    return op.Reshape(boxes, constant([-1, 4])), op.Reshape(images, constant([-1]))


def constant(value: Any) -> Any:
    """Returns an int64, float32 or bool constant."""
    array = np.asarray(value)
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    tensor: Any = ir.tensor(array)
    return op.Constant(value=tensor)
