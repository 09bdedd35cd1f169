"""Checks that images are written in the format of their suffix, or refused."""

import cv2
import numpy as np
import pytest

from resdet.errors import FileError
from resdet.images import encode


def test_images_are_rgb(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    encode.write_image(tmp_path / "a.png", pixels)
    assert (cv2.imread(str(tmp_path / "a.png"))[..., ::-1] == pixels).all()
    with pytest.raises(FileError, match="70000 × 1 pixels are too many"):
        encode.write_image(tmp_path / "a.JPEG", np.zeros((1, 70000, 3), np.uint8))


@pytest.mark.parametrize("name, problem", [("a.pdf", ".pdf is not an image format"), ("a", "it has no suffix")])
def test_an_unknown_image_suffix_is_refused(tmp_path, name, problem):
    with pytest.raises(
        FileError, match=rf"{name} cannot be written \({problem}.*: use .jpg, .png, .webp, .bmp, .tif\."
    ):
        encode.write_image(tmp_path / name, np.zeros((2, 3, 3), np.uint8))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [*encode.SUFFIXES, ".JPEG"])
def test_the_named_suffixes_can_be_written(tmp_path, suffix):
    encode.write_image(tmp_path / f"a{suffix}", np.zeros((2, 3, 3), np.uint8))
    assert (tmp_path / f"a{suffix}").stat().st_size
