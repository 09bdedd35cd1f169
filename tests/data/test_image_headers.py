"""Checks that reading the headers of all images finds damaged files."""

import json
import tarfile

import cv2
import numpy as np
import pytest

from resdet.data.folder import ImageFolder
from resdet.data.image_headers import check_headers
from resdet.data.shapes import ShapeImages
from resdet.data.tar_index import TarImages
from resdet.detection.data.coco import open_coco
from resdet.errors import DataError


def encoded(extension: str, width: int = 90, height: int = 60) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return cv2.imencode(extension, pixels)[1].tobytes()


JPEG, PNG = encoded(".jpg"), encoded(".png")
FILES = {  # content and the expected error
    "a.jpg": (JPEG, None),
    "b.png": (PNG, None),
    "c.bmp": (encoded(".bmp"), None),
    "d.webp": (encoded(".webp"), None),
    "e.jpg": (JPEG + 100_000 * b"\0", None),
    "f.jpg": (JPEG[:-2], "is truncated"),
    "g.png": (PNG[:-20], "is truncated"),
    "h.jpg": (b"", "is an empty file"),
    "i.jpg": (b"not an image", "is not an image"),
    "j.webp": (encoded(".webp")[:30], "is not an image|cannot be decoded"),
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    for name, (content, _) in FILES.items():
        (tmp_path / "images" / name).write_bytes(content)
    return tmp_path


def test_damaged_images_of_a_folder(folder):
    source = ImageFolder(folder)
    problems = check_headers(source)
    wrong = {name: what for name, (_, what) in FILES.items() if what}
    assert [source.name(i) for i in problems] == [f"{folder}/images/{name}" for name in wrong]
    for (i, error), what in zip(problems.items(), wrong.values()):
        with pytest.raises(DataError, match=what) as raised:
            source.image(i).decode()
        assert str(raised.value) == str(error)


def test_images_that_differ_from_their_annotations(folder):
    sizes = {"a.jpg": (90, 60), "b.png": (60, 90), "nowhere.jpg": (90, 60), "f.jpg": (90, 60)}
    images = [{"id": k, "file_name": name, "width": w, "height": h} for k, (name, (w, h)) in enumerate(sizes.items())]
    (folder / "gt.json").write_text(json.dumps({"images": images, "annotations": [], "categories": []}))
    problems = check_headers(open_coco(folder / "gt.json", folder / "images"), workers=2)
    assert list(problems) == [1, 2, 3]
    assert "has 90x60 pixels and its annotations declare 60x90" in str(problems[1])
    assert "nowhere.jpg: cannot read the file (No such file" in str(problems[2]) and "is truncated" in str(problems[3])


def test_tar_files_and_generated_images(folder):
    with tarfile.open(folder / "all.tar", "w") as tar:
        tar.add(folder / "images", "images")
    source = TarImages([folder / "all.tar"])
    assert [source.name(i).rpartition("/")[2] for i in check_headers(source)] == [n for n, (_, w) in FILES.items() if w]
    assert check_headers(ShapeImages(4, 32, 0, "val")) == {}


def test_pixels_are_not_decoded(folder, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    for name in ("d.webp", "i.jpg", "j.webp"):  # these files are decoded, since their headers are not parsed
        (folder / "images" / name).unlink()
    assert len(check_headers(ImageFolder(folder))) == 3
