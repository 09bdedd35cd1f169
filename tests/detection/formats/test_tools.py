"""Formats of labeling tools, on samples as in their documentation."""

import base64
import tarfile

import cv2
import numpy as np
import pytest
from detection.formats.samples import CVAT, LABELME, OPEN_IMAGES, labelme, objects, opened, shape, voc, write

from resdet.detection.formats.collector import Collector
from resdet.detection.formats.data_set import DataSet
from resdet.detection.formats.folder import Folder
from resdet.detection.formats.registry import recognize
from resdet.detection.formats.shapes import mask_of, rle_in_box
from resdet.detection.formats.webdataset import WebDataset
from resdet.errors import DataError


def masks(source, image: int = 0) -> list[np.ndarray]:
    width, height = source.sizes[image].tolist()
    return [segment.bitmap(height, width) for segment in source.objects(image).segments]


def problems(source) -> list[str]:
    return [sentence.split(": ", 1)[1] for sentence in source.problems]


def test_cvat(tmp_path):
    root = write(tmp_path, CVAT)
    layout = recognize(root)
    assert layout.format == "cvat" and list(layout.splits) == ["train", "val"]
    source = opened(root)
    assert source.classes == ["car", "cat", "dog"] == opened(root, "val").classes
    assert objects(source) == {
        "images/sub/a.jpg": [
            ("cat", [15, 10, 45, 30]),
            ("dog", [20, 5, 40, 35]),  # a box of 30 × 20 around (30, 20), rotated by 90°
            ("car", [1, 2, 21, 22]),
            ("cat", [10, 10, 50, 30]),
            ("dog", [4, 3, 7, 5]),
        ]
    }
    box, turned, polygon, oval, runs = source.objects(0).segments
    assert box is None and turned.bitmap(40, 60).sum() == 600
    assert polygon.bitmap(40, 60).sum() == pytest.approx(200, abs=15)
    assert oval.bitmap(40, 60).sum() == pytest.approx(np.pi * 20 * 10, rel=0.03)
    expected = np.zeros((40, 60), np.uint8)
    expected[3, 5:7] = expected[4, 4:6] = 1  # runs: 1 background, 4 object, 1 background, in rows of 3
    assert np.array_equal(runs.bitmap(40, 60), expected)
    assert problems(source) == [
        "left out 1 object with no area, a shape of the kind points: 6 of sub/a.jpg",
        "left out 1 object with no area, a shape of the kind polyline: 7 of sub/a.jpg",
        "left out 1 object with a damaged mask: 8 of sub/a.jpg",
        "left out 1 object with no area, a shape of the kind polygon: 9 of sub/a.jpg",
    ]


def test_cvat_rotations_are_clockwise(tmp_path):
    """Uses a bar along the diagonal from the upper left, and an upright ellipse."""
    shapes = '<box label="bar" rotation="45" xtl="15" ytl="18" xbr="45" ybr="22"/>'
    shapes += '<ellipse label="oval" rotation="90" cx="30" cy="20" rx="10" ry="5"/>'
    text = f'<annotations><image id="0" name="a.jpg" width="60" height="40">{shapes}</image></annotations>'
    bar, oval = masks(opened(write(tmp_path, {"train/a.jpg": None, "val/b.jpg": None, "train/a.xml": text})))
    assert bar[12, 22] and bar[27, 37] and not bar[12, 37] and not bar[27, 22]
    assert np.flatnonzero(oval.any(1)).tolist() == list(range(10, 30)) and not oval[:, :25].any()


def test_cvat_subsets_of_one_split_are_read_once(tmp_path):
    text = CVAT["annotations.xml"].replace("Validation", "Others")
    val = '<annotations><image id="0" name="c.jpg" width="60" height="40"></image></annotations>'
    source = opened(write(tmp_path, CVAT | {"annotations.xml": text, "val.xml": val, "images/c.jpg": None}))
    assert [len(found) for found in objects(source).values()] == [5, 1]


def test_cvat_labels_of_a_job_without_objects_are_classes(tmp_path):
    text = (
        CVAT["annotations.xml"].replace("task>", "job>").replace("<labels>", "<labels><label><name>owl</name></label>")
    )
    assert opened(write(tmp_path, CVAT | {"annotations.xml": text})).classes == ["car", "cat", "dog", "owl"]


def test_cvat_videos_and_damaged_files_are_refused(tmp_path):
    video = '<annotations><version>1.1</version><track id="0" label="cat"></track></annotations>'
    with pytest.raises(DataError, match="annotations.xml is of a video: export it as 'CVAT for images'"):
        opened(write(tmp_path, {"a.jpg": None, "annotations.xml": video}))
    with pytest.raises(DataError, match="annotations.xml is not valid XML .*: export it again"):
        opened(write(tmp_path, {"annotations.xml": '<annotations><image id="1" name="a.jpg">'}))


def test_labelme(tmp_path):
    root = write(tmp_path, LABELME)
    source = opened(root)
    assert recognize(root).format == "labelme" and source.classes == ["car", "cat", "dog"]
    found = objects(source)["train/a.jpg"]
    assert found[:3] == [("cat", [15, 10, 45, 30]), ("dog", [2, 2, 6, 5]), ("dog", [1, 1, 31, 11])]
    name, box = found[3]
    assert name == "car" and box == [10, 10, 30, 30]
    two, circle = source.objects(0).segments[2:]
    assert two.bitmap(40, 60).sum() == pytest.approx(50 + 100, abs=6)  # a triangle and a square of one group
    assert circle.bitmap(40, 60).sum() == pytest.approx(np.pi * 100, rel=0.03)
    assert np.array_equal(
        source.objects(0).segments[1].bitmap(40, 60)[2:5, 2:6], [[1, 0, 0, 1], [0, 1, 1, 0], [1, 1, 1, 1]]
    )
    assert problems(source) == [
        "left out 2 shapes with no area, such as a point or a line: 6 of train/a.json, 7 of train/a.json",
        "left out 1 shape with points that are not pairs of numbers: 8 of train/a.json",
        "left out 1 shape with a damaged mask: 9 of train/a.json",
        "left out 1 image with no JSON with a list of shapes: train/broken.json",
    ]


@pytest.mark.parametrize("path, file", [("../pictures/a b.jpg", "1.json"), ("old name.jpg", "a b.json")])
def test_labelme_images_are_named_by_their_path_or_as_the_file(path, file, tmp_path):
    content = labelme(path, [shape("cat", "rectangle", (1, 1), (9, 9))])
    files = {"train/pictures/a b.jpg": None, "val/b.jpg": None, "val/b.json": labelme("b.jpg", [])}
    root = write(tmp_path, files | {f"train/json/{file}": content})
    assert objects(opened(root)) == {"train/pictures/a b.jpg": [("cat", [1, 1, 9, 9])]}


def test_labelme_groups_from_0_and_shapes_of_four_corners(tmp_path):
    corners = (1, 1), (9, 1), (9, 9), (1, 9)
    shapes = [shape("cat", "polygon", *((x + dx, y) for x, y in corners), group_id=0) for dx in (0, 20)]
    shapes += [shape("car", kind, *corners) for kind in ("rotation", "oriented_rectangle")]
    shapes += [{"label": "owl", "points": [list(point) for point in corners]}]
    files = {"train/a.jpg": None, "train/a.json": labelme("a.jpg", shapes), "val/b.jpg": None}
    source = opened(write(tmp_path, files | {"val/b.json": labelme("b.jpg", [])}))
    square = [1, 1, 9, 9]
    assert objects(source) == {
        "train/a.jpg": [("cat", [1, 1, 29, 9]), ("car", square), ("car", square), ("owl", square)]
    }


def test_open_images(tmp_path):
    root = write(tmp_path, OPEN_IMAGES)
    source = opened(root)
    assert recognize(root).format == "openimages" and source.classes == ["Cat", "Toy, dog"]
    assert objects(source) == {"train/0001.jpg": [("Cat", [15, 10, 45, 30]), ("Toy, dog", [0, 0, 60, 20])]}
    assert source.objects(0).crowd.tolist() == [False, True]
    (problem,) = problems(source)
    assert problem == "left out 1 box with an image that is not there: train-annotations-bbox.csv:4"
    assert objects(opened(root, "val")) == {"validation/0001.jpg": [("Cat", [0, 0, 30, 40])]}


TABLES = {
    "TensorFlow": "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,60,40,cat,15,10,45,30\nb.jpg,60,40,,,,,\n",
    "Kaggle's boxes": 'image_id,width,height,bbox,class\na,60,40,"[15.0, 10.0, 30.0, 20.0]",cat\nb,60,40,,\n',
    "corners with ;": "x1;y1;x2;y2;label;path\n15;10;45;30;cat;C:\\data\\a.jpg\n;;;;;b.jpg\n",
    "x, y, w, h": "image,label,x,y,w,h\nimages/a.jpg,cat,15,10,30,20\nb.jpg,,,,,\n",
    "fractions": "Image_Name,Class Name,X Min,Y Min,X Max,Y Max\na.jpg,cat,.25,.25,.75,.75\nb.jpg,,,,,\n",
    "UTF-8 of Excel": "\ufeffFileName;Class;Left;Top;Right;Bottom\na.jpg;cat;15;10;45;30\nb.jpg;;;;;\n",
    "tabs": "image\tcategory\tleft\ttop\tright\tbottom\na.jpg\tcat\t15\t10\t45\t30\nb.jpg\n",
}


@pytest.mark.parametrize("name", TABLES)
def test_csv(name, tmp_path):
    files = {"images/a.jpg": None, "images/b.jpg": None, "images/c.jpg": None}
    root = write(tmp_path, {**files, "train.csv": TABLES[name], "val_labels.csv": TABLES[name]})
    layout = recognize(root)
    assert layout.format == "csv" and list(layout.splits) == ["train", "val"]
    source = opened(root, on_bad_annotation="error")
    assert objects(source) == {"images/a.jpg": [("cat", [15, 10, 45, 30])], "images/b.jpg": []}


def test_csv_with_a_column_of_splits(tmp_path):
    table = "split,image,x1,y1,x2,y2\nTRAIN,a.jpg,1,2,x,4\ntrain,a.jpg,1,2,3,4\nvalidation,b.jpg,5,6,7,8\n"
    root = write(tmp_path, {"a.jpg": None, "b.jpg": None, "data.csv": table})
    source = opened(root)
    assert objects(source) == {"a.jpg": [("object", [1, 2, 3, 4])]}
    assert objects(opened(root, "val")) == {"b.jpg": [("object", [5, 6, 7, 8])]}
    assert problems(source) == ["left out 1 annotation with a bbox with NaN or infinite coordinates: data.csv:2"]


def test_missing_images_of_a_csv_file_are_named(tmp_path):
    table = "image,x1,y1,x2,y2\na.jpg,1,2,3,4\nfar/gone.jpg,1,2,3,4\n"
    source = opened(write(tmp_path, {"a.jpg": None, "b.jpg": None, "train.csv": table, "val.csv": table}))
    assert problems(source) == ["left out 1 image with no width and height, nor a readable file: far/gone.jpg"]


def test_csv_of_another_encoding_is_refused(tmp_path):
    table = "filename,class,x1,y1,x2,y2\na.jpg,Käfer,5,6,20,30\n".encode("latin-1")
    with pytest.raises(DataError, match="data.csv is not in UTF-8"):
        opened(write(tmp_path, {"a.jpg": None, "data.csv": table}))


@pytest.mark.parametrize("box, expected", [("0,0,1,1", [0, 0, 60, 40]), ("-.5,0,1,1", [0, 0, 1, 1])])
def test_csv_boxes_from_0_to_1_are_fractions(box, expected, tmp_path):
    table = f"image,x1,y1,x2,y2\na.jpg,{box}\n"
    source = opened(write(tmp_path, {"a.jpg": None, "b.jpg": None, "train.csv": table, "val.csv": table}))
    assert objects(source) == {"a.jpg": [("object", expected)]}


def test_csv_boxes_are_fractions_even_next_to_an_invalid_number(tmp_path):
    table = "image,x1,y1,x2,y2\na.jpg,x,0,1,1\na.jpg,0,0,.5,.5\n"
    source = opened(write(tmp_path, {"a.jpg": None, "b.jpg": None, "train.csv": table, "val.csv": table}))
    assert objects(source) == {"a.jpg": [("object", [0, 0, 30, 20])]}


@pytest.mark.parametrize(
    "corner, inside", [((56, 37), True), ((57, 37), False), ((56, 38), False), ((-1, 0), False), ((0, -1), False)]
)
def test_masks_reach_to_the_border_of_their_image(corner, inside):
    rle = rle_in_box(np.ones((3, 4)), corner, (60, 40))
    assert (rle is not None) == inside and (not rle or mask_of(rle, (60, 40))[37:, 56:].sum() == 12)


def test_empty_masks_and_masks_of_several_values():
    assert rle_in_box(np.zeros((3, 4)), (0, 0), (60, 40)) is None
    column = np.array([[0], [1], [2], [1]])
    assert mask_of(rle_in_box(column, (5, 6), (60, 40)), (60, 40))[6:10, 5].tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize("column", ["class_id", "Category ID", "label-id"])
def test_csv_with_numbers_of_classes(column, tmp_path):
    table = f"image,{column},x1,y1,x2,y2\na.jpg,7,1,2,3,4\na.jpg,12,5,6,7,8\n"
    source = opened(write(tmp_path, {"a.jpg": None, "b.jpg": None, "train.csv": table, "val.csv": table}))
    assert objects(source) == {"a.jpg": [("7", [1, 2, 3, 4]), ("12", [5, 6, 7, 8])]}


UNNAMED = {
    "csv": {"a.csv": "image,class,x1,y1,x2,y2\na.jpg,cat,1,1,9,9\na.jpg,,2,2,8,8\n"},
    "voc": {"a.xml": voc(("cat", 2, 2, 9, 9), (" ", 3, 3, 8, 8))},
    "cvat": {"a.xml": CVAT["annotations.xml"].replace('label="dog" rotation', "rotation")},
    "labelme": {"a.json": labelme("a.jpg", [shape(name, "rectangle", (1, 1), (9, 9)) for name in ("cat", None)])},
}


@pytest.mark.parametrize("name", UNNAMED)
def test_objects_without_a_class_are_left_out(name, tmp_path):
    files = {"a.jpg": None, "b.jpg": None, "sub/a.jpg": None}
    data = DataSet(recognize(write(tmp_path, files | UNNAMED[name]), name))
    place = {"csv": "a.csv:3", "voc": "2 of a.xml", "cvat": "2 of sub/a.jpg", "labelme": "2 of a.json"}[name]
    assert f"{tmp_path}: left out 1 object with no class: {place}" in data.problems
    assert not {"", "None"} & {each["name"] for each in data.loaded["train"].content["categories"]}


def test_instance_masks(tmp_path):
    """Reads Penn-Fudan's layout: PNGImages/FudanPed00001.png and PedMasks/FudanPed00001_mask.png."""
    values = np.zeros((40, 60), np.uint8)
    values[10:30, 15:45], values[0:5, 0:2], values[38, 58] = 1, 2, 7
    values[12, 20] = 0
    png = cv2.imencode(".png", values)[1].tobytes()
    files = {f"{split}/PNGImages/Ped{n}.png": None for n, split in ((1, "train"), (2, "val"))}
    files |= {f"{split}/PedMasks/Ped{n}_mask.png": png for n, split in ((1, "train"), (2, "val"))}
    root = write(tmp_path, files | {"train/PNGImages/Ped3.png": None, "train/PedMasks/Ped3_mask.png": b"no PNG"})
    source = opened(root)
    assert recognize(root).format == "mask_png"
    expected = [("object", [15, 10, 45, 30]), ("object", [0, 0, 2, 5]), ("object", [58, 38, 59, 39])]
    assert objects(source) == {"train/PNGImages/Ped1.png": expected}
    assert [np.array_equal(mask, values == k) for mask, k in zip(masks(source), (1, 2, 7))] == [True] * 3
    assert problems(source) == [
        "left out 1 image with a mask that is no PNG of gray values or a palette: train/PNGImages/Ped3.png"
    ]
    assert opened(write(root, {"classes.txt": "person\n"})).classes == ["person"]
    color = cv2.imencode(".png", np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))[1].tobytes()
    with pytest.raises(DataError, match="PedMasks/Ped1_mask.png has colors"):
        opened(write(root, {"train/PedMasks/Ped1_mask.png": color}))


def test_masks_in_folders_of_splits_below_a_folder_named_after_masks(tmp_path):
    png = cv2.imencode(".png", np.eye(40, 60, dtype=np.uint8))[1].tobytes()
    images = {f"face masks/images/{split}/a.png": None for split in ("train", "val")}
    root = write(tmp_path, images | {name.replace("images", "masks"): png for name in images})
    assert objects(opened(root)) == {"face masks/images/train/a.png": [("object", [0, 0, 40, 40])]}


@pytest.mark.parametrize(
    "files, classes", [(["ant/1.jpg", "bee/2.jpg"], True), (["ant/1.jpg", "ant/2.jpg"], False)], ids=["two", "one"]
)
def test_folders_of_images_alone_may_be_classes(files, classes, tmp_path):
    with pytest.raises(DataError, match="no annotations in a known format") as refused:
        opened(write(tmp_path, dict.fromkeys(files)))
    assert ("folder.yaml" in str(refused.value)) is classes


def test_masks_of_several_classes_are_refused(tmp_path):
    """Pixels of semantic masks are class indices, not object indices."""
    png = cv2.imencode(".png", np.tile([0, 1, 2], (6, 2)).astype(np.uint8))[1].tobytes()
    files = {"images/a.jpg": None, "masks/a.png": png, "classes.txt": "road\ncar\n"}
    with pytest.raises(DataError, match="mask_png: classes.txt has 2 classes, and instance masks number objects"):
        opened(write(tmp_path, files))


def test_palette_masks_are_read_by_index(tmp_path):
    from PIL import Image

    values = np.zeros((40, 60), np.uint8)
    values[5:9, 6:20] = 3
    image = Image.fromarray(values, "P")
    image.putpalette([0, 0, 0, 9, 9, 9, 9, 9, 9, 255, 0, 0])
    write(tmp_path, {"train/images/a.jpg": None, "val/images/b.jpg": None})
    for split, name in (("train", "a"), ("val", "b")):
        (tmp_path / split / "masks").mkdir()
        image.save(tmp_path / split / "masks" / f"{name}.png")
    assert objects(opened(tmp_path)) == {"train/images/a.jpg": [("object", [6, 5, 20, 9])]}


def test_labelme_without_shapes_and_size(tmp_path):
    text = base64.b64encode(b"x").decode()
    content = labelme("C:\\pictures\\a.jpg", []) | {"imageData": text, "imageWidth": None}
    root = write(tmp_path, {"train/a.jpg": None, "train/a.json": content, "val/b.jpg": None, "val/b.json": content})
    source = opened(root, "train")
    assert len(source) == 1 and source.sizes.tolist() == [[60, 40]]


@pytest.mark.parametrize(
    "objects, count",
    [
        ({"bbox": [[1, 2, 3, 4]], "category": ["a"]}, 1),
        ({"bbox": 7, "category": ["a"]}, 0),
        ({"bbox": [[1, 2, 3, 4]]}, 0),
    ],
)
def test_webdataset_objects_in_columns(objects, count, tmp_path):
    """Hugging Face stores objects as columns; columns that are not lists give no objects."""
    members = {"0.jpg": None, "0.json": {"objects": objects}, "1.jpg": None, "1.json": {"annotations": []}}
    write(tmp_path / "files", members)
    with tarfile.open(tmp_path / "train.tar", "w") as tar:
        for name in members:
            tar.add(tmp_path / "files" / name, name)
    content = WebDataset().read(recognize(tmp_path, "webdataset"), "train", Collector(Folder(tmp_path)))
    assert [len(content["images"]), len(content["annotations"])] == [2, count]


def test_webdataset_masks_and_crowds(tmp_path):
    thing = {"bbox": [1, 2, 10, 12], "category": "cat", "segmentation": [[1, 2, 11, 2, 11, 14, 1, 14]], "iscrowd": 1}
    write(tmp_path / "files", {"0.jpg": None, "0.json": {"annotations": [thing]}})
    for split in ("train", "val"):
        with tarfile.open(tmp_path / f"{split}.tar", "w") as tar:
            for name in ("0.jpg", "0.json"):
                tar.add(tmp_path / "files" / name, name)
    own = opened(tmp_path, format="webdataset").objects(0)
    assert own.boxes.tolist() == [[1, 2, 11, 14]] and own.crowd.tolist() == [True]
    assert own.segments[0].bitmap(40, 60).sum() == 120


def test_file_names_of_long_numbers(tmp_path):
    """Python does not convert text of more than 4300 digits to a number."""
    collector = Collector(Folder(write(tmp_path, {"a.jpg": None})))
    collector.leave_out("image", ["9" * 5000, collector.add_image("a.jpg")], "a problem")
    collector.report()
    assert collector.problems.sentences[0].endswith("999999, a.jpg")
