"""ILSVRC DET read from a small copy of its official layout; class names compared with WordNet's in timm."""

import cv2
import numpy as np
import pytest
from PIL import Image

from resdet.detection.data.geometry import read_scene
from resdet.detection.data.ilsvrc_classes import DET
from resdet.detection.data.ilsvrc_det import open_ilsvrc_det
from resdet.detection.data.loader import EvaluationSamples
from resdet.detection.evaluation.ilsvrc_det import evaluate_det
from resdet.errors import DataError

# The devkit's names where WordNet's synset has other words.
OWN_WORDS = {
    "bookshelf": "bookcase",
    "cup or mug": "mug",
    "flower pot": "flowerpot",
    "hat with a wide brim": "cowboy hat",
    "salt or pepper shaker": "saltshaker",
    "tie": "Windsor tie",
    "tv or monitor": "display",
}


def xml(*objects: tuple) -> str:
    """Builds XML from tuples (wnid, xmin, ymin, xmax, ymax), for an image of 64×48."""
    parts = [
        f"<object><name>{wnid}</name><bndbox><xmax>{x2}</xmax><xmin>{x1}</xmin><ymax>{y2}</ymax><ymin>{y1}</ymin></bndbox>"
        f"</object>"
        for wnid, x1, y1, x2, y2 in objects
    ]
    return f"<annotation><size><width>64</width><height>48</height></size>{''.join(parts)}</annotation>"


ZEBRA, DOG = "n02391049", "n02084071"
FILES = {
    "train/ILSVRC2013_train/n02391049/n02391049_10": xml((ZEBRA, 0, 0, 63, 47)),
    "train/ILSVRC2014_train_0000/ILSVRC2014_train_00000003": xml((DOG, 4, 5, 4, 9), (ZEBRA, 2, 2, 64, 48)),
    "val/ILSVRC2012_val_00000001": xml((DOG, 10, 10, 19, 29)),
    "val/ILSVRC2012_val_00000002": xml(),
    "val/ILSVRC2013_val_00000003": xml((ZEBRA, 1, 2, 3, 4)),
}
EXTRA, LATER = "ILSVRC2013_train_extra0/ILSVRC2013_train_00000001", "ILSVRC2014_train_0000/ILSVRC2014_train_00000003"
LISTS = {
    "train_59": f"{EXTRA} -1\n{LATER} 1\n",
    "train_200": f"ILSVRC2013_train/n02391049/n02391049_10 1\n{LATER} 0\n",
    "val": "ILSVRC2012_val_00000001 1\nILSVRC2012_val_00000002 2\nILSVRC2013_val_00000003 3\n",
    "val1": "ILSVRC2013_val_00000003\n",
    "val2": "ILSVRC2012_val_00000002 1\nILSVRC2012_val_00000001 2\n",
}


@pytest.fixture
def root(tmp_path):
    home = tmp_path / "ILSVRC"
    for stem, text in FILES.items():
        file = home / "Annotations/DET" / f"{stem}.xml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for stem in (*FILES, f"train/{EXTRA}"):
        file = home / "Data/DET" / f"{stem}.JPEG"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))[1].tobytes())
    (home / "ImageSets/DET").mkdir(parents=True)
    for name, text in LISTS.items():
        (home / "ImageSets/DET" / f"{name}.txt").write_text(text)
    return tmp_path


def stems(source) -> list[str]:
    return [source.image_id(i) for i in range(len(source))]


def test_class_names_are_wordnets():
    assert len(DET) == len(set(DET.values())) == 200
    assert list(DET.values())[:3] == ["accordion", "airplane", "ant"] and list(DET)[-1] == ZEBRA
    timm_data = pytest.importorskip("timm.data")
    lemmas = timm_data.ImageNetInfo("imagenet22k")
    for wnid, name in DET.items():
        words = lemmas.label_name_to_description(wnid, detailed=False).split(", ")
        assert OWN_WORDS.get(name, name).lower() in [word.lower() for word in words], wnid


def test_classes_have_the_devkits_numbers():
    """The order is not quite alphabetical; compares with the label map of SSD's models for ILSVRC DET."""
    known = {27: "bookshelf", 28: "bow tie", 29: "bow", 30: "bowl", 54: "cup or mug", 58: "dog", 124: "person"}
    known |= {127: "ping-pong ball", 181: "tie", 184: "traffic light", 189: "tv or monitor", 197: "watercraft"}
    names = list(DET.values())
    assert {number: names[number - 1] for number in known} == known
    assert list(DET)[27:29] == ["n02883205", "n02879718"]


def test_train_has_positives_and_negatives(root):
    source = open_ilsvrc_det(root, "train", "error")
    assert stems(source) == ["n02391049_10", "ILSVRC2013_train_00000001", "ILSVRC2014_train_00000003"]
    assert source.sizes.tolist() == [[64, 48]] * 3 and source.image(1).size == (64, 48)
    assert len(source.objects(1)) == 0
    assert source.classes == list(DET.values()) and source.category_ids == list(range(1, 201))
    assert [source.classes[label] for label in source.objects(2).labels] == ["dog", "zebra"]


def test_corners_are_0_based_and_inclusive(root):
    source = open_ilsvrc_det(root / "ILSVRC", "train")
    assert source.objects(0).boxes.tolist() == [[0, 0, 64, 48]]
    assert source.objects(2).boxes.tolist() == [[4, 5, 5, 10], [2, 2, 64, 48]] and source.problems == []


def test_a_positive_without_xml_is_not_a_negative(root):
    (root / "ILSVRC/Annotations/DET/train/ILSVRC2013_train/n02391049/n02391049_10.xml").unlink()
    with pytest.raises(DataError, match="n02391049_10 has no XML file"):
        open_ilsvrc_det(root, "train", "error")
    source = open_ilsvrc_det(root, "train")
    assert len(source) == 2 and "n02391049_10" in source.problems[0]


def test_val_and_its_halves(root):
    val = open_ilsvrc_det(root, "val", "error")
    assert stems(val) == ["ILSVRC2012_val_00000001", "ILSVRC2012_val_00000002", "ILSVRC2013_val_00000003"]
    assert stems(open_ilsvrc_det(root, "val1")) == ["ILSVRC2013_val_00000003"]
    val2 = open_ilsvrc_det(root, "val2")
    assert stems(val2) == ["ILSVRC2012_val_00000002", "ILSVRC2012_val_00000001"] and val2.result_id(1) == 2
    assert val2.to_coco()["annotations"][0]["bbox"] == [10, 10, 10, 20]
    both = open_ilsvrc_det(root, "train+val1")
    assert len(both) == 4 and stems(both)[3] == "ILSVRC2013_val_00000003" and both.label_counts().sum() == 4


@pytest.mark.parametrize("folder", ["", "devkit/data"])
def test_the_blacklist_numbers_images_by_the_lines_of_val(root, folder):
    """The blacklist applies to the halves of val, whose images have other numbers, and to an older index."""
    assert all("blacklisted_category_ids" not in image for image in open_ilsvrc_det(root, "val").to_coco()["images"])
    file = root / "ILSVRC" / folder / "ILSVRC2015_det_validation_blacklist.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"1 {DOG}\n3 {ZEBRA}\n1 {ZEBRA}\n")
    told = lambda split: {
        image["file_name"][:-5]: image.get("blacklisted_category_ids", [])
        for image in open_ilsvrc_det(root, split).to_coco()["images"]
    }
    first, second, third = ("ILSVRC2012_val_00000001", "ILSVRC2012_val_00000002", "ILSVRC2013_val_00000003")
    assert told("val") == {first: [58, 200], second: [], third: [200]}
    assert told("val2") == {first: [58, 200], second: []}
    both = open_ilsvrc_det(root, "val1+val2")
    assert both.blacklist.tolist() == [[0, 200], [2, 58], [2, 200]]
    assert len(open_ilsvrc_det(root, "train").blacklist) == 0

    perfect = [{**thing, "score": 1.0} for thing in both.to_coco()["annotations"]]
    figures = evaluate_det(both.to_coco(), perfect)
    assert figures["mAP"] is None and all(row["objects"] == 0 for row in figures["per_class"].values())
    file.write_text("4 n02391049\n")
    with pytest.raises(DataError, match="blacklist.txt has a line without an image of val.txt"):
        open_ilsvrc_det(root, "val")


def test_images_of_another_size_than_annotated(root):
    """Boxes are scaled to the size of the image file; EXIF orientation is ignored."""
    stored = np.zeros((48, 64, 3), np.uint8)
    stored[10:30, 10:20] = 255
    folder = root / "ILSVRC/Data/DET/val"
    cv2.imwrite(str(folder / "ILSVRC2012_val_00000001.JPEG"), cv2.resize(stored, (128, 96)))
    source = open_ilsvrc_det(root, "val")
    assert source.image(0).size == (128, 96)
    for short, scale in ((48, 1), (96, 2)):
        scene = read_scene(source, 0, short, 1000)
        assert scene.boxes.tolist() == [[10 * scale, 10 * scale, 20 * scale, 30 * scale]]
    half = EvaluationSamples(source, lambda image: image.decode()[::2, ::2], "error").resized(0)
    assert half.boxes.tolist() == [[10, 10, 20, 30]] and half.size == (64, 48)

    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(stored).save(folder / "ILSVRC2012_val_00000001.JPEG", "JPEG", exif=turned)
    image = source.image(0)
    assert image.size == (64, 48) and image.decode()[10:30, 10:20].min() > 200 > image.decode()[:, 30:].max()


def test_errors_name_what_is_missing(root, tmp_path):
    (root / "ILSVRC/ImageSets/DET/val1.txt").unlink()
    with pytest.raises(DataError, match="val1.txt is missing: .*R-CNN's split"):
        open_ilsvrc_det(root, "train+val1")
    with pytest.raises(DataError, match="no split test2: choose from train, val"):
        open_ilsvrc_det(root, "test2")
    with pytest.raises(DataError, match="has no folder Annotations/DET"):
        open_ilsvrc_det(tmp_path / "nowhere", "val")
