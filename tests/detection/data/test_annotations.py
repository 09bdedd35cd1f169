"""Concatenated data sets, and their composed ground truth in pycocotools."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from resdet.detection.data.annotations import concatenate
from resdet.detection.data.coco import open_coco
from resdet.errors import DataError

CLASSES = [{"id": 4, "name": "dot"}, {"id": 7, "name": "bar"}]


def make(folder, seed: int, images: int = 5, categories=CLASSES):
    """Writes a COCO file of random boxes, every second with a mask, some crowds; image ids repeat between files."""
    random = np.random.default_rng(seed)
    annotations = []
    for k in range(3 * (images - 1)):  # the last image is empty
        x, y, w, h = random.uniform(5, 40, 4).round(2).tolist()
        annotation = {"id": k, "image_id": k // 3, "category_id": [4, 7][k % 2], "bbox": [x, y, w, h], "iscrowd": 0}
        if k % 4 == 0:
            annotation["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        if k % 4 == 2:
            bitmap = np.asfortranarray(random.random((90, 100)) < 0.3, np.uint8)
            annotation |= {"segmentation": coco_mask.encode(bitmap), "iscrowd": k % 3 % 2}
            annotation["segmentation"]["counts"] = annotation["segmentation"]["counts"].decode()
        annotations.append(annotation)
    data = {
        "images": [{"id": k, "file_name": f"{k}.jpg", "width": 100, "height": 90} for k in range(images)],
        "annotations": annotations,
        "categories": categories,
    }
    folder.mkdir()
    (folder / "gt.json").write_text(json.dumps(data))
    return open_coco(folder / "gt.json", folder, "error")


@pytest.fixture
def parts(tmp_path):
    return [make(tmp_path / "a", 1), make(tmp_path / "b", 2, images=3), make(tmp_path / "c", 3)]


def test_concatenation_keeps_the_order(parts, tmp_path):
    whole = concatenate(parts)
    places = [(part, i) for part in parts for i in range(len(part))]
    assert len(whole) == len(places) == 13 and whole.classes == ["dot", "bar"] and whole.category_ids == [4, 7]
    assert whole.name(5) == f"{tmp_path}/b/0.jpg" and whole.image_id(5) == 0
    assert whole.label_counts().tolist() == sum(part.label_counts() for part in parts).tolist()
    for k, (part, i) in enumerate(places):
        ours, theirs = whole.objects(k), part.objects(i)
        assert np.array_equal(ours.boxes, theirs.boxes) and np.array_equal(ours.labels, theirs.labels)
        assert np.array_equal(ours.crowd, theirs.crowd) and whole.name(k) == part.name(i)
        for a, b in zip(ours.segments, theirs.segments):
            assert (a is None) == (b is None)
            assert a is None or np.array_equal(a.bitmap(90, 100), b.bitmap(90, 100))
    assert concatenate(parts[:1]) is parts[0]


def test_concatenation_keeps_the_problems(tmp_path):
    spoilt = []
    for name in ("a", "b"):
        make(tmp_path / name, 1)
        data = json.loads((tmp_path / name / "gt.json").read_text())
        data["annotations"][2]["category_id"] = 99
        (tmp_path / name / "gt.json").write_text(json.dumps(data))
        spoilt.append(open_coco(tmp_path / name / "gt.json", tmp_path / name))
    assert concatenate(spoilt).problems == [*spoilt[0].problems, *spoilt[1].problems] and spoilt[1].problems


@pytest.mark.parametrize("categories", [[{"id": 4, "name": "dot"}, {"id": 7, "name": "rod"}], CLASSES[::-1]])
def test_other_classes_are_an_error(parts, tmp_path, categories):
    renumbered = [category | {"id": number} for category, number in zip(categories, (4, 7))]
    with pytest.raises(DataError, match="/d has other classes than .*/a .*(rod|dot)"):
        concatenate([parts[0], make(tmp_path / "d", 4, categories=renumbered)])


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_pycocotools_accepts_composed_ground_truth(parts, kind):
    whole = concatenate(parts[:2])
    data = whole.to_coco()
    json.dumps(data)
    assert [image["id"] for image in data["images"]] == [whole.result_id(i) for i in range(len(whole))]
    parts_data = [part.to_coco()["annotations"] for part in parts[:2]]
    expected = [a for annotations in parts_data for a in annotations]
    for ours, theirs in zip(data["annotations"], expected):
        assert np.allclose(ours["bbox"], theirs["bbox"], atol=1e-4)
        assert (ours["category_id"], ours["iscrowd"]) == (theirs["category_id"], theirs["iscrowd"])
        if "segmentation" in theirs:
            rle = theirs["segmentation"]
            rle = coco_mask.merge(coco_mask.frPyObjects(rle, 90, 100)) if isinstance(rle, list) else rle
            assert coco_mask.iou([ours["segmentation"]], [rle], [0])[0, 0] > 0.99
            assert ours["area"] == int(coco_mask.area(ours["segmentation"]))
        else:
            assert ours["area"] == pytest.approx(theirs["bbox"][2] * theirs["bbox"][3], rel=1e-4)
    reference = COCO()
    reference.dataset = data
    if kind == "segm":
        data["annotations"] = [a for a in data["annotations"] if "segmentation" in a]
    reference.createIndex()
    results = [
        {key: a[key] for key in ("image_id", "category_id", kind if kind == "bbox" else "segmentation")}
        | {"score": 1.0}
        for a in data["annotations"]
        if not a["iscrowd"]
    ]
    evaluation = COCOeval(reference, reference.loadRes(results), kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)
