"""Tests crops against Pillow's resize and torchvision's random distributions."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from scipy.stats import ks_2samp
from torchvision import transforms

from resdet.images import crops

PHOTOGRAPHS = Path(__file__).parents[2].parent / "shared" / "data" / "imagenet_32" / "images"


class Raw:
    """An in-memory image that cannot be decoded at a reduced scale."""

    def __init__(self, pixels):
        self.pixels, self.size = pixels, (pixels.shape[1], pixels.shape[0])

    def decode(self, smallest=None):
        return self.pixels


class Jpeg(Raw):
    """An encoded image that is decoded at the smallest sufficient scale."""

    def __init__(self, data):
        self.data = np.frombuffer(data, np.uint8)
        super().__init__(cv2.cvtColor(cv2.imdecode(self.data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB))

    def decode(self, smallest=None):
        scales = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}
        for flag in scales.values():
            reduced = cv2.imdecode(self.data, flag)
            if reduced.shape[1] >= smallest[0] and reduced.shape[0] >= smallest[1]:
                return cv2.cvtColor(reduced, cv2.COLOR_BGR2RGB)
        return self.pixels


def scene(width, height, seed=0):
    """Returns blobs of several sizes, with a spectrum similar to a photograph's."""
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(rng.normal(0, 6 * s, (height // s + 2, width // s + 2, 3)), (width, height)) for s in (2, 4, 8, 16)
    ]
    return np.clip(128 + sum(layers) / 3, 0, 255).astype(np.uint8)


def pillow(pixels, size):
    return np.asarray(Pillow.fromarray(pixels).resize(size, Pillow.BILINEAR))


def difference(a, b):
    return np.abs(a.astype(int) - b.astype(int)).mean()


class Fixed:
    """A fake generator that returns the given integers."""

    def __init__(self, *answers):
        self.answers = iter(answers)

    def integers(self, low, high, endpoint):
        answer = next(self.answers)
        assert endpoint and low <= answer <= high
        return answer


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (301, 200), (90, 61), (1200, 900)])
@pytest.mark.parametrize("kind, pixels_off", [("raw", 0.15), ("jpeg", 0.25)])
def test_scale_jitter_crop_approximates_pillow(size, kind, pixels_off):
    """Bounds the difference by that of a crop one pixel off; reduced JPEG decoding is sharper than Pillow's filter."""
    pixels = scene(*size)
    image = Raw(pixels) if kind == "raw" else Jpeg(cv2.imencode(".jpg", pixels)[1].tobytes())
    for short, x, y in [(100, 3, 0), (127, 11, 7), (160, 48, 31)]:
        whole = pillow(image.pixels, crops.resized(size, short))
        x, y = min(x, whole.shape[1] - 97), min(y, whole.shape[0] - 97)
        got = crops.scale_jitter_crop(image, Fixed(short, x, y), 96, (97, 160))
        wanted, one_pixel_off = whole[y : y + 96, x : x + 96], whole[y : y + 96, x + 1 : x + 97]
        assert got.shape == (96, 96, 3) and got.dtype == np.uint8
        assert difference(got, wanted) < pixels_off * difference(one_pixel_off, wanted)


def test_a_ramp_is_sampled_at_the_right_positions():
    """Compares crops of a linear ramp with the closed form, the value at each sample's position."""
    image = Raw(np.repeat(np.arange(200, dtype=np.uint8)[None, :, None], 150, 0).repeat(3, 2))
    for box, target in [((20.3, 10, 100, 100), 64), ((30.75, 5, 140, 120), 30), ((40, 40, 25.5, 25), 64)]:
        got = crops.resample(image, box, (target, target))[target // 2, :, 0]
        wanted = box[0] + (np.arange(target) + 0.5) * box[2] / target - 0.5
        assert np.abs(got - wanted).max() < 0.75


def test_random_resized_crop_approximates_pillow():
    pixels = scene(400, 300)
    for seed in range(8):
        x, y, w, h = crops.random_box((400, 300), np.random.default_rng(seed), (0.08, 1), (3 / 4, 4 / 3))
        got = crops.random_resized_crop(Raw(pixels), np.random.default_rng(seed), 112)
        assert difference(got, pillow(pixels[y : y + h, x : x + w], (112, 112))) < 1.6


@pytest.mark.parametrize("size", [(500, 375), (200, 640), (33, 32)])
def test_random_boxes_have_torchvisions_distribution(size):
    scale, ratio, draws = (0.08, 1.0), (3 / 4, 4 / 3), 1500
    rng = np.random.default_rng(0)
    ours = np.array([crops.random_box(size, rng, scale, ratio) for _ in range(draws)], float)
    torch.manual_seed(0)
    blank = torch.empty(3, size[1], size[0])
    theirs = [transforms.RandomResizedCrop.get_params(blank, list(scale), list(ratio)) for _ in range(draws)]
    theirs = np.array(theirs, float)[:, [1, 0, 3, 2]]
    assert (ours[:, 2:] >= 1).all() and (ours[:, :2] + ours[:, 2:] <= size).all()
    for measure in (
        lambda box: box[:, 2] * box[:, 3],
        lambda box: box[:, 2] / box[:, 3],
        lambda box: box[:, 0],
        lambda box: box[:, 1],
    ):
        assert ks_2samp(measure(ours), measure(theirs)).pvalue > 0.005


def test_the_ratio_of_a_random_box_is_width_to_height():
    _, _, width, height = crops.random_box((1000, 1000), np.random.default_rng(0), (0.16, 0.16), (4, 4))
    assert (width, height) == (800, 200)


def test_an_impossible_box_becomes_torchvisions_center_box():
    torch.manual_seed(0)
    for size in [(1000, 10), (10, 1000), (7, 5)]:
        blank = torch.empty(3, size[1], size[0])
        y, x, h, w = transforms.RandomResizedCrop.get_params(blank, [9.0, 9.0], [3 / 4, 4 / 3])
        assert crops.random_box(size, np.random.default_rng(0), (9, 9), (3 / 4, 4 / 3)) == (x, y, w, h)


@pytest.mark.parametrize("short, size", [(96, 81), (96, 8), (40, 40), (300, 224), (13, 5)])
@pytest.mark.parametrize("sides", [(300, 200), (131, 149), (64, 48), (31, 47), (700, 90)])
def test_the_center_crop_is_the_middle_of_the_resized_image(sides, short, size):
    """Compares bit for bit; `center_crop` resizes only the region that it needs."""
    image = Raw(scene(*sides))
    whole = crops.rectangle(image, short)
    top, left = (round((side - size) / 2) for side in whole.shape[:2])
    expected = whole[top : top + size, left : left + size]
    np.testing.assert_array_equal(crops.center_crop(image, short, size), expected)


@pytest.mark.parametrize("size", [(300, 200), (200, 301), (64, 48), (31, 47)])
def test_center_and_ten_crops_match_torchvision(size):
    pixels = scene(*size)
    whole = Pillow.fromarray(pixels)
    resize = transforms.Resize(96)
    assert crops.resized(size, 96) == resize(whole).size
    center = np.asarray(transforms.CenterCrop(81)(resize(whole)))
    assert difference(crops.center_crop(Raw(pixels), 96, 81), center) < 1.3

    ours = crops.ten_crop(Raw(pixels), 96, 81)
    rectangle = crops.rectangle(Raw(pixels), 96)
    theirs = np.stack([np.asarray(view) for view in transforms.TenCrop(81)(Pillow.fromarray(rectangle))])
    np.testing.assert_array_equal(ours, theirs)
    assert difference(rectangle, np.asarray(resize(whole))) < 1.3


def test_flip_probability():
    pixels = scene(20, 10)
    rng = np.random.default_rng(0)
    flips = sum(np.array_equal(crops.random_flip(pixels, rng, 0.3), pixels[:, ::-1]) for _ in range(1000))
    assert abs(flips - 300) < 50
    np.testing.assert_array_equal(crops.random_flip(pixels, rng, 0.0), pixels)


def test_short_sides_cover_the_whole_range(monkeypatch):
    drawn = set()
    resized = crops.resized
    monkeypatch.setattr(crops, "resized", lambda size, short: drawn.add(short) or resized(size, short))
    rng = np.random.default_rng(0)
    for _ in range(200):
        crops.scale_jitter_crop(Raw(scene(40, 30)), rng, 8, (8, 12))
    assert drawn == {8, 9, 10, 11, 12}


@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="the photographs of ../shared are not here")
def test_evaluation_crops_of_photographs_approximate_pillow():
    ours, linear = [], []
    for path in sorted(PHOTOGRAPHS.iterdir())[::3]:
        image = Jpeg(path.read_bytes())
        width, height = crops.resized(image.size, 256)
        x, y = round((width - 224) / 2), round((height - 224) / 2)
        wanted = pillow(image.pixels, (width, height))[y : y + 224, x : x + 224]
        ours.append(difference(crops.center_crop(image, 256, 224), wanted))
        linear.append(difference(cv2.resize(image.pixels, (width, height))[y : y + 224, x : x + 224], wanted))
    assert np.mean(ours) < 1.2 and np.mean(ours) < 0.6 * np.mean(linear)
