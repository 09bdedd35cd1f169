"""Tests the ILSVRC localization reader on each distributed form of the boxes, and generated data in its layout."""

import pickle
import shutil
import tarfile

import cv2
import numpy as np
import pytest
from PIL import Image

from resdet.detection.data.voc_xml import box_of
from resdet.errors import DataError
from resdet.localization.data import shape_loc
from resdet.localization.data.ilsvrc_loc import open_ilsvrc_loc

TENCH, GOLDFISH = "n01440764", "n01443537"


def xml(*objects, size=(64, 48)):
    """Returns an annotation of objects (name, xmin, ymin, xmax, ymax)."""
    parts = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox>"
        "</object>"
        for name, a, b, c, d in objects
    )
    return f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{parts}</annotation>"


BOXES = {
    f"{TENCH}/{TENCH}_1": xml((TENCH, 0, 0, 63, 47), (TENCH, 10, 5, 19, 9)),
    f"{TENCH}/{TENCH}_2": xml(("some_fish", 4, 4, 70, 20)),  # no synset as name; the box exceeds the image
    f"{TENCH}/{TENCH}_3": xml((GOLDFISH, 1, 1, 9, 9), (TENCH, 2, 2, 5, 5)),  # one object of another class
    f"{GOLDFISH}/{GOLDFISH}_1": xml((GOLDFISH, 9, 9, 5, 20)),  # only a box without area
    f"{GOLDFISH}/{GOLDFISH}_2": "<annotation>",
    f"{GOLDFISH}/{GOLDFISH}_4": xml((GOLDFISH, 1, 2, 3, 4), size=(32, 24)),
}
IMAGES = [*BOXES, f"{GOLDFISH}/{GOLDFISH}_3"]  # the last one has no XML file
EXPECTED = {
    f"{TENCH}_1": [[0, 0, 64, 48], [10, 5, 20, 10]],
    f"{TENCH}_2": [[4, 4, 64, 21]],
    f"{TENCH}_3": [[2, 2, 6, 6]],
    f"{GOLDFISH}_4": [[1, 2, 4, 5]],
}


@pytest.fixture
def root(tmp_path):
    for name in IMAGES:
        file = tmp_path / "train" / f"{name}.JPEG"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))[1].tobytes())
    return tmp_path


def test_exif_orientation_is_ignored(root):
    """Checks an image whose EXIF orientation would swap width and height relative to its boxes."""
    turned, pixels = Image.Exif(), np.zeros((48, 64, 3), np.uint8)
    turned[0x0112], pixels[5:10, 10:20] = 6, 255
    Image.fromarray(pixels).save(root / f"train/{TENCH}/{TENCH}_1.JPEG", "JPEG", exif=turned)
    unpack(root / "bbox_train")
    source = open_ilsvrc_loc(root, "train")
    image = source.image(0)
    assert image.size == tuple(source.sizes[0]) == (64, 48)
    x1, y1, x2, y2 = source.boxes(0)[1].astype(int)
    assert image.decode()[y1:y2, x1:x2].min() > 200


def unpack(folder):
    for name, text in BOXES.items():
        (folder / f"{name}.xml").parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.xml").write_text(text)


def pack(path, scratch):
    unpack(scratch)
    with tarfile.open(path, "w:gz") as archive:
        for name in BOXES:
            archive.add(scratch / f"{name}.xml", f"{name}.xml")
    shutil.rmtree(scratch)


FORMS = {
    "kaggle": lambda root: unpack(root / "ILSVRC/Annotations/CLS-LOC/train"),
    "official folders": lambda root: unpack(root / "Annotations/CLS-LOC/train"),
    "unpacked": lambda root: unpack(root / "bbox_train"),
    "archive": lambda root: pack(root / "ILSVRC2012_bbox_train_v2.tar.gz", root / "scratch"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_yields_the_same_boxes(root, form):
    FORMS[form](root)
    source = open_ilsvrc_loc(root, "train")
    found = {
        source.name(i).rpartition("/")[2].removesuffix(".JPEG"): source.boxes(i).tolist() for i in range(len(source))
    }
    assert found == EXPECTED
    assert source.classes == [TENCH, GOLDFISH] and source.labels.tolist() == [0, 0, 0, 1]
    assert source.sizes.tolist() == [[64, 48]] * 3 + [[32, 24]] and source.image(0).size == (64, 48)
    again = pickle.loads(pickle.dumps(open_ilsvrc_loc(root, "train")))  # now read from the index
    assert again.boxes(0).tolist() == EXPECTED[f"{TENCH}_1"]


def test_skipped_images_are_reported(root):
    unpack(root / "bbox_train")
    sentences = open_ilsvrc_loc(root, "train").problems
    assert any("1 invalid XML file: n01443537_2" in sentence for sentence in sentences)
    assert any("skipped 3 of 7 images, without a box" in sentence for sentence in sentences)


def test_missing_and_damaged_annotations_are_reported(root):
    with pytest.raises(
        DataError, match="no boxes of train: put ILSVRC2012_bbox_train_v2.tar.gz from https://image-net"
    ):
        open_ilsvrc_loc(root, "train")
    (root / "bbox_train").mkdir()
    with pytest.raises(DataError, match="has no readable XML files"):
        open_ilsvrc_loc(root, "train")
    (root / "ILSVRC2012_bbox_train_v2.tar.gz").write_bytes(b"<html>")
    (root / "bbox_train").rmdir()
    with pytest.raises(DataError, match="is damaged"):
        open_ilsvrc_loc(root, "train")
    unpack(root / "bbox_train")
    for name in BOXES:
        (root / "bbox_train" / f"{name}.xml").rename(root / "bbox_train" / f"{name}x.xml")
    with pytest.raises(DataError, match="check that both are of one split"):
        open_ilsvrc_loc(root, "train")


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    root = tmp_path_factory.mktemp("shapes") / "loc"
    shape_loc.write(root, 40, 20, 64, 0)
    return root


def test_generated_data_is_read_like_ilsvrc(generated):
    train, val = (open_ilsvrc_loc(generated, split) for split in ("train", "val"))
    assert len(train) == 35 and len(val) == 20 and train.classes == val.classes == shape_loc.SYNSETS
    assert val.labels.tolist() == [index % 10 for index in range(20)]
    counts = [len(val.boxes(i)) for i in range(20)]
    assert min(counts) == 1 and max(counts) > 1
    for i in range(len(val)):
        assert val.image(i).size == tuple(val.sizes[i]) and max(val.sizes[i]) == 64
        boxes = val.boxes(i)
        assert (
            (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= val.sizes[i]).all() and (boxes[:, 2:] > boxes[:, :2]).all()
        )


def test_blacklisted_images_are_skipped(generated, tmp_path):
    root = shutil.copytree(generated, tmp_path / "loc")
    (root / "ILSVRC2015_clsloc_validation_blacklist.txt").write_text("2\n20\n")
    val = open_ilsvrc_loc(root, "val")
    names = [val.name(i)[-7:-5] for i in range(len(val))]
    assert len(val) == 18 and "02" not in names and "20" not in names
    assert any("skipped 2 of 20 images, without a box or on the blacklist (2)" in problem for problem in val.problems)


def test_boxes_bound_the_visible_pixels():
    for seed in range(8):
        _, objects = shape_loc.draw(seed % 10, 96, np.random.default_rng(seed))
        boxes = np.array([box_of(item.mask) for item in objects])
        for (x1, y1, x2, y2), item in zip(boxes, objects):
            assert item.mask[y1 : y2 + 1, x1 : x2 + 1].sum() == item.mask.sum() > 20
            edges = item.mask[y1, :], item.mask[y2, :], item.mask[:, x1], item.mask[:, x2]
            assert all(edge.any() for edge in edges) and item.label == seed % 10


def test_generated_data_is_deterministic_and_settings_must_match(generated, tmp_path):
    shape_loc.ensure(generated, 40, 20, 64, 0)
    with pytest.raises(DataError, match="other settings \\(seed=0\\)"):
        shape_loc.ensure(generated, 40, 20, 64, 1)
    with pytest.raises(DataError, match="is not empty"):
        shape_loc.write(generated, 40, 20, 64, 0)
    first, second = (shape_loc.draw(3, 64, np.random.default_rng(5))[0] for _ in range(2))
    assert np.array_equal(first, second)
