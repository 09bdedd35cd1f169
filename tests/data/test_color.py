"""Compares AlexNet's color augmentation with its closed form, and checks albumentations given by a config."""

import numpy as np
import pytest

from resdet.data.color import EIGENVALUES, EIGENVECTORS, Albumentations, pca_color
from resdet.errors import ConfigError


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def test_principal_components_are_orthonormal_and_the_first_is_gray():
    np.testing.assert_allclose(EIGENVECTORS.T @ EIGENVECTORS, np.eye(3), atol=2e-4)
    np.testing.assert_allclose(np.abs(EIGENVECTORS[:, 0]), 3**-0.5, atol=0.02)


def test_eigenvalues_are_those_of_the_published_recipe():
    """Compares with fb.resnet.torch's file datasets/imagenet.lua."""
    assert EIGENVALUES.tolist() == [0.2175, 0.0188, 0.0045]


def test_pca_color_shifts_have_the_covariance_of_the_components():
    gray = np.full((2, 2, 3), 128, np.uint8)
    rng = np.random.default_rng(0)
    shifted = np.stack([pca_color(gray, rng, 0.5) for _ in range(6000)]).astype(float) - 128
    assert (shifted == shifted[:, :1, :1]).all()
    wanted = EIGENVECTORS @ np.diag((255 * 0.5 * EIGENVALUES) ** 2) @ EIGENVECTORS.T
    np.testing.assert_allclose(np.cov(shifted[:, 0, 0].T), wanted, rtol=0.06)
    np.testing.assert_allclose(shifted.mean((0, 1, 2)), 0, atol=0.8)


def test_pca_color_matches_the_clipped_closed_form(picture):
    alpha = np.random.default_rng(3).normal(0, 1.5, 3)
    shift = sum(255 * alpha[i] * EIGENVALUES[i] * EIGENVECTORS[:, i] for i in range(3))
    wanted = np.clip(np.rint(picture + shift), 0, 255)
    assert (wanted == 0).any() or (wanted == 255).any()
    np.testing.assert_array_equal(pca_color(picture, np.random.default_rng(3), 1.5), wanted)


def test_albumentation_depends_on_the_generator_only(picture):
    run = Albumentations(
        [{"ColorJitter": {"brightness": 0.4, "p": 0.8}}, {"GaussianBlur": {"p": 0.5}}, {"CLAHE": None}]
    )
    np.random.seed(1)
    first = [run(picture, np.random.default_rng(seed)) for seed in range(6)]
    np.random.seed(2)
    again = [run(picture, np.random.default_rng(seed)) for seed in reversed(range(6))][::-1]
    np.testing.assert_array_equal(first, again)
    assert len({result.tobytes() for result in first}) == 6


def test_albumentation_seeds_each_transform_separately(picture):
    """Counts the four combinations of two transforms; a shared seed would give only two of them."""
    run = Albumentations([{"InvertImg": {"p": 0.5}}, {"HorizontalFlip": {"p": 0.5}}])
    kinds = {f(m).tobytes(): 0 for m in (picture, picture[:, ::-1]) for f in (np.copy, lambda m: 255 - m)}
    assert len(kinds) == 4
    for seed in range(400):
        kinds[run(picture, np.random.default_rng(seed)).tobytes()] += 1
    assert min(kinds.values()) > 60


def test_albumentation_matches_the_formula_of_solarize(picture):
    run = Albumentations([{"Solarize": {"threshold_range": [0.5, 0.5], "p": 1.0}}])
    wanted = np.where(picture >= 127.5, 255 - picture, picture)
    np.testing.assert_array_equal(run(picture, np.random.default_rng(0)), wanted)


@pytest.mark.parametrize(
    "pipeline, words",
    [
        ([{"ColourJitter": {}}], ["ColourJitter", "ColorJitter"]),
        ([{"Compose": {}}], ["Compose"]),
        ([{"ColorJitter": {"brigtness": 0.4}}], ["ColorJitter", "brigtness"]),
        ([{"ColorJitter": {"brightness": -3}}], ["ColorJitter", "brightness"]),
        ([{"ColorJitter": 3}], ["ColorJitter"]),
        (["ColorJitter"], ["ColorJitter", "{argument: value}"]),
        ([{"CLAHE": {}, "ToGray": {}}], ["CLAHE"]),
    ],
)
def test_a_wrong_entry_is_refused_at_construction(pipeline, words):
    with pytest.raises(ConfigError) as error:
        Albumentations(pipeline)
    assert all(word in str(error.value) for word in ["data.augment.albumentations", *words])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "entry",
    [
        {"Resize": {"height": 8, "width": 8}},
        {"RandomCrop": {"height": 8, "width": 8}},
        {"RandomCrop": {"height": 99, "width": 99}},
        {"Normalize": {}},
    ],
)
def test_a_transform_that_changes_size_or_type_is_refused_at_first_use(picture, entry):
    run = Albumentations([entry])
    with pytest.raises(ConfigError, match=next(iter(entry))):
        run(picture, np.random.default_rng(0))
