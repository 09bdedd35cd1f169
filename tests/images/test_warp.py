"""Tests R-CNN's warp against closed forms and OpenCV."""

import cv2
import numpy as np
import pytest
import torch

from resdet.images.warp import warp

FILL = (10.0, 20.0, 30.0)


def ramp(width, height):
    """Returns an image whose channels are x and y of the pixel's center, and 100."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack([x, y, torch.full_like(x, 100.0)])


def test_the_box_is_surrounded_by_the_context():
    """Warps a ramp, whose values are the coordinates that each pixel of a region is sampled from."""
    boxes = torch.tensor([[20.0, 30, 60, 50], [10, 10, 18, 40]])
    regions = warp(ramp(100, 80), boxes, size=32, context=4, fill=FILL)
    for region, (x1, y1, x2, y2) in zip(regions, boxes.tolist()):
        inside = (torch.arange(24) + 0.5) / 24
        torch.testing.assert_close(region[0, 10, 4:28], x1 + inside * (x2 - x1))
        torch.testing.assert_close(region[1, 4:28, 10], y1 + inside * (y2 - y1))
        first = x1 - (4 - 0.5) * (x2 - x1) / 24
        assert region[0, 0, 0].item() == pytest.approx(first, rel=1e-4)


def test_outside_of_the_image_is_the_fill_color():
    picture = torch.full((3, 20, 20), 200.0)
    region = warp(picture, torch.tensor([[10.0, 10, 30, 30]]), size=16, context=0, fill=FILL)[0]
    assert (region[:, :7, :7] == 200).all()
    torch.testing.assert_close(region[:, 10:, 10:], torch.tensor(FILL)[:, None, None].expand(-1, 6, 6))


def test_warp_approximates_opencv():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    x1, y1, x2, y2, size = 5.0, 3.0, 41.0, 30.0, 24
    region = warp(torch.from_numpy(pixels).permute(2, 0, 1), torch.tensor([[x1, y1, x2, y2]]), size, 0, FILL)[0]
    steps = (x2 - x1) / size, (y2 - y1) / size
    xs = (x1 + (np.arange(size) + 0.5) * steps[0] - 0.5).astype(np.float32)
    ys = (y1 + (np.arange(size) + 0.5) * steps[1] - 0.5).astype(np.float32)
    expected = cv2.remap(pixels.astype(np.float32), *np.meshgrid(xs, ys), cv2.INTER_LINEAR)
    # OpenCV rounds positions to 1/32 pixel.
    np.testing.assert_allclose(region.permute(1, 2, 0).numpy(), expected, atol=8)
    assert np.abs(region.permute(1, 2, 0).numpy() - expected).mean() < 1.5


def test_no_boxes():
    assert warp(ramp(8, 8), torch.zeros(0, 4), 16, 2, FILL).shape == (0, 3, 16, 16)
