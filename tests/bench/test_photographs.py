"""Tests that generated JPEG files resemble photographs, on which the values of the pipeline benchmark depend."""

import io

import numpy as np
import pytest
from PIL import Image

from resdet.images.photographs import photographs


@pytest.fixture(scope="module")
def files():
    return photographs(3)


def test_image_and_file_sizes_are_those_of_imagenet(files):
    for file in files:
        assert Image.open(io.BytesIO(file)).size == (500, 375)
        assert 40_000 < len(file) < 100_000


def test_images_differ_and_are_deterministic(files):
    assert len(set(files)) == 3
    assert photographs(1) == files[:1]


def test_spectra_fall_off_as_in_natural_images(files):
    """Checks that amplitudes follow 1/f (Field, 1987), a slope of -1 in a log-log plot; white noise has slope 0."""
    for file in files:
        gray = np.asarray(Image.open(io.BytesIO(file)).convert("L"), np.float64)
        spectrum = np.abs(np.fft.fft2(gray - gray.mean()))
        frequency = np.hypot(np.fft.fftfreq(375)[:, None], np.fft.fftfreq(500))
        middle = (frequency > 0.02) & (frequency < 0.3)
        slope = np.polyfit(np.log(frequency[middle]), np.log(spectrum[middle]), 1)[0]
        assert -1.6 < slope < -0.8
