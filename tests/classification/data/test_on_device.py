"""Tests CIFAR's augmentation on the device against crops computed one by one."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch

from resdet.classification.data.on_device import OnDeviceEvaluation, OnDeviceImages, OnDeviceTraining

CPU = torch.device("cpu")


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return OnDeviceImages(rng.integers(0, 256, (20, 3, 8, 8), dtype=np.uint8), np.arange(20) % 4, list("abcd"), CPU)


def test_mean_and_std_of_the_images(data):
    pixels = data.images.double()
    torch.testing.assert_close(data.mean(True).double(), pixels.mean(0), rtol=1e-6, atol=1e-4)
    torch.testing.assert_close(data.mean(False).double()[:, 0, 0], pixels.mean((0, 2, 3)), rtol=1e-6, atol=1e-4)
    torch.testing.assert_close(data.std().double(), pixels.std((0, 2, 3), unbiased=False), rtol=1e-6, atol=1e-4)


def test_crops_are_windows_of_the_padded_image(data):
    pad = 2
    training = OnDeviceTraining(data, batch=8, seed=0, pad=pad, flip=True)
    color = data.images.double().mean((0, 2, 3)).round().to(torch.uint8)
    seen = set()
    for step in range(10):
        batch = next(training.batches(step))
        for image, label, index in zip(*batch):
            padded = color[:, None, None].repeat(1, 12, 12)
            padded[:, pad:-pad, pad:-pad] = data.images[index]
            crops = {
                (y, x, flip): crop.flip(2) if flip else crop
                for y in range(5)
                for x in range(5)
                for flip in (False, True)
                for crop in [padded[:, y : y + 8, x : x + 8]]
            }
            match = [key for key, crop in crops.items() if torch.equal(crop, image)]
            assert match and label == data.labels[index]
            seen.update(match[:1])
    assert len(seen) > 30  # of the 50 possible ones


def test_crops_and_flips_are_uniform(data):
    """Counts the corner and the direction of 4000 crops: 80 of each of the 50 kinds, ± 9."""
    training = OnDeviceTraining(data, batch=20, seed=0, pad=2, flip=True)
    counts = Counter()
    for step in range(200):
        rows, columns = np.split(training.sample(step)[:, 1:], 2, 1)
        assert (np.diff(rows) == 1).all() and (abs(np.diff(columns)) == 1).all()
        counts.update(zip(rows[:, 0].tolist(), columns.min(1).tolist(), (columns[:, 0] > columns[:, 1]).tolist()))
    assert set(counts) == {(y, x, flip) for y in range(5) for x in range(5) for flip in (False, True)}
    assert 40 < min(counts.values()) and max(counts.values()) < 120


def test_a_stream_continues_after_an_upload(data):
    training = OnDeviceTraining(data, 8, seed=1, pad=2, flip=True)
    for step, batch in enumerate(islice(training.batches(0), 98, 102), 98):
        torch.testing.assert_close(batch[:3], next(training.batches(step))[:3])


def test_two_processes_split_the_batch(data):
    whole = next(OnDeviceTraining(data, 8, seed=5, pad=2, flip=True).batches(3))
    halves = [
        next(OnDeviceTraining(data, 8, seed=5, pad=2, flip=True, rank=rank, world=2).batches(3)) for rank in range(2)
    ]
    for field in range(3):
        torch.testing.assert_close(torch.cat([half[field] for half in halves]), whole[field])


def test_images_are_unchanged_without_augmentation(data):
    batch = next(OnDeviceTraining(data, 8, seed=0, pad=0, flip=False).batches(0))
    assert torch.equal(batch.images, data.images[batch.indices])


@pytest.mark.parametrize("world", [1, 2, 3])
def test_evaluation_covers_every_image_once(data, world):
    shares = [[batch.indices for batch in OnDeviceEvaluation(data, 6, rank, world)] for rank in range(world)]
    indices = torch.cat([part for share in shares for part in share])
    assert sorted(indices.tolist()) == list(range(20))
