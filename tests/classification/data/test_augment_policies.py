"""Tests each augmentation operation against Pillow and torchvision, and the policies' tables against torchvision's."""

from collections import Counter

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torchvision.transforms import v2

from resdet.classification.data.policies import MAGNITUDES, RAND, WIDE, rand_augment, trivial_augment

BINS = (0, 1, 9, 15, 22, 30)


@pytest.fixture(scope="module")
def picture():
    rng = np.random.default_rng(0)
    smooth = cv2.resize(rng.normal(120, 60, (12, 14, 3)), (112, 96), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth + rng.normal(0, 6, smooth.shape), 20, 230).astype(np.uint8)


def torchvision(op, picture, magnitude):
    """Applies the operation to a tensor as torchvision's policies do."""
    tensor = torch.from_numpy(picture).permute(2, 0, 1).contiguous()
    policy = v2.TrivialAugmentWide()
    result = policy._apply_image_or_video_transform(tensor, op, magnitude, policy.interpolation, policy._fill)
    return result.permute(1, 2, 0).numpy()


def pillow(op, picture, magnitude):
    image = Image.fromarray(picture)
    return np.asarray(
        {
            "Identity": lambda: image,
            "Brightness": lambda: ImageEnhance.Brightness(image).enhance(1 + magnitude),
            "Color": lambda: ImageEnhance.Color(image).enhance(1 + magnitude),
            "Contrast": lambda: ImageEnhance.Contrast(image).enhance(1 + magnitude),
            "Sharpness": lambda: ImageEnhance.Sharpness(image).enhance(1 + magnitude),
            "Posterize": lambda: ImageOps.posterize(image, 8 - round(magnitude)),
            "Solarize": lambda: ImageOps.solarize(image, round(255 * (1 - magnitude), 6)),
            "AutoContrast": lambda: ImageOps.autocontrast(image),
            "Equalize": lambda: ImageOps.equalize(image),
        }[op]()
    )


def cases(names):
    for name in names:
        for op in {WIDE[name], RAND[name]}:
            for bin in BINS:
                for sign in (1, -1) if op.signed else (1,):
                    yield name, op.apply, sign * op.full * bin / (MAGNITUDES - 1)


def test_lookup_operations_equal_pillow(picture):
    for name, apply, magnitude in cases(
        ["Identity", "Brightness", "Contrast", "Posterize", "Solarize", "AutoContrast", "Equalize"]
    ):
        wanted = pillow(name, picture, magnitude)
        np.testing.assert_array_equal(apply(picture, magnitude), wanted, f"{name} {magnitude}")


def test_blends_match_pillow_up_to_rounding(picture):
    for name, apply, magnitude in cases(["Color", "Sharpness"]):
        off = np.abs(apply(picture, magnitude).astype(int) - pillow(name, picture, magnitude))
        assert off.max() <= 2 and off.mean() < 0.75, (name, magnitude)


def test_geometric_operations_match_torchvision_except_for_ties(picture):
    for name, apply, magnitude in cases(["ShearX", "ShearY", "Rotate"]):
        differs = (apply(picture, magnitude) != torchvision(name, picture, magnitude)).any(-1).mean()
        assert differs < 0.01, (name, magnitude)


def test_translations_equal_torchvision(picture):
    height, width = picture.shape[:2]
    sides = {"TranslateX": width, "TranslateY": height}
    for name, side in sides.items():
        for magnitude in (0.0, 7.9, -7.9, 32.0, -32.0):
            np.testing.assert_array_equal(WIDE[name].apply(picture, magnitude), torchvision(name, picture, magnitude))
            shifted = torchvision(name, picture, magnitude / 100 * side)
            np.testing.assert_array_equal(RAND[name].apply(picture, magnitude / 100), shifted)


@pytest.mark.parametrize("value", [0, 7, 255])
def test_operations_accept_uniform_and_tiny_images(value):
    for shape in [(8, 8, 3), (1, 1, 3), (2, 5, 3)]:
        flat = np.full(shape, value, np.uint8)
        for name, apply, magnitude in cases(WIDE):
            result = apply(flat, magnitude)
            assert result.shape == shape and result.dtype == np.uint8, name
    flat = np.full((8, 8, 3), value, np.uint8)
    for name in ("AutoContrast", "Equalize", "Sharpness"):
        np.testing.assert_array_equal(WIDE[name].apply(flat, 0.5), pillow(name, flat, 0.5))


@pytest.mark.parametrize("ours, theirs", [(WIDE, v2.TrivialAugmentWide()), (RAND, v2.RandAugment())])
def test_tables_match_torchvision(ours, theirs):
    width, height = 200, 100
    assert list(ours) == list(theirs._AUGMENTATION_SPACE)
    for name, (magnitudes, signed) in theirs._AUGMENTATION_SPACE.items():
        wanted = magnitudes(MAGNITUDES, height, width)
        mine = ours[name].full * np.arange(MAGNITUDES) / (MAGNITUDES - 1)
        if name == "Posterize":
            mine = 8 - np.rint(mine)
        if name == "Solarize":
            mine = 1 - mine
        if name.startswith("Translate") and ours is RAND:
            mine = mine * {"X": width, "Y": height}[name[-1]]
        np.testing.assert_allclose(mine, np.zeros(MAGNITUDES) if wanted is None else wanted, atol=1e-5, err_msg=name)
        assert ours[name].signed == signed


def spy(monkeypatch, table):
    """Replaces every operation by one that records its name and magnitude."""
    calls = []
    for name, op in list(table.items()):
        noted = op._replace(apply=lambda pixels, magnitude, name=name: calls.append((name, magnitude)) or pixels)
        monkeypatch.setitem(table, name, noted)
    return calls


def test_trivial_augment_draws_operation_magnitude_and_sign_uniformly(monkeypatch, picture):
    calls = spy(monkeypatch, WIDE)
    rng = np.random.default_rng(0)
    for _ in range(7000):
        trivial_augment(picture, rng)
    names = Counter(name for name, _ in calls)
    assert set(names) == set(WIDE) and all(abs(count - 500) < 100 for count in names.values())
    turns = [magnitude / 135 * 30 for name, magnitude in calls if name == "Rotate"]
    assert {round(abs(turn)) for turn in turns} == set(range(31))
    assert abs(np.mean([turn < 0 for turn in turns if turn]) - 0.5) < 0.08


def test_rand_augment_applies_n_operations_at_one_magnitude(monkeypatch, picture):
    calls = spy(monkeypatch, RAND)
    rng = np.random.default_rng(0)
    for _ in range(200):
        rand_augment(picture, rng, 3, 12)
    assert len(calls) == 600
    assert {round(abs(magnitude), 6) for name, magnitude in calls if name == "Rotate"} == {12.0}


def test_results_depend_only_on_image_and_generator(picture):
    before = picture.copy()
    for policy in (trivial_augment, rand_augment):
        first = [policy(picture, np.random.default_rng(seed)) for seed in range(30)]
        again = [policy(picture, np.random.default_rng(seed)) for seed in range(30)]
        np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(picture, before)
