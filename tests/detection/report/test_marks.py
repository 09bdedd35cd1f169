"""Tests the masks and keypoints in the pictures of reports."""

import json
import re
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from resdet.detection.data.coco import open_coco
from resdet.detection.evaluation.results import Results
from resdet.detection.report.doubts import Doubt
from resdet.detection.report.galleries import crop, scene_picture
from resdet.detection.report.marks import detection_marks, outline, truth_marks
from resdet.ops.rle import encode
from resdet.report.html import page
from resdet.results.sections import Gallery, Mark, Section, picture

SIDE = 20


def ring_mask() -> np.ndarray:
    """A square of 10 pixels with a hole of 4."""
    mask = np.zeros((SIDE, SIDE), bool)
    mask[5:15, 5:15] = True
    mask[8:12, 8:12] = False
    return mask


def bounds(rings) -> list[list[float]]:
    return sorted([*ring.min(0).tolist(), *ring.max(0).tolist()] for ring in rings)


def test_the_outline_of_a_mask_has_its_hole():
    assert bounds(outline(ring_mask())) == [[5.5, 5.5, 14.5, 14.5], [7.5, 7.5, 12.5, 12.5]]
    assert outline(np.zeros((4, 4), bool)) == []


@pytest.fixture
def source(tmp_path):
    """An object with a polygon and two of three keypoints, and a crowd with an RLE."""
    mask = np.pad(ring_mask(), ((0, 0), (SIDE, 0)))  # in the right half
    (rle,) = encode(torch.from_numpy(mask)[None], (SIDE, 2 * SIDE))
    polygon = [1.0, 1.0, 9.0, 1.0, 9.0, 9.0]
    category = {"id": 7, "name": "thing", "keypoints": ["a", "b", "c"], "skeleton": [[1, 2], [2, 3]]}
    objects = [
        {"bbox": [1, 1, 8, 8], "segmentation": [polygon], "keypoints": [1, 1, 2, 8, 1, 1, 0, 0, 0], "iscrowd": 0},
        {"bbox": [25, 5, 10, 10], "segmentation": rle, "keypoints": [0] * 9, "iscrowd": 1},
    ]
    annotations = [{"id": k, "image_id": 3, "category_id": 7, "area": 40, **each} for k, each in enumerate(objects, 1)]
    images = [{"id": 3, "file_name": "a.png", "width": 2 * SIDE, "height": SIDE}]
    content = {"images": images, "annotations": annotations, "categories": [category]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    return open_coco(tmp_path / "a.json", tmp_path)


def test_marks_of_objects(source):
    first, second = truth_marks(source, 0)
    assert (first.text, first.box) == ("thing", (1, 1, 9, 9)) and bounds(first.rings) == [[1, 1, 9, 9]]
    assert [point.tolist() for point in first.points] == [[1.5, 1.5], [8.5, 1.5]]
    assert [limb.tolist() for limb in first.limbs] == [[[1.5, 1.5], [8.5, 1.5]]]
    assert second.text == "thing (crowd)" and not second.points and not second.limbs
    assert bounds(second.rings) == [[25.5, 5.5, 34.5, 14.5], [27.5, 7.5, 32.5, 12.5]]


def test_polygons_that_overlap_have_one_outline(tmp_path):
    """The parts of a mask are a union: two squares that overlap have no hole, whichever way they turn."""
    squares = [[1, 1, 11, 1, 11, 11, 1, 11], [6, 6, 6, 16, 16, 16, 16, 6]]
    entry = {"id": 1, "image_id": 3, "category_id": 7, "bbox": [1, 1, 15, 15], "area": 175, "segmentation": squares}
    images = [{"id": 3, "file_name": "a.png", "width": SIDE, "height": SIDE}]
    content = {"images": images, "annotations": [entry | {"iscrowd": 0}], "categories": [{"id": 7, "name": "thing"}]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    (mark,) = truth_marks(open_coco(tmp_path / "a.json", tmp_path), 0)
    assert bounds(mark.rings) == [[1.5, 1.5, 15.5, 15.5]]


def test_marks_of_detections(source):
    """Shows keypoints with scores above 2, as `resdet predict --draw`."""
    masks = encode(torch.from_numpy(np.stack([ring_mask()] * 3)), (SIDE, SIDE))
    keypoints = np.array([[[1, 2, 2.5], [3, 4, 1.5], [5, 6, 7]]] * 3)
    results = Results([3, 3, 4], [7] * 3, [0.9, 0.2, 0.9], [[5, 5, 10, 10]] * 3, list(masks), keypoints)
    (mark,) = detection_marks(source, 0, results, 0.5)
    assert (mark.text, mark.box) == ("thing 0.90", (5, 5, 15, 15)) and len(mark.rings) == 2
    assert [point.tolist() for point in mark.points] == [[1, 2], [5, 6]] and not mark.limbs
    results.masks = results.keypoints = None
    (mark,) = detection_marks(source, 0, results, 0.5)
    assert not mark.rings and not mark.points


@pytest.fixture
def stretched(tmp_path):
    """An object and a detection in an image that is twice as wide and three times as high as annotated."""
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((360, 480, 3), np.uint8))
    square = [50, 40, 70, 40, 70, 60, 50, 60]
    entry = {"id": 1, "image_id": 3, "category_id": 7, "bbox": [50, 40, 20, 20], "area": 400, "segmentation": [square]}
    images = [{"id": 3, "file_name": "a.png", "width": 240, "height": 120}]
    content = {"images": images, "annotations": [entry | {"iscrowd": 0}], "categories": [{"id": 7, "name": "thing"}]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    mask = np.zeros((1, 120, 240), bool)
    mask[0, 40:60, 50:70] = True
    masks = [{**rle} for rle in encode(torch.from_numpy(mask), (120, 240))]
    results = Results([3], [7], [0.9], [[50, 40, 20, 20]], masks)
    return SimpleNamespace(source=open_coco(tmp_path / "a.json", tmp_path), results=results, indices={3: 0})


def test_pictures_of_images_with_other_sizes_than_annotated(stretched):
    layers = {
        "truth": truth_marks(stretched.source, 0),
        "found": detection_marks(stretched.source, 0, stretched.results, 0),
    }
    shown = scene_picture(stretched.source, 0, "", layers)
    assert (shown.width, shown.height) == (480, 360)
    (truth,), (found,) = shown.layers.values()
    assert truth.box == found.box == (100, 120, 140, 180)
    assert bounds(truth.rings) == [[100, 120, 140, 180]] and bounds(found.rings) == [[101, 121.5, 139, 178.5]]


def test_crops_of_images_with_other_sizes_than_annotated(stretched):
    """The crop has half of the longer side, 30 pixels, on each side of the box."""
    shown = crop(stretched, Doubt("missing label", 0, 0.9, None))
    assert (shown.width, shown.height) == (100, 120)
    (truth,), (found,) = shown.layers.values()
    assert truth.box == found.box == (30, 30, 70, 90)
    assert bounds(truth.rings) == [[30, 30, 70, 90]] and bounds(found.rings) == [[31, 31.5, 69, 88.5]]


def test_moved_marks():
    ring, limb = np.array([[1.0, 2], [3, 4], [5, 0]]), np.array([[1.0, 1], [2, 2]])
    mark = Mark((1, 2, 3, 4), "a", [ring], [limb[0]], [limb]).moved(np.array([2, 3, 2, 3]), np.array([1, 0, 1, 0]))
    assert mark.box == (1, 6, 5, 12) and mark.rings[0].tolist() == [[1, 6], [5, 12], [9, 0]]
    assert mark.points[0].tolist() == [1, 3] and mark.limbs[0].tolist() == [[1, 3], [3, 6]]


def test_pictures_have_masks_and_keypoints():
    """Draws a mask with a needless place on one side and a corner on another, in a picture of the size of the image."""
    ring = np.array([[100.0, 100], [150, 100], [200, 100], [203, 150], [200, 200], [100, 200]])
    limb = np.array([[120.0, 120], [180, 180]])
    layers = {"truth": [Mark((100, 100, 200, 200), "", [ring], list(limb), [limb])], "found": [Mark((1, 1, 9, 9), "")]}
    shown = picture(np.zeros((480, 480, 3), np.uint8), "name", "", layers)
    text = page("title", [Section("all", "All", [Gallery("worst", "Worst", [shown])])])
    (places,) = re.findall(r'class="mask" d="M([^"]*)Z"', text)
    corners = ["100.0,100.0", "100.0,200.0", "200.0,100.0", "200.0,200.0"]
    assert sorted(places.split()) == [*corners, "203.0,150.0"]
    assert 'class="limbs" d="M120.0,120.0 180.0,180.0"' in text
    assert re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', text) == [("120.0", "120.0"), ("180.0", "180.0")]
