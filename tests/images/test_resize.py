"""Tests the resizing styles against OpenCV, Pillow and torchvision."""

import cv2
import numpy as np
import pytest
import torch
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.transforms.v2 import functional as F

from resdet.images.decode import EncodedImage, RawImage
from resdet.images.resize import new_size, resize, resize_pixels

STYLES = ("opencv", "pillow", "torchvision")


def picture(width, height, grain=4):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (height // grain + 2, width // grain + 2, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def torchvisions(pixels, short, long):
    """Resizes by the transform of torchvision's detectors, without padding and normalization."""
    transform = GeneralizedRCNNTransform(short, long, [0.0] * 3, [1.0] * 3).eval()
    images, _ = transform([torch.from_numpy(pixels).permute(2, 0, 1).float()])
    height, width = images.image_sizes[0]
    return images.tensors[0, :, :height, :width].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("size", [(640, 480), (333, 500), (97, 31), (30, 30), (7, 90), (400, 60)])
@pytest.mark.parametrize("limits", [(80, 133), (200, 240)])
def test_torchvision_style_equals_torchvision(size, limits):
    pixels = picture(*size)
    expected = torchvisions(pixels, *limits)
    ours = resize(RawImage(pixels, "a"), *limits, "torchvision")
    assert ours.dtype == np.float32 and ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, atol=1e-3)


def test_torchvision_sizes_equal_torchvision():
    """Compares many sizes, since torchvision floors a product that may fall just below an integer."""
    rng = np.random.default_rng(0)
    for width, height in rng.integers(4, 60, (60, 2)).tolist():
        short, long = int(rng.integers(8, 40)), int(rng.integers(40, 60))
        expected = torchvisions(np.zeros((height, width, 3), np.uint8), short, long).shape[:2]
        assert new_size(width, height, short, long, "torchvision") == expected[::-1]


@pytest.mark.parametrize("size", [(640, 480), (97, 31), (31, 97), (30, 30)])
def test_pillow_style_antialiases(size):
    """Compares with torchvision's antialiased uint8 kernel, which equals Pillow's up to one level."""
    pixels = picture(*size)
    ours = resize(RawImage(pixels, "a"), 80, 133, "pillow")
    expected = F.resize(torch.from_numpy(pixels).permute(2, 0, 1), list(ours.shape[:2]), antialias=True)
    assert ours.dtype == np.uint8
    assert np.abs(ours.astype(int) - expected.permute(1, 2, 0).numpy()).max() <= 1


@pytest.mark.parametrize(
    "size, expected",
    [
        ((640, 480), (1067, 800)),  # 1066.67
        ((500, 333), (1201, 800)),  # 1201.2
        ((427, 640), (800, 1199)),  # 1199.06
        ((1000, 300), (1333, 400)),  # limited by the long side: 399.9
        ((800, 800), (800, 800)),
    ],
)
def test_pillow_sizes_are_rounded_to_nearest(size, expected):
    assert new_size(*size, 800, 1333, "pillow") == expected


def test_opencv_sizes_are_rounded_to_nearest_within_the_limits():
    rng = np.random.default_rng(1)
    for width, height in rng.integers(1, 3000, (200, 2)).tolist():
        new = new_size(width, height, 800, 1333)
        scale = min(800 / min(width, height), 1333 / max(width, height))
        np.testing.assert_allclose(new, (max(1, width * scale), max(1, height * scale)), atol=0.5 + 1e-6)
        assert min(new) == 800 or max(new) == 1333


def test_opencv_style_averages_to_shrink_and_interpolates_to_enlarge():
    blocks = picture(120, 90)
    means = blocks.reshape(30, 3, 40, 3, 3).mean((1, 3))
    assert np.abs(resize_pixels(blocks, 40, 30) - means).max() <= 0.5 + 1e-6
    enlarged = resize_pixels(blocks, 240, 180)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(blocks).permute(2, 0, 1)[None].float(), size=(180, 240), mode="bilinear"
    )
    assert np.abs(enlarged - expected[0].permute(1, 2, 0).numpy()).max() <= 1


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("size", [(20000, 10), (10, 20000), (20000, 1), (1, 1)])
def test_very_narrow_images_keep_a_pixel_per_side(style, size):
    resized = resize(RawImage(np.full((size[1], size[0], 3), 77, np.uint8), "a"), 800, 1333, style)
    height, width = resized.shape[:2]
    assert min(width, height) >= 1 and max(width, height) <= 1333
    assert (width > height) == (size[0] > size[1])
    np.testing.assert_allclose(resized, 77, rtol=1e-5)  # the order of summation depends on the number of threads


@pytest.mark.parametrize("style", STYLES)
def test_a_jpeg_resizes_like_its_pixels(style):
    pixels = picture(640, 480, grain=20)
    jpeg = EncodedImage(cv2.imencode(".jpg", pixels[..., ::-1])[1].tobytes(), "a.jpg")
    encoded, raw = (resize(image, 120, 200, style).astype(int) for image in (jpeg, RawImage(pixels, "a")))
    assert encoded.shape == raw.shape == (120, 160, 3)
    assert np.abs(encoded - raw).mean() < 4
