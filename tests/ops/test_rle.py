"""Tests RLE encoding of image parts against pycocotools' encoding of whole images."""

from functools import partial

import numpy as np
import pytest
import torch
from ops.scenes import assembled, random_boxes, with_degenerate
from pycocotools import mask as coco_mask

from resdet.ops.masks import paste, with_border, with_border_as_torchvision
from resdet.ops.rle import Decoded, decode, encode


def reference(masks: np.ndarray) -> list[dict]:
    """Encodes whole images, bool [n, H, W], by pycocotools."""
    found = [coco_mask.encode(np.asfortranarray(mask, np.uint8)) for mask in masks]
    return [{"size": rle["size"], "counts": rle["counts"].decode()} for rle in found]


def test_parts_of_any_size_and_place():
    """Includes single pixels, columns, rows, empty parts and whole images; masks are empty, full or noisy."""
    rng = np.random.default_rng(0)
    for _ in range(500):
        height, width = rng.integers(1, 24, 2).tolist()
        top, left = rng.integers(0, height + 1), rng.integers(0, width + 1)
        h, w = rng.integers(0, height - top + 1), rng.integers(0, width - left + 1)
        part = rng.random((rng.integers(0, 4), h, w)) < rng.choice([0, 0.1, 0.5, 0.9, 1])
        whole = np.zeros((len(part), height, width), bool)
        whole[:, top : top + h, left : left + w] = part
        found = encode(torch.from_numpy(part), (height, width), int(left), int(top))
        assert found == reference(whole)
        assert all((decode(rle) == mask).all() for rle, mask in zip(found, whole))


@pytest.mark.parametrize("size", [(1, 70_000), (70_000, 1), (2000, 1100)])
@pytest.mark.parametrize("share", [0, 0.5, 1])
def test_long_runs(size, share):
    mask = np.arange(size[0] * size[1]).reshape(size) < share * size[0] * size[1]
    assert encode(torch.from_numpy(mask[None]), size) == reference(mask[None])


def test_a_shrinking_run_may_need_the_most_characters():
    runs = [1, 10, 1, 25, 1, 1, 1]  # differences from the number two before: 15, 0, -24, 0
    mask = np.repeat(np.arange(len(runs)) % 2 == 1, runs)[:, None]
    assert encode(torch.from_numpy(mask[None]), mask.shape) == reference(mask[None])


@pytest.mark.parametrize("extend", [with_border, with_border_as_torchvision])
def test_pasted_parts_encode_like_whole_images(extend):
    """Includes boxes across the border, outside the image, without area and larger than the image."""
    torch.manual_seed(0)
    boxes, masks = with_degenerate(random_boxes(1, 40))[0], torch.rand(40, 28, 28)
    masks[5:10], masks[10] = 1, 0
    draw = partial(paste, extend=extend)
    found = [rle for part in draw(masks, boxes, 128, 160) for rle in encode(part.masks, (128, 160), *part[1:])]
    assert found == reference(assembled(draw)(masks, boxes, 128, 160).numpy())


def test_masks_are_decoded_on_access(monkeypatch):
    from resdet.ops import rle

    asked = []
    monkeypatch.setattr(rle, "decode", lambda mask: asked.append(mask) or mask)
    masks = Decoded(["a", "b", "c"])
    assert (len(masks), masks[1], asked) == (3, "b", ["b"]) and list(masks) == ["a", "b", "c"]
