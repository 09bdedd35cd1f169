"""Round trips of random data sets through the written formats, also read by pycocotools and supervision."""

import json
import os
import xml.etree.ElementTree as ElementTree

import cv2
import numpy as np
import pytest
from detection.check.planted import rotated
from detection.formats.samples import coco, picture
from pycocotools import mask as pycocotools_mask
from pycocotools.coco import COCO
from running import here

from resdet.detection.formats.data_set import DataSet
from resdet.detection.formats.registry import recognize
from resdet.detection.formats.share_classes import share_classes
from resdet.detection.formats.write_yolo import join
from resdet.errors import DataError

NAMES = ["cat", "two words", "Käfer & <dog>"]


def data_set(root, seed, masks="none"):
    """Writes COCO data of two splits with equal file names: boxes, polygons or RLE, and images without objects."""
    rng = np.random.default_rng(seed)
    for split in ("train", "val"):
        images, annotations = [], []
        for k in range(int(rng.integers(1, 5))):
            width, height = (int(side) for side in rng.integers(20, 90, 2))
            picture(root / split / "deep" / f"{k}.png", seed=seed + k, size=(width, height))
            images.append({"id": 3 * k + 5, "file_name": f"deep/{k}.png", "width": width, "height": height})
            for _ in range(int(rng.integers(0, 4))):
                annotations.append(
                    thing(rng, width, height, masks) | {"id": len(annotations) + 1, "image_id": 3 * k + 5}
                )
        categories = [{"id": 2 * k + 1, "name": name} for k, name in enumerate(NAMES)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / split / "_annotations.coco.json").write_text(json.dumps(content))
    return root


def thing(rng, width, height, masks):
    corner, side = rng.uniform(0, 0.5, 2), rng.uniform(0.1, 0.5, 2)
    x, y, w, h = (float(n) for n in np.concatenate([corner, side]) * np.tile((width, height), 2))
    entry = {"category_id": int(rng.choice([1, 3, 5])), "iscrowd": 0, "area": w * h}
    if masks == "polygon":
        entry["segmentation"] = [[x, y, x + w, y, x + w, y + h, x + w / 2, y + h / 2, x, y + h]]
    if masks == "rle":
        bitmap = np.zeros((height, width), np.uint8, order="F")
        x, y, w, h = int(x), int(y), max(3, int(w)), max(3, int(h))
        bitmap[y : y + h, x : x + w] = 1
        bitmap[y, x] = 0
        w, h = min(w, width - x), min(h, height - y)
        rle = pycocotools_mask.encode(bitmap)
        entry["segmentation"] = {"size": rle["size"], "counts": rle["counts"].decode()}
    return entry | {"bbox": [x, y, w, h]}


def listing(root):
    """Returns the sorted objects (class, box, crowd, bitmap) by split and image, keyed by the bytes of its pixels."""
    data = DataSet(recognize(root), "error")
    found = {}
    for split in data.layout.splits:
        source = data.open(split)
        for i in range(len(source)):
            width, height = source.sizes[i].tolist()
            own = source.objects(i)
            things = [
                (source.classes[k], box, crowd, None if segment is None else segment.bitmap(height, width))
                for k, box, crowd, segment in zip(own.labels, own.boxes.tolist(), own.crowd.tolist(), own.segments)
            ]
            found[split, source.image(i).decode().tobytes()] = sorted(things, key=lambda each: (each[0], each[1]))
    return found


def convert(source, target, to, *words):
    done = here(
        target.parent, "data", "convert", source, target, "--to", to, *words, "--json", target.parent / "said.json"
    )
    assert done.returncode == 0, done.stderr
    return json.loads((target.parent / "said.json").read_text())


def assert_same(found, expected, boxes=1e-3, masked=True):
    assert found.keys() == expected.keys()
    for key, things in expected.items():
        assert [each[0] for each in found[key]] == [each[0] for each in things]
        for own, other in zip(found[key], things):
            np.testing.assert_allclose(own[1], other[1], atol=boxes)
            assert own[2] == other[2] and (not masked or np.array_equal(own[3], other[3]))


def test_shared_classes_keep_the_ids_of_the_first():
    entry = {"id": 1, "image_id": 1, "bbox": [0, 0, 1, 1]}
    first = {
        "categories": [{"id": 4, "name": "cat"}, {"id": 9, "name": "dog"}],
        "annotations": [entry | {"category_id": 9}],
    }
    names = [{"id": 0, "name": "dog", "supercategory": "pet"}, {"id": 4, "name": "bird"}]
    second = {"categories": names, "annotations": [entry | {"category_id": 0}, entry | {"category_id": 4}]}
    one, two = share_classes([first, second])
    assert [(c["id"], c["name"]) for c in one["categories"]] == [(4, "cat"), (9, "dog"), (10, "bird")]
    assert one["categories"] == two["categories"]
    assert [e["category_id"] for e in one["annotations"] + two["annotations"]] == [9, 9, 10]
    one, two = share_classes([first, second], ordered=False)
    assert [(c["id"], c["name"]) for c in one["categories"]] == [(1, "bird"), (2, "cat"), (3, "dog")]
    assert [e["category_id"] for e in one["annotations"] + two["annotations"]] == [3, 3, 1]
    (alone,) = share_classes([second], ordered=False)
    assert [(c["id"], c["name"]) for c in alone["categories"]] == [(1, "bird"), (2, "dog")]
    assert [e["category_id"] for e in alone["annotations"]] == [2, 1]
    numbered = {"categories": [{"id": k, "name": name} for k, name in enumerate(("cat", "10", "9"))], "annotations": []}
    (alone,) = share_classes([numbered], ordered=False)
    assert [category["name"] for category in alone["categories"]] == ["9", "10", "cat"]


def test_shared_classes_need_equal_keypoints():
    parts = [
        {"categories": [{"id": 1, "name": "person"} | more], "annotations": []}
        for more in ({}, {"keypoints": ["a", "b"]}, {"keypoints": ["a", "b", "c"]})
    ]
    assert share_classes(parts[:2])[0]["categories"] == parts[1]["categories"]
    with pytest.raises(DataError, match="'person' has the keypoints"):
        share_classes(parts)


@pytest.mark.parametrize("seed", range(2))
def test_boxes_round_trip_through_every_format(seed, tmp_path):
    source = data_set(tmp_path / "source", seed)
    expected = listing(source)
    unused = len(set(NAMES) - {name for things in expected.values() for name, *_ in things})
    place = source
    for to in ("yolo", "voc", "coco", "yolo"):
        said = convert(place, tmp_path / f"{len(list(tmp_path.iterdir()))}", to)
        place = tmp_path / said["root"]
        assert said["format"] == to == recognize(place).format
        assert said["lost"] == ({"classes without objects": unused} if to == "voc" and unused else {})
        assert sum(said["images"].values()) == len(expected)
        assert_same(listing(place), expected)


def test_crowds_round_trip_through_coco(tmp_path):
    source = data_set(tmp_path / "source", 0, "rle")
    for file in source.rglob("*.json"):
        content = json.loads(file.read_text())
        for number, entry in enumerate(content["annotations"]):
            entry["iscrowd"] = number % 2
        file.write_text(json.dumps(content))
    expected = listing(source)
    assert any(crowd for things in expected.values() for _, _, crowd, _ in things)
    assert convert(source, tmp_path / "coco", "coco")["lost"] == {}
    assert_same(listing(tmp_path / "coco"), expected)


@pytest.mark.parametrize("masks", ["polygon", "rle"])
def test_masks_round_trip_through_yolo(masks, tmp_path):
    source = data_set(tmp_path / "source", 0, masks)
    assert convert(source, tmp_path / "yolo", "yolo")["lost"] == {}
    assert_same(listing(tmp_path / "yolo"), listing(source))
    assert convert(tmp_path / "yolo", tmp_path / "coco", "coco")["lost"] == {}
    assert_same(listing(tmp_path / "coco"), listing(source))
    for file in (tmp_path / "coco").rglob("*.json"):
        written = COCO(str(file))
        assert [entry["area"] for entry in written.anns.values()] == [
            written.annToMask(entry).sum() for entry in written.anns.values()
        ]
    lost = convert(source, tmp_path / "voc", "voc")["lost"]
    assert lost == {"masks": sum(len(things) for things in listing(source).values())}


def stored_scene(root, orientation, keypoints):
    """Writes an image of 60 × 40 stored pixels with a white rectangle, which its mask (polygon and RLE) covers, and a
    white pixel in its corner, which is its keypoint."""
    pixels = np.zeros((40, 60), np.uint8)
    pixels[8:24, 16:40] = 255
    rle = pycocotools_mask.encode(np.asfortranarray(pixels // 255))
    pixels[32, 48] = 255
    about = {"image_id": 1, "category_id": 1, "bbox": [16, 8, 24, 16], "keypoints": [48, 32, 2, 0, 0, 0]}
    masks = [[16, 8, 40, 8, 40, 24, 16, 24]], {"size": rle["size"], "counts": rle["counts"].decode()}
    annotations = [{**about, "id": k, "segmentation": mask} for k, mask in enumerate(masks)]
    image = {"id": 1, "file_name": "a.jpg", "width": 60, "height": 40}
    category = {"id": 1, "name": "a"} | ({"keypoints": ["top", "tip"], "skeleton": []} if keypoints else {})
    content = {"images": [image], "annotations": annotations, "categories": [category]}
    data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    for split in ("train", "val"):
        (root / split).mkdir(parents=True)
        (root / split / "a.jpg").write_bytes(rotated(data, orientation))
        (root / split / "_annotations.coco.json").write_text(json.dumps(content))
    return root


@pytest.mark.parametrize("to", ["coco", "yolo"])
def test_rings_without_area_are_not_part_of_a_mask(to, tmp_path):
    """Uses a file without areas, and rings of one and two points, which enclose nothing."""
    square = [2, 2, 12, 2, 12, 12, 2, 12]
    rings = [[[0, 0], square], [[0, 0, 5, 5], square], [square, [19, 19]]]
    content = coco({1: "a.png"}, [(1, 1, 2, 2, 10, 10)] * 3, size=(20, 20))
    for entry, given in zip(content["annotations"], rings):
        entry["segmentation"] = given
    picture(tmp_path / "source" / "a.png", size=(20, 20))
    (tmp_path / "source" / "train.json").write_text(json.dumps(content))
    assert convert(tmp_path / "source", tmp_path / "new", to)["lost"] == {}
    objects = DataSet(recognize(tmp_path / "new"), "error").open("train").objects(0)
    assert [segment.bitmap(20, 20).sum() for segment in objects.segments] == [100] * 3
    if to == "coco":
        written = json.loads((tmp_path / "new" / "annotations" / "train.json").read_text())
        assert [entry["area"] for entry in written["annotations"]] == [100] * 3


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("keypoints", [False, True])
def test_yolo_has_coordinates_of_the_upright_image(orientation, keypoints, tmp_path):
    source = stored_scene(tmp_path / "source", orientation, keypoints)
    convert(source, tmp_path / "yolo", "yolo")
    convert(tmp_path / "yolo", tmp_path / "coco", "coco")
    for place in ("yolo", "coco"):
        opened = DataSet(recognize(tmp_path / place), "error").open("train")
        white, own = opened.image(0).decode()[..., 0] > 127, opened.objects(0)
        assert white.shape == (60, 40) and len(own) == 2 and (own.keypoints is not None) == keypoints
        for k, (x1, y1, x2, y2) in enumerate(own.boxes.round().astype(int).tolist()):
            assert (x2 - x1, y2 - y1) == (16, 24) and white[y1:y2, x1:x2].all()
            if keypoints:
                x, y = np.floor(own.keypoints.points[k, 0, :2]).astype(int).tolist()
                assert white[y, x] and not white[y - 1 : y + 2, x - 1 : x + 2].sum() > 1
                assert own.keypoints.points[k, 1].tolist() == [0, 0, 0]
            else:
                bitmap = own.segments[k].bitmap(*white.shape)
                assert bitmap.sum() == 16 * 24 and white[bitmap > 0].all()


def test_losses_of_the_target_format_are_counted(tmp_path):
    source = data_set(tmp_path / "source", 0)
    file = source / "train" / "_annotations.coco.json"
    content = json.loads(file.read_text())
    image = content["images"][0]
    size = [image["height"], image["width"]]
    ring = np.zeros(size, np.uint8, order="F")
    ring[2:12, 2:12] = 1
    ring[5:9, 5:9] = 0
    rle = pycocotools_mask.encode(ring)
    rle["counts"] = rle["counts"].decode()
    about = {"image_id": image["id"], "category_id": 1, "bbox": [2, 2, 10, 10]}
    parts = [[2, 2, 6, 2, 6, 6, 2, 6], [8, 8, 12, 8, 12, 12, 8, 12]]
    content["annotations"] = [
        {**about, "id": 1, "iscrowd": 1, "segmentation": rle},
        {**about, "id": 2, "segmentation": rle},
        {**about, "id": 3, "segmentation": parts},
    ]
    content["images"].append({"id": 999, "file_name": "gone.png", "width": 9, "height": 9})
    content["categories"].append({"id": 99, "name": "unused"})
    file.write_text(json.dumps(content))
    said = convert(source, tmp_path / "yolo", "yolo")
    assert said["missing"] == 1
    assert said["lost"] == {
        "crowds": 1,
        "holes of a mask": 1,
        "separate parts of a mask, which are joined by lines": 2,
    }
    found = [thing for things in listing(tmp_path / "yolo").values() for thing in things if thing[1] == [2, 2, 12, 12]]
    assert sorted(int(each[3].sum()) for each in found) == [32, 100]
    said = convert(source, tmp_path / "voc", "voc")
    assert said["lost"] == {"masks": 3, "classes without objects": 1}
    assert sum(each[2] for things in listing(tmp_path / "voc").values() for each in things) == 1
    assert convert(source, tmp_path / "coco", "coco")["lost"] == {}


def renamed(root, names):
    """Writes data with `names` as class names."""
    data_set(root, 1)
    for file in root.rglob("*.json"):
        content = json.loads(file.read_text())
        for category, name in zip(content["categories"], names):
            category["name"] = name
        file.write_text(json.dumps(content))
    return root


def test_voc_keeps_images_and_classes_with_outer_spaces(tmp_path):
    source = renamed(tmp_path / "source", [" cat", "dog ", "bird"])
    file = source / "train" / "_annotations.coco.json"
    content = json.loads(file.read_text())
    sizes = [(image["width"], image["height"]) for image in content["images"]]
    names = [" 0.png", "  1 .png", "2\n.png", "  .png", "_0.png"]
    content["images"] = [{"id": k, "file_name": f"deep/{name}"} for k, name in enumerate(names)]
    content["annotations"] = [
        {"id": k + 1, "image_id": k, "category_id": 1 + 2 * (k % 3), "bbox": [1, 2, 10 + k, 9]} for k in range(5)
    ]
    for k, name in enumerate(names):
        picture(source / "train" / "deep" / name, seed=100 + k, size=sizes[0])
    file.write_text(json.dumps(content))
    expected = {key: [(name.strip(), *more) for name, *more in things] for key, things in listing(source).items()}
    said = convert(source, tmp_path / "voc", "voc")
    assert said["lost"] == {"leading or trailing spaces of a class name": 2} and said["images"]["train"] == len(names)
    assert_same(listing(tmp_path / "voc"), expected)
    assert all(
        line == line.strip() for file in (tmp_path / "voc").rglob("*.txt") for line in file.read_text().split("\n")
    )


@pytest.mark.parametrize(
    "names, problem",
    [
        (["a\x07b", "c", "d"], r"The class 'a\x07b' has a name that XML cannot store"),
        (["a", " ", "d"], "The class ' ' has a name that XML cannot store"),
        (["a", "a ", "d"], "Two classes are 'a' apart from outer spaces, which VOC drops"),
    ],
)
def test_class_names_that_voc_cannot_hold_are_refused(tmp_path, names, problem):
    source = renamed(tmp_path / "source", names)
    done = here(tmp_path, "data", "convert", source, tmp_path / "voc", "--to", "voc")
    assert done.returncode == 2 and problem in done.stderr
    assert not (tmp_path / "voc").exists()


def test_classes_of_one_name_are_not_written_as_yolo(tmp_path):
    source = renamed(tmp_path / "source", ["a", "b", "a"])
    done = here(tmp_path, "data", "convert", source, tmp_path / "yolo", "--to", "yolo")
    assert done.returncode == 2 and "Two classes are named 'a': rename one in the source." in done.stderr
    assert not (tmp_path / "yolo").exists()


def test_parts_are_joined_without_area():
    rings = [[0, 0, 10, 0, 10, 10, 0, 10], [20, 20, 30, 20, 30, 30], [40, 0, 50, 0, 50, 10, 40, 10]]
    canvas = np.zeros((40, 60), np.uint8)
    points = np.array(join(rings)).reshape(-1, 2)
    x, y = points.T
    assert abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2 == 100 + 50 + 100  # the shoelace formula
    assert join(rings[:1]) == rings[0]
    cv2.fillPoly(canvas, [points.astype(int)], 1)
    assert canvas[5, 5] and canvas[25, 28] and canvas[5, 45]


def test_other_libraries_read_the_written_data(tmp_path):
    supervision = pytest.importorskip("supervision")
    source = data_set(tmp_path / "source", 1)
    train = [things for (split, _), things in listing(source).items() if split == "train"]
    expected = sorted(tuple(box) for things in train for _, box, _, _ in things)
    convert(source, tmp_path / "coco", "coco")
    coco = COCO(str(tmp_path / "coco" / "annotations" / "train.json"))
    boxes = [(x, y, x + w, y + h) for x, y, w, h in (each["bbox"] for each in coco.dataset["annotations"])]
    np.testing.assert_allclose(sorted(boxes), expected, atol=1e-3)
    assert all((tmp_path / "coco" / "train" / image["file_name"]).is_file() for image in coco.dataset["images"])
    convert(source, tmp_path / "yolo", "yolo")
    place = tmp_path / "yolo"
    read = supervision.DetectionDataset.from_yolo(
        f"{place}/images/train", f"{place}/labels/train", f"{place}/data.yaml"
    )
    found = sorted(tuple(box) for _, _, detections in read for box in detections.xyxy.tolist())
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert read.classes == NAMES
    convert(source, tmp_path / "voc", "voc")
    names = {name.text for file in (tmp_path / "voc").rglob("*.xml") for name in ElementTree.parse(file).iter("name")}
    assert names <= set(NAMES)


def test_images_are_hard_links_or_copies(tmp_path, monkeypatch):
    source = data_set(tmp_path / "source", 2)
    convert(source, tmp_path / "yolo", "yolo")
    original = next((source / "train" / "deep").iterdir())
    assert os.stat(original).st_nlink == 2
    monkeypatch.setattr(os, "link", lambda *names: (_ for _ in ()).throw(OSError("another file system")))
    convert(source, tmp_path / "voc", "voc")
    assert os.stat(original).st_nlink == 2
    assert_same(listing(tmp_path / "voc"), listing(source))


def test_a_folder_that_is_not_empty_is_refused(tmp_path):
    source = data_set(tmp_path / "source", 2)
    done = here(tmp_path, "data", "convert", source, source, "--to", "yolo")
    assert done.returncode == 2 and "is not empty: name a new folder" in done.stderr
