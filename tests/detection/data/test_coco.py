"""Compares COCO and LVIS files with pycocotools; tests each kind of damage as an error and as a counted skip."""

import copy
import json
import os
import pickle
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from resdet.detection.data import coco, segmentation_columns
from resdet.detection.data.coco import open_coco
from resdet.detection.data.compile_annotations import Problems
from resdet.detection.data.segmentation import Bitmap, Polygons
from resdet.errors import DataError
from resdet.files import json_columns

SHARED = Path(__file__).parents[3].parent / "shared/data"
REAL = {
    "coco_val2014_100": ("coco_val2014_100/instances_val2014_100.json", "coco_val2014_100"),
    "nuclei": ("nuclei/instances_val.json", "nuclei/images"),
}


def content() -> dict:
    """Returns three images of 40×30, the last without objects; category ids have gaps and are out of order."""
    blot = np.zeros((30, 40), np.uint8)
    blot[3:20, 5:9] = blot[10:14, 2:30] = 1
    rle = coco_mask.encode(np.asfortranarray(blot))
    ring = [5.5, 4.25, 25.5, 6, 20, 22.75, 8, 18]
    boxes = [[5.5, 4.25, 20, 18.5], [2, 3, 28, 17], [0, 0, 40, 30], [1.5, 2.5, 3, 4]]
    return {
        "info": {"year": 2026},
        "images": [{"id": k, "file_name": f"{k}.png", "width": 40, "height": 30} for k in (70, 3, 12)],
        "categories": [{"id": 9, "name": "wheel"}, {"id": 2, "name": "bear", "supercategory": "animal"}],
        "annotations": [
            {"id": 1, "image_id": 3, "category_id": 9, "bbox": boxes[0], "segmentation": [ring], "iscrowd": 0},
            {
                "id": 2,
                "image_id": 70,
                "category_id": 2,
                "bbox": boxes[1],
                "segmentation": {"size": [30, 40], "counts": rle["counts"].decode()},
            },
            {
                "id": 3,
                "image_id": 3,
                "category_id": 2,
                "bbox": boxes[2],
                "segmentation": {"size": [30, 40], "counts": [0, 1200]},
                "iscrowd": 1,
            },
            {"id": 4, "image_id": 3, "category_id": 9, "bbox": boxes[3]},
        ],
    }


@pytest.fixture
def write(tmp_path):
    """Writes a COCO file of a dict or of text, and returns its path."""

    def write(data) -> Path:
        file = tmp_path / "gt.json"
        file.write_text(data if isinstance(data, str) else json.dumps(data))
        return file

    return write


def expect(source, reference: COCO, atol: float):
    """Compares the source with pycocotools, image by image."""
    numbers = sorted(reference.getCatIds())
    assert source.category_ids == numbers
    assert source.classes == [reference.cats[number]["name"] for number in numbers]
    assert [source.image_id(i) for i in range(len(source))] == [image["id"] for image in reference.dataset["images"]]
    for i in range(len(source)):
        image = reference.imgs[source.image_id(i)]
        annotations = reference.loadAnns(reference.getAnnIds(imgIds=image["id"]))
        objects = source.objects(i)
        assert source.sizes[i].tolist() == [image["width"], image["height"]]
        assert source.name(i).endswith(image["file_name"]) and source.result_id(i) == image["id"]
        assert [source.category_ids[label] for label in objects.labels] == [a["category_id"] for a in annotations]
        assert objects.crowd.tolist() == [bool(a.get("iscrowd")) for a in annotations]
        boxes = np.array([a["bbox"] for a in annotations]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        assert np.allclose(objects.boxes, np.clip(boxes, 0, [image["width"], image["height"]] * 2), atol=atol)
        for segment, annotation in zip(objects.segments, annotations):
            if "segmentation" in annotation:
                ours = segment.bitmap(image["height"], image["width"])
                assert np.array_equal(ours, reference.annToMask(annotation)), annotation["id"]
            else:
                assert segment is None


@pytest.mark.parametrize("name", REAL)
def test_real_files_are_read_as_by_pycocotools(tmp_path, name):
    file, images = (SHARED / path for path in REAL[name])
    if not file.is_file():
        pytest.skip(f"../shared/data/{REAL[name][0]} is not here")
    source = open_coco(file, images, "error", tmp_path)
    expect(source, COCO(file), 1e-4)
    assert source.problems == [] and source.has_masks
    if name == "nuclei":
        assert source.image(0).size == tuple(source.sizes[0])


def test_polygons_rle_crowds_and_boxes_without_masks(write, tmp_path):
    file = write(content())
    source = open_coco(file, tmp_path)
    expect(source, COCO(file), 1e-6)
    assert source.classes == ["bear", "wheel"] and len(source) == 3
    objects = source.objects(1)
    assert [type(segment) for segment in objects.segments] == [Polygons, Bitmap, type(None)]
    assert objects.boxes.dtype == np.float32 and objects.labels.dtype == np.int64 and objects.crowd.dtype == bool
    assert len(source.objects(2)) == 0 and source.objects(2).boxes.shape == (0, 4)
    objects.boxes[:] = 0  # callers may change the returned arrays
    assert source.objects(1).boxes.any()


def test_counts_leave_out_crowds(write, tmp_path):
    data = content()
    data["annotations"] += [{"id": 5, "image_id": 3, "category_id": 9, "bbox": [9, 9, 2, 2]}]
    source = open_coco(write(data), tmp_path)
    teaching = [a for a in data["annotations"] if not a.get("iscrowd")]
    by_class = Counter(a["category_id"] for a in teaching)
    assert source.label_counts().tolist() == [by_class[2], by_class[9]] == [1, 3]
    pairs = {(a["image_id"], a["category_id"]) for a in teaching}
    images, labels = source.presence()
    assert [(source.image_id(i), source.category_ids[k]) for i, k in zip(images, labels)] == sorted(pairs, reverse=True)
    assert source.images_with().tolist() == [1, 1]


def test_ground_truth_equals_the_file(write, tmp_path):
    data = content()
    data["annotations"][0]["bbox"] = [-5, 0, 10, 10]  # clipped for training alone
    source = open_coco(write(data), tmp_path)
    assert source.to_coco() == data
    assert source.objects(1).boxes[0].tolist() == [0, 0, 5, 10]


def test_a_second_start_uses_the_index(write, tmp_path, monkeypatch):
    data = content()
    data["annotations"][3]["bbox"] = [1, 1, 0, 5]
    file = write(data)
    first = open_coco(file, tmp_path)
    assert len(first.problems) == 1
    monkeypatch.setattr(coco, "read_columns", lambda file, keys: pytest.fail("read again"))
    again = open_coco(file, tmp_path)
    assert again.problems == first.problems
    assert pickle.loads(pickle.dumps(again)).objects(1).boxes.tolist() == first.objects(1).boxes.tolist()
    assert all(not array.flags.writeable for array in again.arrays.values())  # memory shared by workers
    with pytest.raises(pytest.fail.Exception):
        open_coco(file, tmp_path, "error")  # has a separate index
    file.write_text(json.dumps(content()))
    os.utime(file, ns=(1, 1))
    with pytest.raises(pytest.fail.Exception):
        open_coco(file, tmp_path)


def bad_box(box):
    return lambda data: data["annotations"][0].update(bbox=box)


def entry(kind, k, **values):
    return lambda data: data[kind][k].update(values)


def without(kind, k, *keys):
    return lambda data: [data[kind][k].pop(key) for key in keys]


# (change to the file, part of the error message, the name in it, images left, objects left)
DAMAGES = {
    "zero width": (bad_box([5, 5, 0, 4]), "a box without area", "annotation 1 ", 3, 3),
    "negative height": (bad_box([5, 5, 4, -4]), "negative sides", "annotation 1 ", 3, 3),
    "outside": (bad_box([40, 5, 4, 4]), "a box outside of its image", "annotation 1 ", 3, 3),
    "NaN": (bad_box([float("nan"), 5, 4, 4]), "NaN or infinite coordinates", "annotation 1 ", 3, 3),
    "infinite": (bad_box([5, 5, float("inf"), 4]), "NaN or infinite coordinates", "annotation 1 ", 3, 3),
    "no bbox": (without("annotations", 0, "bbox"), "no bbox of four numbers", "annotation 1 ", 3, 3),
    "short bbox": (bad_box([1, 2, 3]), "no bbox of four numbers", "annotation 1 ", 3, 3),
    "text in bbox": (bad_box([1, 2, 3, "4"]), "no bbox of four numbers", "annotation 1 ", 3, 3),
    "unknown category": (entry("annotations", 0, category_id=5), "category_id that no category", "annotation 1 ", 3, 3),
    "no category": (
        without("annotations", 0, "category_id"),
        "no whole number, 0 or more, as category_id",
        "annotation 1 ",
        3,
        3,
    ),
    "absent image": (entry("annotations", 0, image_id=99), "image_id that no image has", "annotation 1 ", 3, 3),
    "same id": (entry("annotations", 1, id=1), "an id that another annotation has", "annotation 1 ", 3, 3),
    "no id": (without("annotations", 1, "id"), "no whole number, 0 or more, as id", "annotation without id", 3, 3),
    "no annotation": (lambda data: data["annotations"].append(7), "no whole number", "annotation without id", 3, 4),
    "bad polygon": (
        entry("annotations", 0, segmentation=[[1, "x"]]),
        "neither polygons nor RLE",
        "annotation 1 ",
        3,
        3,
    ),
    "NaN in polygon": (
        entry("annotations", 0, segmentation=[[1, 2, 3, 4, 5, float("nan")]]),
        "a segmentation with NaN",
        "annotation 1 ",
        3,
        3,
    ),
    "short RLE": (entry("annotations", 1, segmentation={"size": [30, 40], "counts": "55"}), "damaged", "n 2 ", 3, 3),
    "same image id": (entry("images", 1, id=70), "an id that another image has", "image 70 ", 2, 1),
    "image without size": (without("images", 1, "width"), "no width and height", "image 3 ", 2, 1),
    "image of size 0": (entry("images", 1, height=0), "no width and height", "image 3 ", 2, 1),
    "image without name": (without("images", 1, "file_name"), "neither file_name nor coco_url", "image 3 ", 2, 1),
    "image without id": (without("images", 2, "id"), "no whole number, 0 or more, as id", "image without id", 2, 4),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_an_error_or_a_counted_skip(write, tmp_path, damage):
    spoil, kind, name, images, objects = DAMAGES[damage]
    data = content()
    spoil(data)
    if damage == "same image id":  # the image's annotations refer to no image now
        data["annotations"] = [a for a in data["annotations"] if a["image_id"] != 3]
    file = write(data)
    with pytest.raises(DataError, match=kind) as raised:
        open_coco(file, tmp_path, "error")
    assert str(file) in str(raised.value) and name in str(raised.value)
    source = open_coco(file, tmp_path, "skip")
    assert len(source) == images and sum(len(source.objects(i)) for i in range(images)) == objects
    assert len(source.problems) == 1 and kind in source.problems[0] and "left out 1 " in source.problems[0]


def test_many_problems_are_one_message_with_a_few_ids(write, tmp_path):
    data = content()
    data["annotations"] += [{"id": k, "image_id": 3, "category_id": 2, "bbox": [3, 3, 0, 3]} for k in range(100, 150)]
    assert open_coco(write(data), tmp_path).problems == [
        f"{tmp_path}/gt.json: left out 50 annotations with a box without area: 100, 101, 102, 103, 104, …"
    ]


def test_names_in_a_message_are_on_one_line_and_keep_their_letters():
    problems = Problems(Path("a.json"), "skip")
    problems.leave_out("object", ["Käfer\n中.jpg", f"{'a' * 60}/{'b' * 60}.jpg"], "no class")
    first, long = problems.sentences[0].removeprefix("a.json: left out 2 objects with no class: ").split(", ")
    assert first == "Käfer\\n中.jpg"
    assert len(long) == 60 and long.startswith("aaa") and "…" in long and long.endswith("bbb.jpg")


def test_boxes_partly_outside_are_clipped_and_noted_beyond_a_pixel(write, tmp_path):
    data = content()
    data["annotations"][1]["bbox"] = [-0.9, 5, 41.8, 10]
    file = write(data)
    source = open_coco(file, tmp_path, "error")
    assert source.problems == [] and source.objects(0).boxes.tolist() == [[0, 5, 40, 15]]
    data["annotations"][1]["bbox"] = [30, 5, 11.5, 10]
    source = open_coco(write(data), tmp_path, "error", tmp_path / "other")
    assert source.objects(0).boxes.tolist() == [[30, 5, 40, 15]]
    assert source.problems == [f"{file}: clipped 1 annotation with a box that exceeds its image: 2"]


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ("not json", "is not valid JSON"),
        ('{"images": [', "is not valid JSON"),
        ("[1, 2]", 'no list "images"'),
        (json.dumps({"annotations": [], "categories": []}), 'no list "images"'),
        (json.dumps({"images": [], "categories": []}), 'no list "annotations"'),
        (json.dumps({"images": [], "annotations": [], "categories": {}}), 'no list "categories"'),
        (json.dumps({"images": [], "annotations": [], "categories": [{"id": 1}]}), "no text as name"),
        (json.dumps({"images": [], "annotations": [], "categories": [{"name": "a"}]}), "no whole number"),
        (json.dumps(content() | {"categories": 2 * [{"id": 1, "name": "a"}]}), "an id that another category has"),
    ],
)
@pytest.mark.parametrize("on_bad", ["error", "skip"])
def test_invalid_coco_files_are_always_an_error(write, tmp_path, data, what, on_bad):
    file = write(data)
    with pytest.raises(DataError, match=what) as raised:
        open_coco(file, tmp_path, on_bad)
    assert str(file) in str(raised.value) and "\n" not in str(raised.value)
    assert not list(tmp_path.glob(".resdet/coco*"))


def test_missing_files(write, tmp_path):
    with pytest.raises(DataError, match="nowhere.json: cannot read the file"):
        open_coco(tmp_path / "nowhere.json", tmp_path)
    source = open_coco(write(content()), tmp_path / "pictures")
    with pytest.raises(DataError, match=r"pictures/70.png: cannot read the file \(No such file"):
        source.image(0)


def test_a_file_without_annotations_is_a_data_set(write, tmp_path):
    data = content()
    data["annotations"] = []
    source = open_coco(write(data), tmp_path, "error")
    assert len(source) == 3 and len(source.objects(0)) == 0 and not source.has_masks
    assert source.label_counts().tolist() == [0, 0] and len(source.presence()[0]) == 0
    nothing = open_coco(write(data | {"images": []}), tmp_path, "error", tmp_path / "other")
    assert len(nothing) == 0 and nothing.images_with().tolist() == [0, 0]


def test_missing_sizes_are_read_from_the_image(write, tmp_path):
    data = content()
    without("images", 0, "width", "height")(data)
    cv2.imwrite(str(tmp_path / "70.png"), np.zeros((30, 40, 3), np.uint8))
    source = open_coco(write(data), tmp_path, "error")
    assert source.sizes[0].tolist() == [40, 30] and len(source.objects(0)) == 1


def test_lvis(write, tmp_path):
    data = copy.deepcopy(content())
    for image in data["images"]:
        del image["file_name"]
        image |= {
            "coco_url": f"http://images.cocodataset.org/train2017/{image['id']:012d}.jpg",
            "neg_category_ids": [2],
            "not_exhaustive_category_ids": [9],
        }
    source = open_coco(write(data), tmp_path, "error")
    assert source.name(1) == f"{tmp_path}/train2017/000000000003.jpg"
    assert source.to_coco()["images"][1]["not_exhaustive_category_ids"] == [9]
    assert source.to_coco()["images"][1]["neg_category_ids"] == [2]


def test_memory_of_indexing_is_less_than_three_times_the_file_size(tmp_path, monkeypatch):
    """Sets a bound that excludes Python lists of polygons: ten points take 700 bytes in a list and 200 in the file."""
    import tracemalloc

    monkeypatch.setattr(json_columns, "BLOCK", 128)
    monkeypatch.setattr(segmentation_columns, "CHUNK", 64)
    corners = ", ".join(f"{k + 100.5}, {k * k + 100.25}" for k in range(10))
    objects = (
        f'{{"id": {i}, "image_id": {i * 7 % 500}, "category_id": 1, "bbox": [1, 2, 3, 4], '
        f'"segmentation": [[{corners}]]}}'
        for i in range(4000)
    )
    images = (f'{{"id": {i}, "file_name": "{i}.jpg", "width": 640, "height": 480}}' for i in range(500))
    file = tmp_path / "a.json"
    file.write_text(
        f'{{"images": [{", ".join(images)}], "categories": [{{"id": 1, "name": "cat"}}], '
        f'"annotations": [{", ".join(objects)}]}}'
    )
    monkeypatch.setattr(json_columns, "CHUNK", 2**14)
    open_coco(file, tmp_path, cache_dir=tmp_path / "before")
    tracemalloc.start()
    source = open_coco(file, tmp_path, cache_dir=tmp_path / "after")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(source.arrays["points"]) == 40_000
    assert peak < 3 * file.stat().st_size


def test_bad_masks_beside_a_bad_box_in_images_of_two_sizes(tmp_path):
    """Objects are listed in another order than their images."""
    rle = lambda width, height, last: {"size": [height, width], "counts": [5, 3, last]}
    masks = [None, rle(20, 30, 592), rle(60, 40, 9), [[1, 1, 9, 1, 9, 9]], rle(60, 40, 2392)]
    annotations = [
        {
            "id": 10 + k,
            "image_id": image,
            "category_id": 1,
            "bbox": [0, 0, k, 9],
            "segmentation": mask,
            "iscrowd": k == 1,
        }
        for k, (image, mask) in enumerate(zip((2, 2, 1, 1, 2), masks))
    ]
    images = [{"id": k, "file_name": f"{k}.jpg", "width": w, "height": h} for k, w, h in ((1, 60, 40), (2, 20, 30))]
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "a"}]}))
    source = open_coco(file, tmp_path)
    assert [type(source.objects(i).segments[0]) for i in (0, 1)] == [Polygons, Bitmap] and len(source.objects(1)) == 1
    assert [source.objects(i).crowd.tolist() for i in (0, 1)] == [[False], [True]]
    assert [sentence.partition(": ")[2] for sentence in source.problems] == [
        "left out 1 annotation with a box without area: 10",
        "left out 1 annotation with a damaged RLE: 12",
        "left out 1 annotation with an RLE of another size than its image: 14",
    ]
