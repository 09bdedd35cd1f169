"""NMS on CUDA: a bit matrix of suppressing pairs, then one sweep per image from the best to the worst box.

Needs no host sync. The bit matrix takes N² / 8 bytes per image. The sweep processes 64 boxes at a time; their survivors
are the fixed point of "not suppressed by a survivor", reached in a few parallel rounds, at most 64.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

BITS = 64  # boxes per word
CHUNK = 32  # words updated at once by the sweep
WARPS = 8  # per program; registers spill with fewer


def survivors(boxes: Tensor, groups: Tensor, valid: Tensor, threshold: float) -> Tensor:
    """Computes the survivors [B, N] bool of boxes [B, N, 4] float32, groups [B, N] and valid [B, N] bool, by descending
    score, N > 0."""
    batch, count = valid.shape
    words = triton.cdiv(count, BITS)
    boxes, groups, valid = boxes.contiguous(), groups.contiguous(), valid.contiguous()
    suppressed = torch.empty(batch, count, words, dtype=torch.int64, device=boxes.device)
    removed = torch.zeros(batch, words, dtype=torch.int64, device=boxes.device)
    survives = torch.empty_like(valid)
    _suppress[(words, words, batch)](
        boxes, groups, valid, suppressed, count, words, threshold,
        BITS=BITS, num_warps=WARPS, enable_fp_fusion=False,  # rounds as on the CPU, so the same boxes survive
    )  # fmt: skip
    _sweep[(batch,)](
        valid, suppressed, removed, survives, count, words,
        BITS=BITS, CHUNK=CHUNK, num_warps=WARPS, enable_fp_fusion=False,  # explicit, since Triton 3.9 warns otherwise
    )  # fmt: skip
    return survives


@triton.jit
def _box(boxes, index, exists):
    x1 = tl.load(boxes + index * 4, mask=exists, other=0.0)
    y1 = tl.load(boxes + index * 4 + 1, mask=exists, other=0.0)
    x2 = tl.load(boxes + index * 4 + 2, mask=exists, other=0.0)
    y2 = tl.load(boxes + index * 4 + 3, mask=exists, other=0.0)
    return x1, y1, x2, y2


@triton.jit(do_not_specialize=["count", "words"])
def _suppress(boxes, groups, valid, suppressed, count, words, threshold, BITS: tl.constexpr):
    """Sets bit j of word w of box i if i suppresses the worse box 64w + j; words before that of i stay unset."""
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


@triton.jit(do_not_specialize=["count", "words"])
def _sweep(valid, suppressed, removed, survives, count, words, BITS: tl.constexpr, CHUNK: tl.constexpr):
    """Sweeps the words of an image: finds survivors within a word, then the boxes they suppress in later words.

    `removed` [B, words] contains a bit per box suppressed so far, initially zeros.
    """
    first = tl.program_id(0).to(tl.int64) * count
    removed += tl.program_id(0).to(tl.int64) * words
    bit = tl.arange(0, BITS)
    for word in range(words):
        rows = word * BITS + bit
        row_exists = rows < count
        is_valid = tl.load(valid + first + rows, mask=row_exists, other=0) != 0
        bits = tl.load(suppressed + (first + rows) * words + word, mask=row_exists, other=0)
        candidate = is_valid & (((tl.load(removed + word) >> bit.to(tl.int64)) & 1) == 0)
        keep = _fixed_point(candidate, bits, bit)
        tl.store(survives + first + rows, keep, mask=row_exists)
        for start in range(word + 1, words, CHUNK):
            columns = start + tl.arange(0, CHUNK)
            exists = columns < words
            later = tl.load(
                suppressed + (first + rows)[:, None] * words + columns[None, :],
                mask=keep[:, None] & exists[None, :],
                other=0,
            )
            before = tl.load(removed + columns, mask=exists, other=0)
            tl.store(removed + columns, before | tl.reduce(later, 0, _or), mask=exists)
        tl.debug_barrier()  # the next word reads `removed`


@triton.jit
def _fixed_point(candidate, bits, bit):
    """Finds the candidates that no survivor suppresses, given the `bits` that each of the 64 boxes suppresses.

    Boxes only suppress later ones, so round n settles at least the first n boxes.
    """
    keep = candidate
    changed = 1
    while changed != 0:
        suppressed = tl.reduce(tl.where(keep, bits, 0), 0, _or)
        survivors = candidate & (((suppressed >> bit.to(tl.int64)) & 1) == 0)
        changed = tl.sum((survivors != keep).to(tl.int32), axis=0)
        keep = survivors
    return keep
