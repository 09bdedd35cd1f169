"""The generated files must cost what photographs cost, or the pipeline's figures mean nothing."""

import io

import numpy as np
import pytest
from PIL import Image

from resdet.images.photographs import photographs


@pytest.fixture(scope="module")
def files():
    return photographs(3)


def test_they_are_jpegs_of_the_size_and_weight_of_imagenets(files):
    for file in files:
        assert Image.open(io.BytesIO(file)).size == (500, 375)
        assert 40_000 < len(file) < 100_000


def test_they_differ_and_are_always_the_same(files):
    assert len(set(files)) == 3
    assert photographs(1) == files[:1]


def test_their_detail_falls_with_frequency_as_in_natural_images(files):
    """Amplitude is about 1/f (Field, 1987): a slope of -1 in a log-log plot, of which white noise has none."""
    for file in files:
        gray = np.asarray(Image.open(io.BytesIO(file)).convert("L"), np.float64)
        spectrum = np.abs(np.fft.fft2(gray - gray.mean()))
        frequency = np.hypot(np.fft.fftfreq(375)[:, None], np.fft.fftfreq(500))
        middle = (frequency > 0.02) & (frequency < 0.3)
        slope = np.polyfit(np.log(frequency[middle]), np.log(spectrum[middle]), 1)[0]
        assert -1.6 < slope < -0.8
