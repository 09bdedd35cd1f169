"""The images, labels and classes in the splits of a data set."""

import os
import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest
from detection.formats.samples import SIZE, coco, objects, opened, voc, write

from resdet.detection.data.config import AutoConfig
from resdet.detection.formats.folder import Folder
from resdet.detection.formats.registry import recognize
from resdet.errors import DataError

CAT = "0 0.5 0.5 0.5 0.5\n"
XML = voc(("cat", 16, 11, 45, 30))
LABELED = {"images/train/a.jpg": None, "labels/train/a.txt": CAT, "images/val/b.jpg": None, "labels/val/b.txt": CAT}


def files_of(root):
    return {split: sorted(opened(root, split).files) for split in ("train", "val")}


def yolo(names):
    return {f"images/{name}.jpg": None for name in names} | {f"labels/{name}.txt": CAT for name in names}


def test_changed_lists_of_yolo_are_read_again(tmp_path):
    lists = {"data.yaml": "train: train.txt\nval: val.txt\nnames: [cat]\n"}
    first = {"train.txt": "images/a.jpg\nimages/b.jpg\nimages/c.jpg\n", "val.txt": "images/d.jpg\n"}
    second = {"train.txt": "images/a.jpg\nimages/b.jpg\n", "val.txt": "images/c.jpg\nimages/d.jpg\n"}
    root = write(tmp_path, yolo("abcd") | lists | first)
    assert files_of(root)["val"] == ["images/d.jpg"]
    write(root, second)
    assert files_of(root) == {"train": ["images/a.jpg", "images/b.jpg"], "val": ["images/c.jpg", "images/d.jpg"]}


def test_an_image_without_labels_moves_to_another_list(tmp_path):
    lists = {"data.yaml": "train: train.txt\nval: val.txt\nnames: [cat]\n", "images/x.jpg": None}
    root = write(
        tmp_path, yolo("ab") | lists | {"train.txt": "images/a.jpg\nimages/x.jpg\n", "val.txt": "images/b.jpg\n"}
    )
    assert files_of(root)["train"] == ["images/a.jpg", "images/x.jpg"]
    write(root, {"train.txt": "images/a.jpg\n", "val.txt": "images/b.jpg\nimages/x.jpg\n"})
    assert files_of(root) == {"train": ["images/a.jpg"], "val": ["images/b.jpg", "images/x.jpg"]}


def test_yolo_paths_are_whole_folders_or_the_root(tmp_path):
    files = {"images/a/1.jpg": None, "images/ab/2.jpg": None, "labels/a/1.txt": CAT, "labels/ab/2.txt": CAT}
    root = write(tmp_path, files | {"data.yaml": "train: images/a\nval: .\nnames: [cat]\n"})
    assert files_of(root) == {"train": ["images/a/1.jpg"], "val": ["images/a/1.jpg", "images/ab/2.jpg"]}


def test_folders_without_labels_are_not_part_of_yolo_data(tmp_path):
    others = {"docs/figure.jpg": None, "labels/train/0.txt": "", "images/train/0.jpg": None}
    root = write(tmp_path, {**LABELED, **others})
    assert files_of(root) == {"train": ["images/train/0.jpg", "images/train/a.jpg"], "val": ["images/val/b.jpg"]}


def test_yolo_names_by_number_with_gaps(tmp_path):
    described = "train: images\nval: images\nnames:\n  1: cat\n  3: dog\n"
    lines = "1 .5 .5 .5 .5\n2 .5 .5 .5 .5\n3 .5 .5 .5 .5\n"
    root = write(tmp_path, {"images/a.jpg": None, "labels/a.txt": lines, "data.yaml": described})
    source = opened(root)
    assert source.classes == ["0", "cat", "2", "dog"]
    assert [name for name, _ in objects(source)["images/a.jpg"]] == ["cat", "2", "dog"]


def test_class_names_with_a_huge_number_are_ignored(tmp_path):
    described = "train: images\nval: images\nnames:\n  99999999999: cat\n"
    assert opened(write(tmp_path, yolo("a") | {"data.yaml": described})).classes == ["0"]


def test_csv_rows_without_a_split_are_for_training(tmp_path):
    rows = [("a", "train"), ("b", "val"), ("c", ""), ("d", "test")]
    table = "filename,class,xmin,ymin,xmax,ymax,split\n"
    table += "".join(f"{name}.jpg,cat,1,1,20,20,{split}\n" for name, split in rows)
    root = write(tmp_path, {f"{name}.jpg": None for name, _ in rows} | {"boxes.csv": table})
    assert files_of(root) == {"train": ["a.jpg", "c.jpg"], "val": ["b.jpg"]}


def test_voc_names_that_end_in_a_number(tmp_path):
    names = ("photo 1", "photo 0", "photo 2", "other")
    files = {f"JPEGImages/{name}.jpg": None for name in names} | {f"Annotations/{name}.xml": XML for name in names}
    lists = {"ImageSets/Main/train.txt": "photo 1\nphoto 0\n", "ImageSets/Main/val.txt": "photo 2\nother -1\n"}
    found = files_of(write(tmp_path, files | lists))
    assert found["train"] == ["JPEGImages/photo 0.jpg", "JPEGImages/photo 1.jpg"]
    assert found["val"] == ["JPEGImages/other.jpg", "JPEGImages/photo 2.jpg"]


def test_an_edit_that_keeps_the_size_of_a_file_is_noticed(tmp_path):
    files = {"classes.txt": "cat\ndog\n", "train/a.jpg": None, "train/a.txt": CAT, "val/b.jpg": None, "val/b.txt": CAT}
    assert opened(write(tmp_path, files)).label_counts().tolist() == [1, 0]
    write(tmp_path, {"train/a.txt": CAT.replace("0", "1", 1)})
    os.utime(tmp_path / "train/a.txt", (1, 1))  # also where the clock of the file system is coarse
    assert opened(tmp_path).label_counts().tolist() == [0, 1]


def test_clipped_boxes_are_named_by_their_place(tmp_path):
    root = write(tmp_path, LABELED | {"labels/train/a.txt": f"{CAT}0 0.9 0.5 0.5 0.5\n"})
    assert opened(root).problems == [
        f"{root}: clipped 1 annotation with a box that exceeds its image: labels/train/a.txt:2"
    ]


def test_an_image_that_is_added_later_is_found(tmp_path):
    files = {"train/a.jpg": None, "train/a.xml": XML, "train/b.xml": XML, "val/c.jpg": None, "val/c.xml": XML}
    assert list(opened(write(tmp_path, files)).files) == ["train/a.jpg", "b.jpg"]
    assert list(opened(write(tmp_path, {"train/b.png": None})).files) == ["train/a.jpg", "train/b.png"]


def test_classes_of_a_coco_file_without_a_validation_split_keep_their_ids(tmp_path):
    content = coco({k: f"{k}.jpg" for k in range(1, 6)}, [(k, 8, 1, 1, 9, 9) for k in range(1, 6)])
    content["categories"] = [{"id": 3, "name": "zebra"}, {"id": 8, "name": "ant"}]
    source = opened(write(tmp_path, {"a.json": content} | {f"{k}.jpg": None for k in range(1, 6)}))
    assert source.classes == ["zebra", "ant"] and list(source.category_ids) == [3, 8]


def test_a_voc_image_moves_to_another_list(tmp_path):
    """The XML files of both lists, one after the other, stay the same."""
    files = {f"JPEGImages/{k}.jpg": None for k in range(3)} | {f"Annotations/{k}.xml": XML for k in range(3)}
    lists = {"ImageSets/Main/train.txt": "0\n1\n", "ImageSets/Main/val.txt": "2\n"}
    assert len(opened(write(tmp_path, files | lists), "val")) == 1
    moved = write(tmp_path, {"ImageSets/Main/train.txt": "0\n", "ImageSets/Main/val.txt": "1\n2\n"})
    assert len(opened(moved, "val")) == 2 and len(opened(moved)) == 1


def test_voc_images_are_named_as_their_files_rather_than_in_them(tmp_path):
    outdated = voc(("cat", 16, 11, 45, 30), filename="b.jpg")
    root = write(tmp_path, {"train/a.jpg": None, "train/a.xml": outdated, "train/b.jpg": None, "val/c.jpg": None})
    assert list(opened(write(root, {"val/c.xml": XML})).files) == ["train/a.jpg"]


def test_a_voc_polygon_without_a_box_has_the_box_around_it(tmp_path):
    points = "".join(f"<x{k}>{x}</x{k}><y{k}>{y}</y{k}>" for k, (x, y) in enumerate([(3, 4), (11, 4), (11, 9)]))
    xml = f"<annotation><object><name>cat</name><polygon>{points}</polygon></object></annotation>"
    root = write(tmp_path, {"train/a.jpg": None, "train/a.xml": xml, "val/c.jpg": None, "val/c.xml": XML})
    assert objects(opened(root)) == {"train/a.jpg": [("cat", [2, 3, 10, 8])]}
    write(root, {"train/a.xml": xml.replace("<y1>4</y1>", "<y1>?</y1><y1>4</y1>")})
    assert "1 object with no box of four numbers" in opened(root).problems[0]


def test_difficult_voc_objects_keep_their_polygons(tmp_path):
    corners = [(3, 4), (13, 4), (13, 9), (3, 9)]
    points = "".join(f"<x{k}>{x}</x{k}><y{k}>{y}</y{k}>" for k, (x, y) in enumerate(corners))
    thing = f"<object><name>cat</name><difficult>1</difficult><polygon>{points}</polygon></object>"
    root = write(tmp_path, {"train/a.jpg": None, "train/a.xml": f"<annotation>{thing}</annotation>", "val/c.jpg": None})
    own = opened(write(root, {"val/c.xml": XML})).objects(0)
    assert own.crowd.tolist() == [True] and own.segments[0].bitmap(40, 60).sum() == 10 * 5


def test_names_that_differ_in_case(tmp_path):
    labels = {"labels/xA.txt": CAT, "labels/xa.txt": "1 0.5 0.5 0.5 0.5\n", "classes.txt": "cat\ndog\n"}
    root = write(tmp_path / "yolo", {"images/xA.jpg": None, "images/xa.jpg": None} | labels)
    found = objects(opened(root)) | objects(opened(root, "val"))
    assert {name: own[0][0] for name, own in found.items()} == {"images/xA.jpg": "cat", "images/xa.jpg": "dog"}
    lists = {"ImageSets/Main/train.txt": "xA\n", "ImageSets/Main/val.txt": "xa\n"}
    files = {f"Annotations/{name}.xml": XML for name in ("xA", "xa")}
    images = {f"JPEGImages/{name}.jpg": None for name in ("xA", "xa")}
    assert files_of(write(tmp_path / "voc", files | images | lists)) == {
        "train": ["JPEGImages/xA.jpg"],
        "val": ["JPEGImages/xa.jpg"],
    }


@pytest.mark.parametrize(
    "images, name, near, split, expected",
    [
        (["a/x.jpg", "c/b/x.jpg", "d/b/x.jpg"], "old/d/b/x.jpg", "", None, "d/b/x.jpg"),  # most folders of the name,
        (["c/d/x.jpg", "e/b/x.jpg"], "c/b/x.jpg", "", None, "e/b/x.jpg"),  # from its end
        (["train/b/x.jpg", "z/x.jpg"], "z/x.jpg", "train/b/f.json", "train", "z/x.jpg"),  # rather than the split
        (["a/x.jpg", "train/x.jpg"], "x.jpg", "a/f.json", "train", "train/x.jpg"),  # rather than the place of the file
        (["b/x.jpg", "p/c/X.JPG", "p/q/X.JPG"], "x.jpg", "p/q/f.json", None, "p/q/X.JPG"),  # rather than the case
        (["a/X.jpg", "b/x.png"], "x.jpg", "", None, "b/x.png"),  # rather than the suffix
        (["a/x.png", "b/x.jpg"], "x.jpg", "", None, "b/x.jpg"),
        (["a/x.jpg", "val/x.jpg"], "x.jpg", "", "val", "val/x.jpg"),
        (["a/x.jpg.png", "b/x.jpg"], "C:\\old\\x.jpg", "", None, "b/x.jpg"),
    ],
)
def test_the_image_with_the_most_similar_path(images, name, near, split, expected, tmp_path):
    assert Folder(tmp_path, images).locate(name, near, split) == expected


def test_names_in_the_decomposed_characters_of_macos(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "Zürich ü.jpg") for form in ("NFC", "NFD"))
    for on_disk, written in ((composed, decomposed), (decomposed, composed)):
        content = coco({1: written}, [(1, 1, 1, 1, 9, 9)])
        source = opened(write(tmp_path / str(len(on_disk)), {on_disk: None, "train.json": content}))
        assert list(source.files) == [on_disk] and source.image(0).size == SIZE


def test_images_of_another_split_are_not_used(tmp_path):
    root = write(tmp_path, {"train/1.jpg": None, "train/1.xml": XML, "val/1.xml": XML, "val/2.jpg": None})
    write(root, {"val/2.xml": XML})
    assert recognize(root).folder.locate("1", "val/1.xml", "val") is None
    assert "train/1.jpg" not in files_of(root)["val"]


def test_voc_with_other_lists_in_each_year(tmp_path):
    years = {"VOC2007": "ab", "VOC2012": "cd"}
    files = {f"{year}/JPEGImages/{name}.jpg": None for year, names in years.items() for name in names}
    files |= {f"{year}/Annotations/{name}.xml": XML for year, names in years.items() for name in names}
    lists = {"VOC2007/ImageSets/Main/trainval.txt": "a\nb\n"}
    lists |= {"VOC2012/ImageSets/Main/train.txt": "c\n", "VOC2012/ImageSets/Main/val.txt": "d\n"}
    found = files_of(write(tmp_path, files | lists))
    assert found == {
        "train": ["VOC2007/JPEGImages/a.jpg", "VOC2007/JPEGImages/b.jpg", "VOC2012/JPEGImages/c.jpg"],
        "val": ["VOC2012/JPEGImages/d.jpg"],
    }


def test_masks_of_too_many_objects_are_left_out(tmp_path):
    pixels = {"a": np.eye(40, 60, dtype=np.uint16), "b": np.arange(2400, dtype=np.uint16).reshape(40, 60)}
    files = {f"{split}/images/{name}.jpg": None for split, name in (("train", "a"), ("val", "b"), ("val", "c"))}
    pixels["c"] = pixels["a"]
    masks = {
        f"{file.replace('images', 'masks')[:-4]}.png": cv2.imencode(".png", pixels[file[-5]])[1].tobytes()
        for file in files
    }
    assert files_of(write(tmp_path, files | masks)) == {"train": ["train/images/a.jpg"], "val": ["val/images/c.jpg"]}


def test_coco_splits_have_the_same_classes(tmp_path):
    train = coco({1: "a.jpg"}, [(1, 1, 1, 1, 9, 9), (1, 2, 1, 1, 8, 8)], ("cat", "dog"))
    val = coco({1: "b.jpg"}, [(1, 1, 1, 1, 9, 9)], ("dog",))
    files = {"train/a.jpg": None, "val/b.jpg": None, "annotations/train.json": train, "annotations/val.json": val}
    root = write(tmp_path / "other", files)
    assert opened(root).classes == opened(root, "val").classes == ["cat", "dog"]
    assert [name for name, _ in objects(opened(root, "val"))["val/b.jpg"]] == ["dog"]
    assert AutoConfig(root=str(root)).coco_content("val") is None
    val["categories"] = [category | {"image_count": 3} for category in train["categories"]]
    root = write(tmp_path / "same", files)
    assert AutoConfig(root=str(root)).coco_content("val") == (val, root / "val")


@pytest.mark.parametrize("has_val", [False, True])
@pytest.mark.parametrize("prefix", ["", "old/place/"])
def test_coco_images_outside_their_paths_are_found(has_val, prefix, tmp_path):
    names = {1: f"{prefix}a.jpg", 2: f"{prefix}b.jpg", 3: f"{prefix}c.jpg"}
    content = coco(names, [(i, 1, 1, 1, 9, 9) for i in names])
    files = {"images/1/a.jpg": None, "images/1/b.jpg": None, "images/2/c.jpg": None, "annotations/train.json": content}
    if has_val:
        files |= {"annotations/val.json": coco({7: f"{prefix}d.jpg"}, []), "images/3/d.jpg": None}
    root = write(tmp_path, files)
    found = [root / name for split in files_of(root).values() for name in split]
    assert all(file.is_file() for file in found) and len(found) == 3 + has_val


def test_subfolders_that_cannot_be_read_are_skipped(tmp_path, monkeypatch):
    root = write(tmp_path, yolo("a") | {"lost+found/b.jpg": None})
    scan = os.scandir

    def refuse(folder):
        if Path(folder).name == closed:
            raise PermissionError(13, "Permission denied")
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    closed = "lost+found"
    assert Folder(root).images == ["images/a.jpg"]
    closed = root.name
    with pytest.raises(DataError, match="Permission denied"):
        Folder(root)


def test_a_yaml_with_splits_takes_precedence_over_one_with_names(tmp_path):
    described = {"classes.yaml": "names: [x, y]\n", "data.yaml": "train: images\nval: images\nnames: [cat]\n"}
    root = write(tmp_path, yolo("a") | described)
    assert opened(root).classes == ["cat"]
    (root / "data.yaml").unlink()
    assert opened(root).classes == ["x", "y"]
