"""Tests cropping masks for training and pasting them into images, against torchvision and closed forms."""

import cv2
import numpy as np
import pytest
import torch
from ops.scenes import assembled
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image, project_masks_on_boxes

from resdet.ops import masks as room
from resdet.ops.masks import crop_masks, paste_probabilities, with_border, with_border_as_torchvision

HEIGHT, WIDTH = 480, 640
paste = assembled(room.paste)
FINE = 4  # supersampling of drawn polygons
SHIFT = 6  # fractional bits of OpenCV's coordinates


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def draw(polygon: np.ndarray, width: int, height: int) -> np.ndarray:
    """Returns the fraction of each pixel that the polygon covers, float32 [height, width]."""
    canvas = np.zeros((height * FINE, width * FINE), np.uint8)
    cv2.fillPoly(canvas, [np.round((polygon * FINE - 0.5) * 2**SHIFT).astype(np.int32)], 255, shift=SHIFT)
    return cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def random_object(rng: np.random.Generator, m: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns a random polygon's box [4], its mask in the image [H, W] and in its box [m, m], both uint8."""
    side = rng.uniform(120, 400)
    count = rng.integers(4, 12)
    angles = np.sort(rng.uniform(0, 2 * np.pi, count))
    spokes = np.stack([np.cos(angles), np.sin(angles)], 1) * rng.uniform(0.4, 1, (count, 1)) * side / 2
    polygon = spokes + rng.uniform(side / 2, [WIDTH - side / 2, HEIGHT - side / 2])
    low, high = polygon.min(0), polygon.max(0)
    drawn = draw(polygon, WIDTH, HEIGHT) > 0.5
    own = draw((polygon - low) / (high - low) * m, m, m) * 255
    box = torch.from_numpy(np.concatenate([low, high])).float()
    return box, torch.from_numpy(drawn.astype(np.uint8)), torch.from_numpy(own.round().astype(np.uint8))


def test_crops_approximate_torchvision():
    """Allows differences at contours: torchvision crops a mask of whole pixels, resdet one relative to the box."""
    rng = np.random.default_rng(0)
    boxes, drawn, own = (torch.stack(each) for each in zip(*(random_object(rng, 112) for _ in range(12))))
    matched = torch.arange(12).repeat(4)
    sides = (boxes[matched][:, 2:] - boxes[matched][:, :2]).repeat(1, 2)
    regions = boxes[matched] + (torch.rand(48, 4) - 0.5) * 0.4 * sides
    found = crop_masks(own[None], boxes[None], matched[None], regions[None], 28)[0]
    wanted = project_masks_on_boxes(drawn, regions, matched, 28)
    assert found.shape == wanted.shape
    assert (found - wanted).abs().mean() < 0.02
    assert wanted.mean() > 0.3


def test_crops_of_a_known_mask():
    """Crops a mask with a full left half by shifted regions; each cell holds its exact covered fraction."""
    masks = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    masks[..., :2] = 255
    boxes = torch.tensor([[[10.0, 10.0, 18.0, 18.0]]])
    region = torch.tensor([[[6.0, 6.0, 22.0, 14.0]]])
    found = crop_masks(masks, boxes, torch.zeros(1, 1, dtype=torch.int64), region, 4)[0, 0]
    torch.testing.assert_close(found, torch.tensor([[0.0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0]]))
    quarter = crop_masks(masks, boxes, torch.zeros(1, 1, dtype=torch.int64), boxes + 3, 1)
    torch.testing.assert_close(quarter, torch.full((1, 1, 1, 1), 1 * 5 / 64))


def test_the_default_type_of_torch_has_no_effect():
    masks = torch.randint(256, (1, 2, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    boxes = torch.tensor([[[10.0, 10.0, 18.0, 18.0], [0.0, 2.0, 30.0, 20.0]]])
    given = masks, boxes, torch.tensor([[0, 1]]), boxes + 1, 4
    expected = crop_masks(*given)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(crop_masks(*given), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_degenerate_crops_are_zero():
    masks = torch.full((1, 3, 8, 8), 255, dtype=torch.uint8)
    boxes = torch.tensor([[[5.0, 5.0, 5.0, 5.0], [5.0, 5.0, 5.0, 9.0], [2.0, 2.0, 9.0, 9.0]]])
    regions = torch.tensor(
        [[[5.0, 5.0, 9.0, 9.0], [0.0, 0.0, 9.0, 9.0], [4.0, 4.0, 4.0, 4.0], [20.0, 20.0, 30.0, 30.0]]]
    )
    found = crop_masks(masks, boxes, torch.tensor([[0, 1, 2, 2]]), regions, 14)
    assert torch.equal(found, torch.zeros(1, 4, 14, 14))
    assert crop_masks(masks, boxes, torch.zeros(1, 0, dtype=torch.int64), regions[:, :0], 14).shape == (1, 0, 14, 14)


def blobs(count: int, m: int = 28) -> Tensor:
    """Returns smooth random masks like those of a net; about half of the values exceed 0.5."""
    noise = torch.nn.functional.interpolate(torch.rand(count, 1, 5, 5), size=(m, m), mode="bicubic")[:, 0]
    return noise.clamp(0, 1)


def pasting_boxes() -> Tensor:
    """Returns boxes inside the image, boxes that extend beyond each side and boxes without area."""
    corner = torch.rand(30, 2) * torch.tensor([160.0, 120.0]) - 20
    boxes = torch.cat([corner, corner + torch.rand(30, 2) ** 2 * 150], 1)
    boxes[0] = torch.tensor([-30.0, -30.0, 250.0, 180.0])
    boxes[1] = torch.tensor([40.0, 40.0, 40.0, 40.0])
    boxes[2] = torch.tensor([20.2, 30.0, 20.7, 90.0])
    return boxes


def test_pasted_masks_approximate_torchvision():
    masks, boxes = blobs(30), pasting_boxes()
    found = paste(masks, boxes, 120, 160, extend=with_border_as_torchvision)
    wanted = paste_masks_in_image(masks[:, None], boxes, (120, 160))[:, 0] > 0.5
    either = (found | wanted).sum((1, 2))
    shared = (found & wanted).sum((1, 2))
    assert (shared >= 0.99 * either).all()
    assert (either > 0).sum() > 20


def test_pasted_masks_equal_grid_sample():
    """Compares with torch's grid_sample, whose grid is -1 to 1 over the mask."""
    masks, boxes = blobs(30)[3:], pasting_boxes()[3:]
    x = 2 * (torch.arange(160) + 0.5 - boxes[:, 0:1]) / (boxes[:, 2:3] - boxes[:, 0:1]) - 1
    y = 2 * (torch.arange(120) + 0.5 - boxes[:, 1:2]) / (boxes[:, 3:4] - boxes[:, 1:2]) - 1
    grid = torch.stack([x[:, None].expand(-1, 120, -1), y[:, :, None].expand(-1, -1, 160)], -1)
    wanted = torch.nn.functional.grid_sample(masks[:, None], grid, align_corners=False)[:, 0]
    sure = (wanted - 0.5).abs() > 1e-4
    assert torch.equal(paste(masks, boxes, 120, 160) & sure, (wanted > 0.5) & sure)


@pytest.mark.parametrize("extend", [with_border, with_border_as_torchvision])
def test_thresholded_probabilities_equal_pasted_masks(extend):
    """Compares the probabilities of two images at once with the pasted masks."""
    masks, boxes = blobs(30), pasting_boxes()
    pairs = masks.unflatten(0, (2, 15)), boxes.unflatten(0, (2, 15))
    found = paste_probabilities(*pairs, 120, 160, extend).flatten(0, 1)
    sure = (found - 0.5).abs() > 1e-4
    assert torch.equal((found > 0.5) & sure, paste(masks, boxes, 120, 160, extend=extend) & sure)


def test_a_full_mask_fills_its_box():
    pasted = paste(torch.ones(1, 28, 28), torch.tensor([[10.0, 20.0, 40.0, 60.0]]), 80, 80)[0]
    assert pasted[20:60, 10:40].all() and pasted.sum() == 40 * 30


def test_masks_outside_the_image_are_empty():
    outside = torch.tensor([[-50.0, 10.0, -20.0, 40.0], [10.0, 300.0, 40.0, 350.0]])
    assert not paste(torch.ones(2, 28, 28), outside, 120, 160).any()
    assert list(room.paste(torch.ones(0, 28, 28), outside[:0], 120, 160)) == []


def test_threshold_of_pasted_masks():
    box = torch.tensor([[20.0, 20.0, 60.0, 60.0]])
    mask = torch.full((1, 14, 14), 0.4)
    assert not paste(mask, box, 80, 80).any()
    assert paste(mask, box, 80, 80, threshold=0.3)[0, 25:55, 25:55].all()
    undecided = torch.full((1, 4, 4), 0.5)
    assert not paste(undecided, torch.tensor([[0.0, 0, 4, 4]]), 4, 4).any()


def test_pasting_whole_images_agrees_with_pasting_areas(monkeypatch):
    """Pastes whole images, as on GPUs, in chunks of four masks."""
    monkeypatch.setattr(room, "CHUNK", 4 * 120 * 160)
    masks, boxes = blobs(30), pasting_boxes()
    parts = list(room._paste_whole(masks, boxes, 120, 160, 0.5, with_border))
    assert max(len(part.masks) for part in parts) == 4
    assert torch.equal(torch.cat([part.masks for part in parts]), paste(masks, boxes, 120, 160))


@pytest.mark.parametrize("extend", [with_border, with_border_as_torchvision])
def test_whole_images_are_pasted_in_float32(extend):
    """Pastes masks and boxes in bfloat16 under autocast, as on GPUs, like the same values in float32."""
    masks, boxes = blobs(30).bfloat16(), pasting_boxes().bfloat16()
    expected = paste_probabilities(masks.float(), boxes.float(), 120, 160, extend) > 0.5
    with torch.autocast("cpu", torch.bfloat16):
        (part,) = room._paste_whole(masks, boxes, 120, 160, 0.5, extend)
    assert torch.equal(part.masks, expected)


def test_areas_are_no_larger_than_their_boxes():
    """Allows a border of half a cell and one pixel of rounding on each side."""
    boxes = pasting_boxes()
    parts = room.paste(torch.ones(30, 28, 28), boxes, 120, 160)
    for part, (width, height) in zip(parts, (boxes[:, 2:] - boxes[:, :2]).tolist(), strict=True):
        assert part.masks.shape[1] <= height * 30 / 28 + 2 and part.masks.shape[2] <= width * 30 / 28 + 2


def test_autocast_does_not_change_masks():
    masks, boxes = blobs(30), pasting_boxes()
    objects, matched = (masks * 255).to(torch.uint8)[None], torch.arange(30)[None]
    cropped, pasted = crop_masks(objects, boxes[None], matched, boxes[None] + 3, 14), paste(masks, boxes, 120, 160)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(crop_masks(objects, boxes[None], matched, boxes[None] + 3, 14), cropped)
        assert torch.equal(paste(masks, boxes, 120, 160), pasted)


def test_overlaps_of_pairs_by_hand():
    a, b = torch.zeros(4, 2, 2, dtype=torch.bool), torch.zeros(4, 2, 2, dtype=torch.bool)
    a[0], b[0, 0] = True, True  # half of the mask
    a[1], b[1] = True, True
    a[2, 0], b[2, 1] = True, True
    assert room.overlaps(a, b).tolist() == [0.5, 1, 0, 1]
