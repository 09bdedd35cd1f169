"""Layouts of COCO, YOLO and VOC as labeling tools and libraries write them, recognized by content."""

import os
import random
import re

import pytest
from detection.formats.samples import coco, objects, opened, picture, voc, write

from resdet.detection import register_format
from resdet.detection.data.config import AutoConfig, SplitConfig
from resdet.detection.formats import folder
from resdet.detection.formats.folder import Folder
from resdet.detection.formats.layout import Layout, Split, Unfit
from resdet.detection.formats.registry import formats, recognize
from resdet.errors import ConfigError, DataError

CAT = "0 0.5 0.5 0.5 0.5\n"  # (15, 10), (45, 30) in 60 × 40 pixels
CAT_BOX = ("cat", [15.0, 10.0, 45.0, 30.0])
LABELS = {"images/train/a.jpg": None, "labels/train/a.txt": CAT, "images/val/b.jpg": None, "labels/val/b.txt": CAT}
VOC_XML = voc(("cat", 16, 11, 45, 30))
ONE = coco({7: "a.jpg"}, [(7, 1, 15, 10, 30, 20)])
OTHER = coco({9: "b.jpg"}, [(9, 1, 15, 10, 30, 20)])

# Each layout has a cat in a.jpg for training and one in b.jpg for validation.
LAYOUTS = {
    "coco, official": {
        **{"train2017/a.jpg": None, "val2017/b.jpg": None},
        **{"annotations/instances_train2017.json": ONE, "annotations/instances_val2017.json": OTHER},
    },
    "coco, Roboflow": {
        **{"train/a.jpg": None, "valid/b.jpg": None},
        **{"train/_annotations.coco.json": ONE, "valid/_annotations.coco.json": OTHER},
    },
    "coco, FiftyOne": {
        **{"train/data/a.jpg": None, "validation/data/b.jpg": None},
        **{"train/labels.json": ONE, "validation/labels.json": OTHER},
    },
    "coco, CVAT": {
        **{"images/train/a.jpg": None, "images/val/b.jpg": None},
        **{"annotations/instances_train.json": ONE, "annotations/instances_val.json": OTHER},
    },
    "yolo, ultralytics with a dict": {
        **LABELS,
        "data.yaml": "path: .\ntrain: images/train\nval: images/val\nnames:\n  0: cat\n  1: dog\n",
    },
    "yolo, Roboflow": {
        **{"train/images/a.jpg": None, "train/labels/a.txt": CAT, "valid/images/b.jpg": None},
        **{"valid/labels/b.txt": CAT, "data.yaml": "train: ../train/images\nval: ../valid/images\nnames: [cat, dog]"},
    },
    "yolo, text lists": {
        **{"images/a.jpg": None, "labels/a.txt": CAT, "images/b.jpg": None, "labels/b.txt": CAT},
        **{"train.txt": "./images/a.jpg\n", "val.txt": "images/b.jpg\n"},
        "my data.yaml": "train: train.txt\nval: [val.txt]\nnc: 2\nnames: ['cat', 'dog']\n",
    },
    "yolo, of another machine": {
        **LABELS,
        "data.yaml": "path: /nowhere/data\ntrain: /nowhere/data/images/train\nval: x\nnames: [cat, dog]\n",
    },
    "yolo, folders and classes.txt": {**LABELS, "labels/classes.txt": "cat\ndog\n"},
    "yolo, upper case": {
        **{"Train/Images/a.JPG": None, "Train/Labels/a.TXT": CAT, "Val/Images/b.JPEG": None},
        **{"Val/Labels/b.txt": CAT, "obj.names": "cat\ndog\n"},
    },
    "yolo, CVAT and Darknet": {
        **{"obj_train_data/a.jpg": None, "obj_train_data/a.txt": CAT, "obj_valid_data/b.png": None},
        **{"obj_valid_data/b.txt": CAT, "obj.names": "cat\ndog\n", "train.txt": "data/obj_train_data/a.jpg"},
    },
    "voc, devkit": {
        **{"JPEGImages/a.jpg": None, "JPEGImages/b.jpg": None, "Annotations/a.xml": VOC_XML},
        **{"Annotations/b.xml": VOC_XML, "ImageSets/Main/train.txt": "a\n", "ImageSets/Main/val.txt": "b\n"},
        "ImageSets/Main/cat_train.txt": "b  1\n",
    },
    "voc, Roboflow": {
        **{"train/a.jpg": None, "train/a.xml": VOC_XML, "valid/b.jpg": None, "valid/b.xml": VOC_XML},
    },
    "voc, upper case and renamed": {
        **{"train/pictures/a.JPG": None, "train/xml/A.XML": VOC_XML, "val/pictures/b.JPG": None},
        "val/xml/2.xml": voc(("cat", 16, 11, 45, 30), filename="b.jpg"),
    },
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout(name, tmp_path):
    root = write(tmp_path, {**LAYOUTS[name], "README.txt": "exported today"})
    layout = recognize(root)
    assert layout.format == name.partition(",")[0] and list(layout.splits) == ["train", "val"]
    for split, image in (("train", "a"), ("val", "b")):
        source = opened(root, split, on_bad_annotation="error")
        assert source.classes[0] == "cat" and source.problems == []
        (found,) = objects(source).items()
        assert found[0].rpartition("/")[2].lower().startswith(image) and found[1] == [CAT_BOX]
        assert source.header_size(0) == (60, 40)
    note = opened(root).notes[0]
    assert note.startswith(f"{root} is in the format {layout.format}, with train and val (")


def test_links_and_folders_that_contain_themselves(tmp_path):
    data = write(tmp_path / "data", LAYOUTS["voc, Roboflow"])
    root = tmp_path / "root"
    root.mkdir()
    os.symlink(data / "train", root / "train")
    os.symlink(data / "valid", root / "valid")
    os.symlink(root, data / "train" / "again")
    os.symlink("own.jpg", root / "train" / "own.jpg")
    assert objects(opened(root)) == {"train/a.jpg": [CAT_BOX]}


def test_images_outside_of_the_folder(tmp_path):
    write(tmp_path, {"images/a.jpg": None, "labels/a.txt": CAT, "images/b.jpg": None})
    yaml = f"train: ../images\nval: {tmp_path}/images\nnames: [cat]"
    root = write(tmp_path / "project", {"data.yaml": yaml})
    assert objects(opened(root)) == {"../images/a.jpg": [CAT_BOX], "../images/b.jpg": []}
    assert len(opened(root, "val")) == 2 and opened(root).header_size(0) == (60, 40)


def test_paths_that_wrongly_leave_the_folder(tmp_path):
    """Roboflow writes ../first/images for first/images, here in folders without names of splits."""
    files = {"first/images/a.jpg": None, "first/labels/a.txt": CAT, "second/images/b.jpg": None}
    yaml = "train: ../first/images\nval: ../second/images\nnames: [cat]"
    root = write(tmp_path, files | {"second/labels/b.txt": CAT, "data.yaml": yaml})
    assert objects(opened(root, "val")) == {"second/images/b.jpg": [CAT_BOX]}


def test_yolo_lines(tmp_path):
    lines = [
        "1 0.25 0.25 0.5 0.5 0.9",  # with a score
        "0 0 0 0.5 0 0.5 0.5 0 0.5",  # four corners: a polygon
        "1 0.1 0.1 0.6 0.1 0.3 0.8",
        "x 0.5 0.5 0.5 0.5",
        "0 0.5 0.5",
        "0.5 0.5 0.5 0.5 0.5",
        "5 0.5 0.5 0.5 0.5",
        "0 0.5 0.5 0 0.5",
        "0 5 5 0.1 0.1",
        "0 nan 0.5 0.5 0.5",
        "",
    ]
    files = {"a.jpg": None, "a.txt": "\n".join(lines), "b.jpg": None, "b.txt": "", "classes.txt": "cat\ndog"}
    root = write(
        tmp_path, {f"train/{name}": text for name, text in files.items()} | {"val/c.jpg": None, "val/c.txt": CAT}
    )
    source = opened(root)
    (found, nothing) = objects(source).values()
    assert found == [
        ("dog", [0, 0, 30, 20]),
        ("cat", [0, 0, 30, 20]),
        ("dog", [6, 4, 36, 32]),
    ]
    assert nothing == [] and source.has_masks and len(source.maskless()) == 1
    mask = source.objects(0).segments[1].bitmap(40, 60)
    assert mask[:20, :30].all() and mask.sum() == 600
    assert [sentence.split(": ", 1)[1] for sentence in source.problems] == [
        "left out 3 lines with something else than a class number and a box or a polygon: "
        "train/a.txt:4, train/a.txt:5, train/a.txt:6",
        "left out 1 line with a class number without a name: train/a.txt:7",
        "left out 1 annotation with a bbox with NaN or infinite coordinates: train/a.txt:10",
        "left out 1 annotation with a box without area: train/a.txt:8",
        "left out 1 annotation with a box outside of its image: train/a.txt:9",
    ]
    with pytest.raises(
        DataError, match="a.txt:4 has something else than a class number and a box or a polygon: fix it"
    ):
        opened(root, on_bad_annotation="error")


def test_labels_of_an_image_that_cannot_be_read(tmp_path):
    source = opened(write(tmp_path, {**LABELS, "images/train/c\n.jpg": b"no image", "labels/train/c\n.txt": CAT}))
    assert list(source.files) == ["images/train/a.jpg"]
    assert r"1 image with no width and height, nor a readable file: images/train/c\n.jpg" in source.problems[0]


def test_yolo_labels_with_decomposed_characters(tmp_path):
    """macOS writes ü as u and two dots."""
    files = {"images/train/\u00fc.jpg": None, "labels/train/u\u0308.txt": CAT, "classes.txt": "cat"}
    source = opened(write(tmp_path, {**LABELS, **files}))
    assert objects(source)["images/train/\u00fc.jpg"] == [CAT_BOX] and source.problems == []


def test_yolo_labels_without_an_image_are_named(tmp_path):
    """Ignores empty label files, other text files, and labels of images in no split."""
    files = {"labels/train/gone.txt": CAT, "labels/train/empty.txt": "", "labels/train/notes.txt": "by Anna\n"}
    lists = {
        "train.txt": "images/a.jpg",
        "val.txt": "images/b.jpg",
        "data.yaml": "train: train.txt\nval: val.txt\nnames: [cat]",
    }
    root = write(tmp_path / "folders", {**LABELS, **files})
    assert opened(root).problems == [f"{root}: left out 1 label file with no image: labels/train/gone.txt"]
    assert opened(root, "val").problems == []
    images = {f"images/{name}.jpg": None for name in "abc"} | {f"labels/{name}.txt": CAT for name in "abcd"}
    root = write(tmp_path / "lists", images | lists)
    assert opened(root).problems == [f"{root}: left out 1 label file with no image: labels/d.txt"]
    assert opened(root, "val").problems == []


def test_yolo_without_names_counts_classes(tmp_path):
    lines = "".join(f"{label} 0.5 0.5 0.5 0.5\n" for label in (10, 2, 9))
    root = write(tmp_path, {"train/a.jpg": None, "train/a.txt": lines, "val/b.jpg": None, "val/b.txt": CAT})
    assert opened(root).classes == opened(root, "val").classes == ["0", "2", "9", "10"]


def test_yolo_names_are_text(tmp_path):
    root = write(tmp_path, {**LABELS, "data.yaml": "train: images/train\nval: images/val\nnames: [no, 1.0, '']"})
    assert opened(root).classes == ["no", "1.0", "2"]


@pytest.mark.parametrize(
    "name, text", [("data.yaml", "train: images/train\nnames: [cat, dog, cat]"), ("classes.txt", "cat\ndog\ncat\n")]
)
def test_two_yolo_classes_of_one_name_are_refused(name, text, tmp_path):
    root = write(tmp_path, {**LABELS, name: text})
    with pytest.raises(DataError, match=f"{name}: the classes 0 and 2 are both named 'cat': rename one of them"):
        opened(root)


def test_blank_lines_of_a_list_of_yolo_classes_are_numbers(tmp_path):
    """Class indices are line numbers, as in LabelImg and Darknet."""
    labels = {"labels/train/a.txt": "2 0.5 0.5 0.5 0.5\n", "classes.txt": "dog\n\n cat\r\n\n"}
    source = opened(write(tmp_path, LABELS | labels))
    assert source.classes == ["dog", "1", "cat"] and objects(source) == {"images/train/a.jpg": [CAT_BOX]}


def test_two_coco_categories_of_one_name_are_two_classes(tmp_path):
    """Roboflow exports a category with the name of the project in addition to the classes."""
    content = coco({7: "a.jpg"}, [(7, 2, 15, 10, 30, 20)], ("cat", "cat"))
    root = write(tmp_path, {f"{split}/a.jpg": None for split in ("train", "val")})
    write(root, {f"annotations/{split}.json": content for split in ("train", "val")})
    source = opened(root)
    assert source.classes == ["cat", "cat"] and source.objects(0).labels.tolist() == [1]


def test_coco_files_with_other_category_ids_say_which_ids_are_used(tmp_path):
    """A results file names classes by id only."""
    root = write(tmp_path, {f"{split}/a.jpg": None for split in ("train", "val")})
    for split, names in (("train", ("cat", "dog")), ("val", ("dog", "cat"))):
        write(root, {f"annotations/{split}.json": coco({7: "a.jpg"}, [(7, 1, 15, 10, 30, 20)], names)})
    source = opened(root, "val")
    assert source.classes == ["cat", "dog"] and source.objects(0).labels.tolist() == [1]
    assert "their categories differ: category ids are those of annotations/train.json" in opened(root).notes[0]


def test_sizes_are_measured_again_when_images_change(tmp_path):
    root = write(tmp_path, LABELS)
    assert objects(opened(root)) == {"images/train/a.jpg": [("0", CAT_BOX[1])]}
    picture(root / "images/train/a.jpg", size=(120, 80))
    assert objects(opened(root)) == {"images/train/a.jpg": [("0", [30, 20, 90, 60])]}
    (root / "labels/train/a.txt").write_text("0 0.25 0.25 0.5 0.5")
    assert objects(opened(root)) == {"images/train/a.jpg": [("0", [0, 0, 60, 40])]}


def test_voc_of_two_years(tmp_path):
    files = {}
    for year, image in (("2007", "a"), ("2012", "b")):
        home = f"VOCdevkit/VOC{year}"
        files |= {f"{home}/JPEGImages/{image}.jpg": None, f"{home}/Annotations/{image}.xml": VOC_XML}
        files |= {f"{home}/ImageSets/Main/trainval.txt": image, f"{home}/ImageSets/Segmentation/train.txt": ""}
    files |= {"VOCdevkit/VOC2007/ImageSets/Main/test.txt": "missing\na"}
    root = write(tmp_path, files)
    assert len(opened(root)) + len(opened(root, "val")) == 2 and len(opened(root).classes) == 20
    test = opened(root, "test")
    assert (
        len(test) == 1
        and "1 image with no XML file that can be read: VOCdevkit/VOC2007/Annotations/missing.xml" in test.problems[0]
    )


def test_voc_with_the_lists_trainval_and_val(tmp_path):
    files = {f"JPEGImages/{name}.jpg": None for name in "abc"}
    files |= {f"Annotations/{name}.xml": VOC_XML for name in "abc"}
    files |= {"ImageSets/Main/trainval.txt": "a\nb\nc\n", "ImageSets/Main/val.txt": "b\n"}
    root = write(tmp_path, files)
    assert sorted(opened(root).files) == ["JPEGImages/a.jpg", "JPEGImages/c.jpg"]
    assert list(opened(root, "val").files) == ["JPEGImages/b.jpg"]


def test_voc_classes_are_those_of_all_splits(tmp_path):
    files = {"train/a.jpg": None, "train/a.xml": voc(("dog", 1, 1, 9, 9)), "val/b.jpg": None}
    root = write(tmp_path, files | {"val/b.xml": voc(("cat", 1, 1, 9, 9))})
    assert opened(root).classes == opened(root, "val").classes == ["cat", "dog"]
    assert opened(root, "val").label_counts().tolist() == [1, 0]


def test_equal_file_names_in_all_folders(tmp_path):
    """Image 1.jpg of each split is the file in the split's folder."""
    files = {f"{split}/1.jpg": None for split in ("train", "val", "test")}
    files |= {
        f"annotations/{split}.json": coco({1: "1.jpg"}, [(1, 1, 0, 0, 9, 9)]) for split in ("train", "val", "test")
    }
    root = write(tmp_path, files)
    for split in ("train", "val", "test"):
        assert opened(root, split).name(0) == str(root / split / "1.jpg")


def test_coco_instances_take_precedence_over_other_files(tmp_path):
    files = LAYOUTS["coco, official"] | {"annotations/captions_train2017.json": {"images": [], "annotations": []}}
    files |= {f"annotations/{name}_train2017.json": ONE for name in ("person_keypoints", "aaa")}
    layout = recognize(write(tmp_path, files))
    assert layout.splits["train"].annotations == ("annotations/instances_train2017.json",)
    assert "2 other COCO files are not read" in layout.evidence


def test_settings_hold_for_coco_files_with_a_split_each(tmp_path):
    content = coco({1: "a.jpg"}, [(1, 1, 2, 3, 0, 9)], ("person",))
    content["categories"][0] |= {"keypoints": ["nose"], "skeleton": []}
    root = write(tmp_path, {f"{split}/a.jpg": None for split in ("train", "valid")})
    write(root, {f"{split}/a.json": content for split in ("train", "valid")})
    assert opened(root).keypoints.names == ["nose"] and opened(root, keypoints=False).keypoints is None
    with pytest.raises(DataError, match="a.json: annotation 1 has a box without area: fix it"):
        opened(root, on_bad_annotation="error")


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_coco_file_that_is_cut_short_is_refused(tmp_path, split):
    """Cuts a file before its categories; the other split is complete."""
    root = write(tmp_path, LAYOUTS["coco, official"])
    file = next((root / "annotations").glob(f"instances_{split}*.json"))
    file.write_text(file.read_text()[: file.read_text().index('"categories"')])
    with pytest.raises(DataError, match=f"{file.name} is cut short: copy, export or download it again"):
        recognize(root)


def test_lvis_names_images_by_url(tmp_path):
    content = coco({7: "a.jpg"}, [(7, 1, 15, 10, 30, 20)])
    content["images"][0] = {"id": 7, "width": 60, "height": 40, "coco_url": "http://x.org/train2017/a.jpg"}
    root = write(tmp_path, {"train2017/a.jpg": None, "lvis_v1_train.json": content, "lvis_v1_val.json": content})
    assert recognize(root).splits["train"].image_folder == "" and opened(root).header_size(0) == (60, 40)
    root = write(tmp_path / "one", {"train2017/a.jpg": None, "lvis_v1.json": content, "train2017/b.jpg": None})
    content["images"].append({"id": 8, "width": 60, "height": 40, "coco_url": "http://x.org/train2017/b.jpg"})
    write(root, {"lvis_v1.json": content})
    assert len(opened(root)) == len(opened(root, "val")) == 1


def test_the_format_with_more_images_takes_precedence(tmp_path):
    files = {f"{split}/{k}.jpg": None for split in ("train", "val") for k in range(2)}
    files |= {name.replace(".jpg", ".xml"): VOC_XML for name in files}
    root = write(tmp_path, files | {"train/0.txt": CAT, "val/0.txt": CAT})
    source = opened(root)
    assert len(source) == 2 and source.classes == ["cat"]
    assert "also in the format yolo (2 annotated images, 4 in voc): set data.format=yolo" in source.notes[1]
    assert opened(root, format="yolo").classes == ["0"]
    with pytest.raises(DataError, match="coco: no JSON file with images, annotations and categories"):
        opened(root, format="coco")
    with pytest.raises(
        ConfigError, match="data.format: there is no annotation format named 'yollo': did you mean yolo"
    ):
        opened(root, format="yollo")


def test_errors_say_why_no_format_fits(tmp_path):
    with pytest.raises(
        DataError, match=re.escape("is missing: give the folder of images and annotations (data.root).")
    ):
        opened(tmp_path / "none")
    with pytest.raises(DataError, match="has no images: give the folder"):
        opened(write(tmp_path / "empty", {"a.txt": "1"}))
    root = write(tmp_path / "odd", {"a.jpg": None, "a.txt": "a caption of the picture", "b.jpg": None})
    with pytest.raises(
        DataError, match="2 images and no annotations .*yolo: a.txt has no line `class x y width height`"
    ):
        opened(root)
    write(root, {"x.xml": "<feed></feed>", "y.xml": "<feed></feed>"})
    with pytest.raises(DataError, match=r"\(voc: x.xml has no element <annotation>; yolo: "):
        opened(root)
    with pytest.raises(DataError, match="with train and val .*, and has no test split: add"):
        opened(write(tmp_path / "yolo", LABELS), "test")


def test_coco_files_can_be_set_by_path(tmp_path):
    root = write(tmp_path, {"a.jpg": None, "one.json": ONE})
    files = SplitConfig(".", "one.json")
    source = AutoConfig(root=str(root), train=files, val=files).open("val")
    assert source.file == root / "one.json" and source.image_id(0) == 7
    with pytest.raises(ConfigError, match="data.val.annotations is empty"):
        AutoConfig(root=str(root), train=files).open("train")


def test_a_custom_format_can_be_registered(tmp_path):
    class Points:
        def recognize(self, folder):
            files = folder.having(".points")
            return Layout("points", folder, {"train": Split(tuple(files))}, files[0]) if files else Unfit("no .points")

        def read(self, layout, split, collector):
            for file in layout.splits[split].annotations:
                x, y = map(float, (layout.root / file).read_text().split())
                image = collector.add_image(layout.folder.locate(file.removesuffix(".points"), file))
                collector.add_object(image, "point", (x - 5, y - 5, x + 5, y + 5), file)
            return collector.content()

    register_format("points")(Points)
    try:
        root = write(tmp_path, {"a.jpg": None, "a.points": "20 20", "b.jpg": None, "b.points": "30 10"})
        found = objects(opened(root)) | objects(opened(root, "val"))
        assert found == {"a.jpg": [("point", [15, 15, 25, 25])], "b.jpg": [("point", [25, 5, 35, 15])]}
    finally:
        del formats.entries["points"]


def test_the_order_of_files_does_not_matter(tmp_path, monkeypatch):
    root = write(tmp_path, {f"train/{k}.jpg": None for k in range(9)} | {f"train/{k}.txt": CAT for k in range(9)})
    files = Folder(root).files
    walk = folder.walk
    monkeypatch.setattr(folder, "walk", lambda *place: random.sample(found := list(walk(*place)), len(found)))
    assert Folder(root).files == files and len(files) == 18
