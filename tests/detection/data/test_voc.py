"""VOC's XML compared with torchvision's reader and the devkit's rules; damage as errors and counted skips."""

import os
import pickle
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from resdet.detection.data import voc
from resdet.detection.data.annotations import concatenate
from resdet.detection.data.voc import open_devkit, open_voc
from resdet.detection.evaluation import coco
from resdet.detection.evaluation import voc as voc_evaluation
from resdet.errors import DataError

BCCD = Path(__file__).parents[3].parent / "shared/data/bccd"


def element(name="dog", box=(11, 21, 30, 25), difficult=0, truncated=0, extra="") -> str:
    corners = "".join(f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box))
    return (
        f"<object><name>{name}</name><truncated>{truncated}</truncated><difficult>{difficult}</difficult>"
        f"<bndbox>{corners}</bndbox>{extra}</object>"
    )


def xml(*objects: str, filename="", size=(60, 50)) -> str:
    size = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    return f"<annotation><filename>{filename}</filename>{size}{''.join(objects)}</annotation>"


@pytest.fixture
def write(tmp_path):
    """Writes a VOC folder of XML files by stem, with an image each, and returns its root."""

    def write(files: dict[str, str], extension=".jpg", root=tmp_path, shape=(50, 60)) -> Path:
        for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        for stem, text in files.items():
            (root / "Annotations" / f"{stem}.xml").write_text(text)
            cv2.imwrite(str(root / "JPEGImages" / (stem + extension)), np.zeros((*shape, 3), np.uint8))
        return root

    return write


def opened(root: Path, *arguments, **named):
    return open_voc(root / "Annotations", root / "JPEGImages", *arguments, **named)


def test_a_default_namespace_is_ignored(write, tmp_path):
    plain = xml(element(), element("cat", difficult=1), size=(70, 50))
    root = write({"plain": plain, "other": plain.replace("<annotation>", '<annotation xmlns="http://tools.org/voc">')})
    source = opened(root, cache_dir=tmp_path / "cache")
    assert source.problems == [] and source.arrays["sizes"].tolist() == [[70, 50]] * 2
    assert source.arrays["starts"].tolist() == [0, 2, 4] and source.arrays["difficult"].tolist() == [0, 1] * 2


@pytest.mark.skipif(not BCCD.is_dir(), reason="the VOC data of ../shared are not here")
def test_real_files_are_read_as_by_torchvision(tmp_path):
    from torchvision.datasets import VOCDetection

    source = opened(BCCD, on_bad="error", cache_dir=tmp_path)
    assert len(source) == 364 and source.label_counts().sum() == 4888  # as stated by the authors of BCCD
    assert source.classes == ["Platelets", "RBC", "WBC"] and source.problems == []
    for i in range(0, len(source), 7):
        tree = ElementTree.parse(BCCD / "Annotations" / f"{source.image_id(i)}.xml").getroot()
        reference = VOCDetection.parse_voc_xml(tree)["annotation"]
        boxes = np.array([[float(o["bndbox"][k]) for k in voc.CORNERS] for o in reference["object"]])
        boxes[:, :2] -= 1
        size = [int(reference["size"][side]) for side in ("width", "height")]
        objects = source.objects(i)
        assert np.array_equal(objects.boxes, np.clip(boxes, 0, size * 2))
        assert [source.classes[label] for label in objects.labels] == [o["name"] for o in reference["object"]]
        assert tuple(source.sizes[i]) == tuple(size) == source.image(i).size
    test = opened(BCCD, BCCD / "ImageSets/Main/test.txt", source.classes, "error", tmp_path)
    assert len(test) == len((BCCD / "ImageSets/Main/test.txt").read_text().split())


def test_corners_are_1_based_and_inclusive(write):
    root = write({"a": xml(element(box=(1, 1, 60, 50)), element(box=(7, 8, 7, 8)), element(box=("5.5", 3, 20, 9)))})
    assert opened(root).objects(0).boxes.tolist() == [[0, 0, 60, 50], [6, 7, 7, 8], [4.5, 2, 20, 9]]


def test_parts_of_objects_are_not_objects(write):
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></part>"
    source = opened(write({"a": xml(element("person", extra=part))}))
    assert (
        source.objects(0).boxes.tolist() == [[10, 20, 30, 25]]
        and source.classes[source.objects(0).labels[0]] == "person"
    )


def test_difficult_is_crowd_and_truncated_is_kept(write):
    root = write({"a": xml(element(difficult=1), element("cat", truncated=1), element("cat", difficult=1))})
    source = opened(root)
    assert source.objects(0).crowd.tolist() == [True, False, True] and source.objects(0).segments == [None] * 3
    assert source.arrays["truncated"].tolist() == [False, True, False]
    assert source.label_counts().sum() == 1 and source.images_with()[source.classes.index("cat")] == 1
    assert [(a["iscrowd"], a["ignore"], a["difficult"]) for a in source.to_coco()["annotations"]] == [
        (1, 1, 1),
        (0, 0, 0),
        (1, 1, 1),
    ]


@pytest.mark.parametrize("boxes", [1, 2])
def test_difficult_objects_are_neither_missed_nor_found(write, boxes):
    """AP is 1 by COCO's and VOC's rules if only the normal one of two cats is found, or the difficult one as well."""
    source = opened(write({"a": xml(element("cat", (1, 1, 20, 20)), element("cat", (31, 1, 50, 20), difficult=1))}))
    truth = source.to_coco()
    found = [{key: thing[key] for key in ("image_id", "category_id", "bbox")} for thing in truth["annotations"]]
    found = [thing | {"score": score} for thing, score in zip(found[:boxes], (0.5, 0.9))]
    assert coco.evaluate(truth, found)["AP"] == pytest.approx(1)
    assert voc_evaluation.evaluate(truth, found)["mAP"] == pytest.approx(1)
    assert coco.evaluate(truth, found, engine="pycocotools")["AP"] == pytest.approx(1)


def test_ground_truth_is_composed(write):
    root = write({"a": xml(), "b": xml(element("cat"), element("dog", (1, 1, 10, 5)))})
    source = opened(root, classes=["dog", "cat"])
    assert source.category_ids == [1, 2] and [source.image_id(i) for i in (0, 1)] == ["a", "b"]
    assert source.to_coco() == {
        "images": [
            {"id": 1, "file_name": "a.jpg", "width": 60, "height": 50},
            {"id": 2, "file_name": "b.jpg", "width": 60, "height": 50},
        ],
        "annotations": [
            {
                "id": number,
                "image_id": 2,
                "category_id": category,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
                "ignore": 0,
                "difficult": 0,
            }
            for number, category, box in ((1, 2, [10, 20, 20, 5]), (2, 1, [0, 0, 10, 5]))
        ],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
    }


def test_classes_are_vocs_twenty_or_those_found(write, tmp_path):
    assert opened(write({"a": xml(element("dog"))})).classes == voc.CLASSES == sorted(voc.CLASSES)
    assert len(set(voc.CLASSES)) == 20
    root = write({"a": xml(element("zebra"), element("dog"), element("dog"))}, root=tmp_path / "other")
    assert opened(root).classes == ["dog", "zebra"]
    assert opened(root, classes=["zebra", "dog"]).objects(0).labels.tolist() == [0, 1, 1]


def test_lists_have_one_column_or_two(write, tmp_path):
    root = write({"a": xml(), "b c": xml(element()), "d": xml()})
    for text in ("d\nb c\n", "d -1\nb c  1\n", "d 0\r\n\r\nb c 1"):
        (tmp_path / "list.txt").write_text(text)
        source = opened(root, tmp_path / "list.txt")
        assert [source.image_id(i) for i in range(len(source))] == ["d", "b c"]
    assert len(opened(root)) == 3
    with pytest.raises(DataError, match="nothing.txt cannot be read"):
        opened(root, tmp_path / "nothing.txt")
    with pytest.raises(DataError, match="JPEGImages has no XML files"):
        open_voc(root / "JPEGImages", root / "JPEGImages")


@pytest.mark.parametrize("extension", [".jpg", ".jpeg", ".png", ".JPG"])
def test_images_are_found_by_their_stem(write, extension):
    source = opened(write({"a": xml(filename="other.bmp")}, extension))
    assert source.name(0).endswith("JPEGImages/a" + extension) and source.image(0).size == (60, 50)


def test_images_are_found_by_the_name_in_the_file(write):
    root = write({"a": xml(filename="photograph.tif"), "gone": xml(filename="gone.tif")})
    for stem in ("a", "gone"):
        (root / "JPEGImages" / f"{stem}.jpg").unlink()
    cv2.imwrite(str(root / "JPEGImages/photograph.tif"), np.zeros((50, 60, 3), np.uint8))
    source = opened(root)
    assert source.image(0).size == (60, 50)
    with pytest.raises(DataError, match="gone.jpg: cannot read the file"):
        source.image(1)


@pytest.mark.parametrize("size", [None, (0, 0)])
def test_missing_sizes_are_read_from_the_image(write, size):
    source = opened(write({"a": xml(element(box=(50, 40, 99, 99)), size=size)}), on_bad="error")
    assert source.sizes.tolist() == [[60, 50]] and source.objects(0).boxes.tolist() == [[49, 39, 60, 50]]
    assert len(source.problems) == 1
    assert "clipped 1 object with a box that exceeds its image: 1 of a.xml" in source.problems[0]


DAMAGES = {
    "no area": (xml(element(box=(20, 20, 19, 30))), "a box without area", "object 1 of a.xml", 2, 1),
    "outside": (xml(element(box=(61, 20, 80, 30))), "a box outside of its image", "object 1 of a.xml", 2, 1),
    "NaN": (xml(element(box=("nan", 20, 80, 30))), "NaN or infinite", "object 1 of a.xml", 2, 1),
    "infinite": (xml(element(box=(1, 20, "inf", 30))), "NaN or infinite", "object 1 of a.xml", 2, 1),
    "text": (xml(element(box=("one", 20, 80, 30))), "no box of four numbers", "object 1 of a.xml", 2, 1),
    "no box": (xml("<object><name>dog</name></object>"), "no box of four numbers", "object 1 of a.xml", 2, 1),
    "class": (xml(element("unicorn")), "a class that is not among", "object 1 of a.xml", 2, 1),
    "no class": (xml(element("")), "a class that is not among", "object 1 of a.xml", 2, 1),
    "broken": ("<annotation><size>", "a broken XML file", "image a ", 1, 1),
    "empty": ("", "a broken XML file", "image a ", 1, 1),
    "unknown encoding": ('<?xml version="1.0" encoding="none-such"?>' + xml(), "a broken XML file", "image a ", 1, 1),
    "wrong encoding": ('<?xml version="1.0" encoding="utf-16"?>' + xml(), "a broken XML file", "image a ", 1, 1),
    "deep": ("<a>" * 50_000, "a broken XML file", "image a ", 1, 1),
    "huge size": (xml(element(), size=("9" * 400, 50)), "no size in its XML", "image a ", 1, 1),
    "huge box": (xml(element(box=("9" * 400, 1, 5, 5))), "NaN or infinite", "object 1 of a.xml", 2, 1),
    "no size": (xml(element(), size=("?", 4)), "no size in its XML", "image a ", 1, 1),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_an_error_or_a_counted_skip(write, damage):
    text, kind, name, images, objects = DAMAGES[damage]
    root = write({"a": text, "b": xml(element())})
    (root / "JPEGImages/a.jpg").unlink()
    with pytest.raises(DataError, match=kind) as raised:
        opened(root, classes=voc.CLASSES, on_bad="error")
    assert str(root / "Annotations") in str(raised.value) and name in str(raised.value)
    source = opened(root, classes=voc.CLASSES)
    assert len(source) == images and sum(len(source.objects(i)) for i in range(images)) == objects
    assert len(source.problems) == 1 and kind in source.problems[0] and "left out 1 " in source.problems[0]
    assert opened(root, classes=voc.CLASSES).problems == source.problems


def test_an_image_without_xml_is_a_problem(write, tmp_path):
    root = write({"a": xml(element())})
    (tmp_path / "list.txt").write_text("a\nb\n")
    with pytest.raises(DataError, match="image b has no XML file"):
        opened(root, tmp_path / "list.txt", on_bad="error")
    source = opened(root, tmp_path / "list.txt")
    assert len(source) == 1 and "left out 1 image with no XML file that can be read: b" in source.problems[0]


def test_a_list_with_invalid_names(write, tmp_path):
    root = write({"a": xml(element())})
    (tmp_path / "list.txt").write_bytes(b"a\nb\0c\n" + b"d" * 5000)
    source = opened(root, tmp_path / "list.txt")
    assert len(source) == 1 and [len(sentence) < 300 for sentence in source.problems] == [True, True]


def test_the_index_is_reused_until_files_change(write, monkeypatch):
    root = write({"a": xml(element()), "b": xml()})
    before = opened(root)
    with monkeypatch.context() as patch:
        patch.setattr(voc, "read_records", lambda *_: pytest.fail("read again"))
        again = opened(root)
        with pytest.raises(pytest.fail.Exception):
            opened(root, classes=["dog"])
    assert pickle.loads(pickle.dumps(again)).objects(0).boxes.tolist() == before.objects(0).boxes.tolist()
    file = root / "Annotations/b.xml"
    times = os.stat(root / "Annotations").st_mtime_ns
    with open(file, "r+") as text:  # in place, as labeling tools do
        text.write(xml(element(), element()))
    assert os.stat(root / "Annotations").st_mtime_ns == times
    assert len(opened(root).objects(1)) == 2


def test_years_of_the_devkit_can_be_concatenated(write, tmp_path):
    for year, stems in (("2007", ("000005", "000007")), ("2012", ("2008_000001",))):
        root = write({stem: xml(element("train")) for stem in stems}, root=tmp_path / f"VOCdevkit/VOC{year}")
        (root / "ImageSets/Main/trainval.txt").write_text("\n".join(stems))
    parts = [open_devkit(tmp_path, year, "trainval", "error") for year in ("2007", "2012")]
    assert len(open_devkit(tmp_path / "VOCdevkit", "2007", "trainval")) == 2
    whole = concatenate(parts)
    assert len(whole) == 3 and whole.classes == voc.CLASSES and whole.label_counts()[voc.CLASSES.index("train")] == 3
    assert [whole.image_id(i) for i in range(3)] == ["000005", "000007", "2008_000001"]
    assert [whole.result_id(i) for i in range(3)] == [1, 2, 3] and whole.image(2).size == (60, 50)
    with pytest.raises(DataError, match="has no folder VOC2010"):
        open_devkit(tmp_path, "2010", "trainval")
    with pytest.raises(DataError, match="test.txt cannot be read"):
        open_devkit(tmp_path, "2007", "test")
