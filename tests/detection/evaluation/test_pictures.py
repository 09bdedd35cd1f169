"""Drawings of detections on images: the drawn pixels, file names and sizes."""

import json

import cv2
import numpy as np
import pytest
from pycocotools import mask as pycocotools_mask

from resdet.detection.data.coco import open_coco
from resdet.detection.evaluation import pictures as module
from resdet.detection.evaluation.pictures import drawn_objects, results_beside_truth, write_pictures
from resdet.detection.evaluation.results import Results

HEIGHT, WIDTH, GREY = 60, 80, 128
LOST = 10  # of 255: the largest change by JPEG far from the drawing


@pytest.fixture
def source(tmp_path):
    """Gray images, two of the same name in different folders, with arbitrary ids."""
    names = ["a/1.png", "b/1.png", "b/2.png", "b/3.png"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), np.full((HEIGHT, WIDTH, 3), GREY, np.uint8))
    images = [{"id": 70 + n, "file_name": name, "width": WIDTH, "height": HEIGHT} for n, name in enumerate(names)]
    categories = [{"id": 90, "name": "dog"}, {"id": 5, "name": "cat"}]
    content = {"images": images, "annotations": [], "categories": categories}
    (tmp_path / "truth.json").write_text(json.dumps(content))
    return open_coco(tmp_path / "truth.json", tmp_path)


def results(rows, masks=None):
    images, categories, scores, boxes = zip(*rows)
    return Results(images, categories, scores, boxes, masks)


def written(folder):
    """Returns image id -> drawing in RGB, reduced to the size of the image."""
    paths = sorted(folder.iterdir())
    return {int(path.stem.partition("_")[0]): shrunk(cv2.imread(str(path))[..., ::-1].astype(int)) for path in paths}


def shrunk(picture):
    """Takes the pixel of each 8 x 8 block that differs most from gray."""
    assert picture.shape == (8 * HEIGHT, 8 * WIDTH, 3)  # small images are enlarged
    blocks = picture.reshape(HEIGHT, 8, WIDTH, 8, 3).swapaxes(1, 2).reshape(HEIGHT, WIDTH, 64, 3)
    most = np.abs(blocks - GREY).max(-1).argmax(-1)
    return np.take_along_axis(blocks, most[..., None, None], 2)[:, :, 0]


def changed(picture):
    return np.abs(picture - GREY).max(-1) > LOST


def test_boxes_are_scaled_to_the_size_of_the_image_file(source, tmp_path):
    source.sizes, found = source.sizes // 2, results([(70, 90, 0.9, [5, 10, 15, 12])])
    write_pictures(tmp_path / "out", source, found, 10)
    rows, columns = np.nonzero(changed(written(tmp_path / "out")[70])[35:])  # below the caption
    assert (columns.min(), columns.max(), rows.max() + 35) == pytest.approx((10, 40, 44), abs=3)


def test_boxes_are_drawn(source, tmp_path):
    found = results([(70, 90, 0.9, [10, 20, 30, 25]), (71, 5, 0.8, [40, 5, 20, 20]), (71, 90, 0.49, [2, 30, 10, 10])])
    write_pictures(tmp_path / "out/pictures", source, found, 10)
    pictures = written(tmp_path / "out/pictures")
    assert sorted(pictures) == [70, 71, 72, 73]
    dog, cat = changed(pictures[70]), changed(pictures[71])
    assert dog[20:45, 10].mean() > 0.9 and dog[44, 10:40].mean() > 0.9  # the box's left and bottom edges
    assert not dog[30:40, 15:35].any() and not dog[50:].any()
    assert cat[5:25, 40].mean() > 0.9 and not cat[28:, :20].any()  # a score below 0.5 is not drawn
    assert not changed(pictures[72]).any()
    inner = [pictures[number][row, column] for number, row, column in ((70, 32, 10), (71, 15, 40))]
    assert np.abs(inner[0] - inner[1]).max() > 60  # each class has another color


def test_masks_are_drawn(source, tmp_path):
    bitmap = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    bitmap[25:40, 15:35] = 1
    other = np.zeros_like(bitmap)
    masks = [pycocotools_mask.encode(np.asfortranarray(drawn)) for drawn in (other, bitmap)]
    write_pictures(
        tmp_path / "out", source, results([(71, 5, 0.9, [1, 1, 9, 9]), (70, 90, 0.9, [10, 20, 30, 25])], masks), 10
    )
    picture = written(tmp_path / "out")[70]
    difference = np.abs(picture - GREY).max(-1)
    assert (difference[28:38, 18:32] > 20).all() and (difference[41:43, 14:38] < LOST).mean() > 0.5


def test_the_count_limits_the_images(source, tmp_path):
    write_pictures(tmp_path / "out", source, results([(70, 90, 0.9, [1, 1, 5, 5])]), 2)
    assert sorted(written(tmp_path / "out")) == [70, 73]


def test_images_of_the_same_name_do_not_overwrite_each_other(source, tmp_path):
    write_pictures(tmp_path / "out", source, results([(70, 90, 0.9, [1, 1, 5, 5])]), 10)
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_missing_images_are_skipped(source, tmp_path):
    (tmp_path / "b/2.png").unlink()
    write_pictures(tmp_path / "out", source, results([(70, 90, 0.9, [1, 1, 5, 5])]), 10)
    assert sorted(written(tmp_path / "out")) == [70, 71, 73]


def test_no_detections(source, tmp_path):
    nothing = Results(np.zeros(0), np.zeros(0), np.zeros(0), np.zeros((0, 4)))
    write_pictures(tmp_path / "out", source, nothing, 10)
    assert not any(changed(picture).any() for picture in written(tmp_path / "out").values())


def test_detections_are_drawn_beside_the_objects(tmp_path):
    """Draws a detection and a triangular mask on an image of 640 × 320, which is not resized."""
    cv2.imwrite(str(tmp_path / "1.png"), np.full((320, 640, 3), GREY, np.uint8))
    triangle = [100.0, 60.0, 200.0, 60.0, 100.0, 160.0]
    entry = {"id": 1, "image_id": 7, "category_id": 5, "bbox": [100, 60, 100, 100], "segmentation": [triangle]}
    content = {
        "images": [{"id": 7, "file_name": "1.png", "width": 640, "height": 320}],
        "annotations": [entry | {"area": 5000, "iscrowd": 0}],
        "categories": [{"id": 90, "name": "dog"}, {"id": 5, "name": "cat"}],
    }
    (tmp_path / "truth.json").write_text(json.dumps(content))
    source = open_coco(tmp_path / "truth.json", tmp_path)
    found = results([(7, 90, 0.9, [250, 60, 100, 100]), (7, 90, 0.4, [20, 60, 100, 100])])
    pictures = results_beside_truth(source, found, 4)
    assert list(pictures) == ["val/7_1"]
    gap, page = 4, np.abs(pictures["val/7_1"].astype(int) - GREY).max(-1) > LOST
    left, right = page[gap : gap + 320, gap : gap + 640], page[gap : gap + 320, 2 * gap + 640 : 2 * gap + 1280]
    assert left[65:155, 250].all() and not left[:, :240].any()  # the detection; the one with a low score is not drawn
    assert right[65:155, 100].all() and right[65:155, 199].all() and not right[:, 210:].any()
    assert right[80, 110] and not right[150, 185]  # inside and outside the triangle


def test_large_images_are_reduced_and_damaged_ones_skipped(tmp_path):
    for name, size in (("1.png", (800, 1600)), ("2.png", (800, 1600)), ("3.png", (10, 20))):
        cv2.imwrite(str(tmp_path / name), np.full((*size, 3), GREY, np.uint8))
    sizes = {"1.png": (1600, 800), "2.png": (1600, 800), "3.png": (20, 10)}
    images = [{"id": int(n[0]), "file_name": n, "width": w, "height": h} for n, (w, h) in sizes.items()]
    content = {"images": images, "annotations": [], "categories": [{"id": 5, "name": "cat"}]}
    (tmp_path / "truth.json").write_text(json.dumps(content))
    source = open_coco(tmp_path / "truth.json", tmp_path)
    (tmp_path / "2.png").write_bytes(b"damaged")
    pictures = results_beside_truth(source, results([(1, 5, 0.9, [2, 2, 9, 9])]), 3)
    assert {name: picture.shape for name, picture in pictures.items()} == {
        "val/1_1": (328, 1292, 3),
        "val/3_3": (88, 332, 3),
    }


def test_objects_are_drawn_at_the_size_of_the_picture_with_crowds_and_keypoints(tmp_path, monkeypatch):
    cv2.imwrite(str(tmp_path / "1.png"), np.full((320, 640, 3), GREY, np.uint8))
    square = [[100, 60, 200, 60, 200, 160, 100, 160]]
    shared = {"image_id": 7, "category_id": 5, "area": 1, "segmentation": square, "bbox": [100, 60, 100, 100]}
    points = {"keypoints": [150, 110, 2, 400, 200, 2, 10, 10, 0], "num_keypoints": 2}
    content = {
        "images": [{"id": 7, "file_name": "1.png", "width": 640, "height": 320}],
        "annotations": [
            shared | points | {"id": 1, "iscrowd": 0},
            shared | {"id": 2, "iscrowd": 1, "bbox": [300, 10, 50, 50], "segmentation": [[300, 10, 350, 10, 350, 60]]},
        ],
        "categories": [{"id": 5, "name": "cat", "keypoints": ["nose", "tail", "paw"], "skeleton": []}],
    }
    (tmp_path / "truth.json").write_text(json.dumps(content))
    source = open_coco(tmp_path / "truth.json", tmp_path, keypoints=True)
    captions = []
    monkeypatch.setattr(
        module, "draw", lambda *given: captions.extend(given[3]) or given[0].copy() * (given[4][0][..., None] < 1)
    )
    half = np.full((160, 320, 3), GREY, np.uint8)
    picture = drawn_objects(half, source, 0, 1)
    assert captions == ["cat", "cat (ignored)"]
    assert (picture[32:50, 52:98] == 0).all() and (picture[40, 45] == GREY).all()  # the mask, at half the size
    assert (picture[55, 75] > 0).any() and (picture[100, 200] != GREY).any()  # keypoints
    assert (picture[5, 5] == GREY).all()  # a keypoint that is not labeled
