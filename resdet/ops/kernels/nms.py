"""NMS on CUDA: a bit matrix of suppressing pairs, then one sweep per image from the best box to the worst.

No host sync. The bit matrix takes N² / 8 bytes per image.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

BITS = 64  # boxes per word


def survivors(boxes: Tensor, groups: Tensor, valid: Tensor, threshold: float) -> Tensor:
    """boxes [B, N, 4] float32, groups [B, N], valid [B, N] bool, by descending score, N > 0 -> [B, N] bool."""
    batch, count = valid.shape
    words = triton.cdiv(count, BITS)
    boxes, groups, valid = boxes.contiguous(), groups.contiguous(), valid.contiguous()
    suppressed = torch.empty(batch, count, words, dtype=torch.int64, device=boxes.device)
    survives = torch.empty_like(valid)
    _suppress[(words, words, batch)](
        boxes, groups, valid, suppressed, count, words, threshold,
        BITS=BITS, enable_fp_fusion=False,  # rounds like the CPU, so that the same boxes survive
    )  # fmt: skip
    _sweep[(batch,)](
        valid, suppressed, survives, count, words, BITS=BITS, WORDS=triton.next_power_of_2(words), num_warps=16
    )
    return survives


@triton.jit
def _box(boxes, index, exists):
    x1 = tl.load(boxes + index * 4, mask=exists, other=0.0)
    y1 = tl.load(boxes + index * 4 + 1, mask=exists, other=0.0)
    x2 = tl.load(boxes + index * 4 + 2, mask=exists, other=0.0)
    y2 = tl.load(boxes + index * 4 + 3, mask=exists, other=0.0)
    return x1, y1, x2, y2


@triton.jit
def _suppress(boxes, groups, valid, suppressed, count, words, threshold, BITS: tl.constexpr):
    """Sets bit j of word w of box i if i suppresses box 64w + j, a worse one. Words before that of i stay unset."""
    word = tl.program_id(0)
    block = tl.program_id(1)
    first = tl.program_id(2).to(tl.int64) * count
    if word < block:
        return
    rows = block * BITS + tl.arange(0, BITS)
    columns = word * BITS + tl.arange(0, BITS)
    row_exists = rows < count
    column_exists = columns < count
    x1, y1, x2, y2 = _box(boxes, first + rows, row_exists)
    other_x1, other_y1, other_x2, other_y2 = _box(boxes, first + columns, column_exists)
    width = tl.minimum(x2[:, None], other_x2[None, :]) - tl.maximum(x1[:, None], other_x1[None, :])
    height = tl.minimum(y2[:, None], other_y2[None, :]) - tl.maximum(y1[:, None], other_y1[None, :])
    shared = tl.maximum(width, 0.0) * tl.maximum(height, 0.0)
    areas = (x2 - x1) * (y2 - y1)
    other_areas = (other_x2 - other_x1) * (other_y2 - other_y1)
    union = areas[:, None] + other_areas[None, :] - shared
    overlap = tl.where(union > 0, tl.div_rn(shared, tl.where(union > 0, union, 1.0)), 0.0)
    group = tl.load(groups + first + rows, mask=row_exists, other=-1)
    other_group = tl.load(groups + first + columns, mask=column_exists, other=-2)
    is_valid = tl.load(valid + first + rows, mask=row_exists, other=0)
    hit = (overlap > threshold) & (group[:, None] == other_group[None, :]) & (rows[:, None] < columns[None, :])
    hit = hit & (is_valid != 0)[:, None]
    bits = tl.sum(hit.to(tl.int64) << tl.arange(0, BITS).to(tl.int64)[None, :], axis=1)
    tl.store(suppressed + (first + rows) * words + word, bits, mask=row_exists)


@triton.jit
def _or(a, b):
    return a | b


@triton.jit
def _sweep(valid, suppressed, survives, count, words, BITS: tl.constexpr, WORDS: tl.constexpr):
    """Sweeps the words of one image: survivors within the word, then the boxes they suppress in later words."""
    first = tl.program_id(0).to(tl.int64) * count
    columns = tl.arange(0, WORDS)
    bit = tl.arange(0, BITS)
    removed = tl.zeros([WORDS], tl.int64)  # bits of the boxes suppressed so far
    for word in range(words):
        start = word * BITS
        removed_here = tl.sum(tl.where(columns == word, removed, 0), axis=0)
        for i in range(BITS):
            exists = start + i < count
            box = first + start + i
            is_valid = tl.load(valid + box, mask=exists, other=0) != 0
            kept = is_valid & (((removed_here >> i) & 1) == 0)
            bits = tl.load(suppressed + box * words + word, mask=exists, other=0)
            removed_here = tl.where(kept, removed_here | bits, removed_here)
        rows = start + bit
        row_exists = rows < count
        is_valid = tl.load(valid + first + rows, mask=row_exists, other=0) != 0
        keep = is_valid & (((removed_here >> bit.to(tl.int64)) & 1) == 0)
        tl.store(survives + first + rows, keep, mask=row_exists)
        after = (columns > word) & (columns < words)
        bits = tl.load(
            suppressed + (first + rows)[:, None] * words + columns[None, :],
            mask=keep[:, None] & after[None, :],
            other=0,
        )
        removed = removed | tl.reduce(bits, 0, _or)
