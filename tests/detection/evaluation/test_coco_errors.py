"""The confusion matrix and TIDE's errors on hand-computed cases."""

import numpy as np
from pycocotools import mask

from resdet.detection.evaluation import coco

TRUTH = {
    "images": [{"id": 1, "width": 100, "height": 100}, {"id": 2, "width": 100, "height": 100}],
    "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 3, "bbox": [0, 0, 10, 10], "area": 100, "iscrowd": 0},
        {"id": 2, "image_id": 1, "category_id": 7, "bbox": [20, 0, 10, 10], "area": 100, "iscrowd": 0},
        {"id": 3, "image_id": 1, "category_id": 7, "bbox": [50, 50, 40, 40], "area": 1600, "iscrowd": 1},
        {"id": 4, "image_id": 2, "category_id": 7, "bbox": [0, 0, 10, 10], "area": 100, "iscrowd": 0},
    ],
}
RESULTS = [
    {"image_id": 1, "category_id": 7, "bbox": [0, 0, 10, 10], "score": 0.9},  # a cat classified as a dog
    {"image_id": 1, "category_id": 3, "bbox": [0, 0, 10, 9], "score": 0.8},  # the cat is already matched: background
    {"image_id": 1, "category_id": 7, "bbox": [20, 0, 10, 6], "score": 0.7},  # the dog, IoU 0.6
    {"image_id": 1, "category_id": 7, "bbox": [55, 55, 10, 10], "score": 0.9},  # in the crowd region
    {"image_id": 1, "category_id": 3, "bbox": [60, 60, 10, 10], "score": 0.9},  # in a crowd region of another class
    {"image_id": 1, "category_id": 3, "bbox": [0, 80, 10, 10], "score": 0.6},  # background
    {"image_id": 2, "category_id": 7, "bbox": [0, 0, 10, 10], "score": 0.4},  # correct, but with a low score
]


def with_masks(entries: list[dict]) -> list[dict]:
    """Adds the filled boxes as RLE masks."""
    filled = []
    for entry in entries:
        x, y, width, height = entry["bbox"]
        pixels = np.zeros((100, 100), np.uint8, order="F")
        pixels[y : y + height, x : x + width] = 1
        filled.append({**entry, "segmentation": {"size": [100, 100], "counts": mask.encode(pixels)["counts"].decode()}})
    return filled


def test_confusion_by_hand():
    confusion = coco.confusion(TRUTH, RESULTS, score=0.5)
    assert confusion["classes"] == ["cat", "dog"]
    assert confusion["matrix"] == [
        [0, 1, 0],  # cats: detected as cat, as dog, missed
        [0, 1, 1],
        [2, 0, 0],  # background
    ]


def test_confusion_at_another_score_and_overlap():
    assert coco.confusion(TRUTH, RESULTS, score=0.3)["matrix"] == [[0, 1, 0], [0, 2, 0], [2, 0, 0]]
    assert coco.confusion(TRUTH, RESULTS, iou=0.7)["matrix"] == [[0, 1, 0], [0, 0, 2], [2, 1, 0]]
    assert coco.confusion(TRUTH, [])["matrix"] == [[0, 0, 1], [0, 0, 2], [0, 0, 0]]


def test_a_detection_matches_the_object_of_largest_overlap():
    """A cat and a dog overlap by half; the detection has IoUs of 0.5 and 1."""
    cat, dog = ({**TRUTH["annotations"][0], "id": number, "category_id": number} for number in (3, 7))
    truth = {**TRUTH, "annotations": [{**cat, "bbox": [0, 0, 10, 5], "area": 50}, dog]}
    assert coco.confusion(truth, RESULTS[:1])["matrix"] == [[0, 0, 1], [0, 1, 0], [0, 0, 0]]


def test_confusion_includes_the_limits_of_score_and_overlap():
    """A cat, and a dog of score 0.5 in its upper half."""
    found = [{**RESULTS[0], "bbox": [0, 0, 10, 5], "score": 0.5}]
    truth = {**TRUTH, "annotations": TRUTH["annotations"][:1]}
    assert coco.confusion(truth, found, score=0.5, iou=0.5)["matrix"] == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert coco.confusion(truth, found, score=0.51, iou=0.5)["matrix"] == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert coco.confusion(truth, found, score=0.5, iou=0.51)["matrix"] == [[0, 0, 1], [0, 0, 0], [0, 1, 0]]


def test_confusion_of_masks():
    truth = {**TRUTH, "annotations": with_masks(TRUTH["annotations"])}
    polygons = [{**thing, "segmentation": polygon(*thing["bbox"])} for thing in TRUTH["annotations"]]
    expected = coco.confusion(TRUTH, RESULTS)["matrix"]
    assert coco.confusion(truth, with_masks(RESULTS), "segm")["matrix"] == expected
    assert coco.confusion({**TRUTH, "annotations": polygons}, with_masks(RESULTS), "segm")["matrix"] == expected


def polygon(x: int, y: int, width: int, height: int) -> list[list[int]]:
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


def test_tide_by_hand():
    """The results have one error of each kind but Miss; perfect results have no error."""
    truth = {**TRUTH, "annotations": [thing for thing in TRUTH["annotations"] if not thing["iscrowd"]]}
    right = {"image_id": 1, "category_id": 3, "bbox": [0, 0, 10, 10], "score": 0.9}
    results = [
        right,
        {**right, "score": 0.8},  # Dupe
        {**right, "bbox": [20, 0, 10, 10], "score": 0.7},  # Cls: the object is a dog
        {**right, "image_id": 2, "category_id": 7, "bbox": [0, 0, 10, 3], "score": 0.6},  # Loc: IoU 0.3
        {**right, "image_id": 2, "bbox": [0, 0, 10, 3], "score": 0.55},  # Both: a cat at the dog, IoU 0.3
        {**right, "bbox": [70, 70, 10, 10], "score": 0.5},  # Bkg
    ]
    errors = coco.tide(truth, results)
    assert errors["counts"] == {"Cls": 1, "Loc": 1, "Both": 1, "Dupe": 1, "Bkg": 1, "Miss": 0}
    assert errors["AP50"] == coco.evaluate(truth, results)["AP50"]
    perfect = [{**right, **{key: t[key] for key in ("image_id", "category_id", "bbox")}} for t in truth["annotations"]]
    assert not any(coco.tide(truth, perfect)["counts"].values())
