"""Tests random crops and their boxes on images whose colors encode the position, and batches of them."""

import numpy as np
import pytest
import torch
from painted import Painted, Ramp

from resdet.data.loader import Notes
from resdet.errors import ConfigError, DataError
from resdet.images.decode import RawImage
from resdet.localization.data.config import LocalizationConfig, LocAugmentConfig
from resdet.localization.data.crops import Crop, CropLoader, CropSamples, clip_boxes, collate_crops, random_window


def config(size=32, short=(32, 64), flip=0.5, pca_color=0.0, **options) -> LocalizationConfig:
    augment = LocAugmentConfig(short=short, flip=flip, pca_color=pca_color)
    return LocalizationConfig(size=size, short=80, augment=augment, workers=0, **options)


@pytest.mark.parametrize("halved", [False, True])
def test_boxes_match_the_pixels(halved):
    """Checks that the pixels at the corners of each box encode the box's corners in the image, with and without
    mirroring, also for boxes annotated at half the image size."""
    source = Ramp()
    if halved:
        source.sizes, source.things = source.sizes // 2, source.things / 2
    samples = CropSamples(source, config(size=48, short=(48, 72)), seed=0)
    mirrored = 0
    for position in range(20):
        pixels, boxes = samples.crop(0, np.random.default_rng(position))
        flipped = pixels[0, 0, 0] > pixels[0, -1, 0]
        mirrored += flipped
        (x1, y1, x2, y2) = boxes[0]
        left, right = np.interp([x1, x2], np.arange(48) + 0.5, pixels[24, :, 0] / 2)
        for found, expected, place in ((left, 60 if flipped else 20, x1), (right, 20 if flipped else 60, x2)):
            if 0.5 < place < 47.5:
                assert found == pytest.approx(expected, abs=1.5)
        for expected, place in ((30, y1), (70, y2)):
            if 0.5 < place < 47.5:
                found = np.interp(place, np.arange(48) + 0.5, pixels[:, 24, 1] / 2)
                assert found == pytest.approx(expected, abs=1.5)
    assert 3 < mirrored < 17


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_all_or_none_are_mirrored(flip):
    samples = CropSamples(Ramp(), config(flip=flip), seed=0)
    for position in range(10):
        pixels = samples[position, 0].pixels
        assert (pixels[0, 0, 0] > pixels[0, -1, 0]) == (flip == 1)


def test_each_pass_and_each_seed_has_different_crops():
    made = [CropSamples(Ramp(), config(), seed)[position, 0].pixels for seed, position in ((0, 0), (0, 1), (1, 0))]
    assert not np.array_equal(made[0], made[1]) and not np.array_equal(made[0], made[2])
    assert np.array_equal(made[0], CropSamples(Ramp(), config(), 0)[0, 0].pixels)


def test_colors_are_shifted():
    plain, shifted = (CropSamples(Ramp(), config(pca_color=std), seed=0)[0, 0].pixels for std in (0.0, 0.5))
    shift = (shifted.astype(int) - plain)[8:-8, 8:-8, :2]  # blue is 0, and dark borders may become 0
    assert shift.any() and (shift == shift[0, 0]).all()


def test_windows_reach_both_scales_and_all_borders():
    """Crops 32 pixels at a short side of 32 or 33 from an image of 40×32."""
    augment = config(short=(32, 33)).augment
    windows = np.array([random_window((40, 32), np.random.default_rng(seed), 32, augment) for seed in range(300)])
    corners, sides = windows[:, :2], windows[:, 2:]
    assert np.unique(sides[:, 1]).tolist() == pytest.approx([32 * 32 / 33, 32])
    assert corners.min(0).tolist() == [0, 0] and (corners + sides).max(0).tolist() == pytest.approx([40, 32])
    assert corners[sides[:, 1] == 32, 0].max() == 8 and corners[sides[:, 1] < 32, 1].max() == pytest.approx(32 / 33)


def test_clipped_boxes_outside_the_crop():
    boxes = np.array([[-10, 0, 30, 10], [-31, 0, 1, 10], [40, 0, 50, 10], [0, 0, 5, 5]], np.float64)
    clipped, crowd = clip_boxes(boxes, 32)
    assert clipped.tolist() == [[0, 0, 30, 10], [0, 0, 1, 10], [0, 0, 5, 5]] and crowd.tolist() == [False, True, False]


def test_a_quarter_of_an_object_is_enough():
    boxes = np.array([[20, -24, 28, 8], [20, -25, 28, 8], [10, 24, 18, 56], [10, 24, 18, 57]], np.float64)
    clipped, crowd = clip_boxes(boxes, 32)
    assert clipped[:, 1::2].tolist() == [[0, 8], [0, 8], [24, 32], [24, 32]]
    assert crowd.tolist() == [False, True, False, True]
    clipped, crowd = clip_boxes(boxes[2:], (16, 40, 16, 40))
    assert clipped.tolist() == [[10, 24, 16, 40]] * 2 and not crowd.any()


def test_batches():
    """Checks that padding has the image's label, an unreadable image has size 0, and the largest objects are kept."""
    many = np.stack([[20 - side, 20 - side, 20, 20] for side in range(1, 13)]).astype(np.float32)
    pixels, none = np.full((32, 32, 3), 7, np.uint8), np.zeros((0, 4), np.float32)
    crops = [
        Crop(pixels, many, np.arange(12) == 11, 3, 50),
        Crop(pixels, none, np.zeros(0, bool), 4, 51),
        Crop(None, none, np.zeros(0, bool), 5, 52, "it is damaged"),
    ]
    batch, notes = collate_crops(crops, 32, max_objects=10)
    assert notes == ["it is damaged"] and batch.indices.tolist() == [50, 51, 52]
    assert batch.targets.labels.tolist() == [[3] * 10, [4] * 10, [5] * 10]
    assert batch.targets.valid.sum(1).tolist() == [10, 0, 0]
    assert (
        batch.targets.boxes[0, :, 0].tolist() == list(range(8, 18))
        and batch.targets.crowd[0].tolist() == [True] + [False] * 9
    )
    assert batch.images.sizes.tolist() == [[32, 32], [32, 32], [0, 0]] and (batch.images.pixels[:2] == 7).all()
    assert collate_crops(crops[1:], 32, max_objects=10)[0].targets.boxes.shape == (2, 8, 4)


def test_two_processes_share_a_batch():
    source = Painted.random(10)
    loader = lambda rank, world: CropLoader(
        source, config(), 4, 0, torch.device("cpu"), Notes(print), rank, world
    ).batches(3)
    whole, parts = next(loader(0, 1)), [next(loader(rank, 2)) for rank in range(2)]
    assert torch.equal(whole.indices, torch.cat([part.indices for part in parts]))
    assert torch.equal(whole.images.pixels, torch.cat([part.images.pixels for part in parts]))
    assert torch.equal(whole.targets.boxes, torch.cat([part.targets.boxes for part in parts]))


class Broken(Painted):
    def image(self, i):
        if i == 1:
            raise DataError("image 1 is cut short: delete it")
        return RawImage(self.pixels[i], self.name(i))


def test_damaged_images():
    source = Broken.random(4)
    with pytest.raises(DataError, match="cut short"):
        CropSamples(source, config(), 0)[0, 1]
    crop = CropSamples(source, config(on_bad_image="skip"), 0)[0, 1]
    assert crop.pixels is None and crop.note == "image 1 is cut short: delete it"


@pytest.mark.parametrize(
    "make, key",
    [
        (lambda: config(size=81), "data.size is 81"),
        (lambda: config(max_objects=0), "data.max_objects"),
        (lambda: LocAugmentConfig(short=(300, 200)), "data.augment.short"),
        (lambda: LocAugmentConfig(flip=2), "data.augment"),
    ],
)
def test_invalid_settings_name_the_key(make, key):
    with pytest.raises(ConfigError, match=key):
        make()
