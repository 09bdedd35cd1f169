"""Tests the images that a localizer's run writes, which show the predicted and the true boxes."""

import cv2
import numpy as np
from painted import Painted

from resdet.localization.evaluate import Located
from resdet.localization.pictures import write_located
from resdet.localization.rpn_training import LocalizationTraining
from resdet.results.result import Result
from resdet.results.spread import spread

GREY, LOST = 128, 60  # of 255: drawn lines differ by more, JPEG noise by less


def test_predicted_and_true_boxes_are_drawn(tmp_path):
    """Checks the drawn boxes of images whose true boxes were annotated at half the size."""
    source = Painted([[5, 5, 20, 12]] * 3, [1, 0, 1], (100, 80))
    for pixels in source.pixels:
        pixels[:] = GREY
    source.sizes = source.sizes // 2
    box = np.array([[60, 46, 90, 70]], np.float32)
    results = [Result.of(box, np.array([0.9]), np.array([1]), source.classes, (80, 100)) for _ in range(2)]
    write_located(tmp_path / "out/pictures", source, np.array([0, 2]), results, 5)
    assert sorted(path.name for path in (tmp_path / "out/pictures").iterdir()) == [
        "0_ILSVRC2012_val_00000001.jpg",
        "2_ILSVRC2012_val_00000003.jpg",
    ]
    picture = cv2.imread(str(tmp_path / "out/pictures/2_ILSVRC2012_val_00000003.jpg"))[..., ::-1].astype(int)
    assert picture.shape == (7 * 80, 7 * 100, 3)  # enlarged to at least 640 pixels
    red, green = picture[..., 0] - picture[..., 1], picture[..., 1] - picture[..., 0]
    assert (red[7 * 48 : 7 * 66, 7 * 60] > LOST).mean() > 0.9 and (red[7 * 70 - 1, 7 * 65 : 7 * 85] > LOST).mean() > 0.9
    assert (green[7 * 12 : 7 * 22, 70] > LOST).mean() > 0.9 and (green[7 * 24 - 1, 7 * 14 : 7 * 36] > LOST).mean() > 0.9
    for untouched in (picture[7 * 50 : 7 * 65, 7 * 65 : 7 * 85], picture[7 * 75 :]):
        assert (np.abs(untouched - GREY) < LOST).all()


def test_spread_selects_evenly_spaced_indices():
    assert spread(10, 3) == [0, 4, 9] and spread(2, 24) == [0, 1] and spread(0, 24) == []


def test_logger_images_come_from_the_last_evaluation():
    """Requests two of three located images and checks that the first and the last are drawn."""
    source = Painted([[5, 5, 20, 12]] * 4, [1, 0, 1, 1], (100, 80))
    boxes = np.array([[[60, 46, 90, 70]], [[0, 0, 9, 9]], [[10, 10, 40, 40]]], np.float32)
    sizes = np.array([[80, 100]] * 3, np.float32)
    located = Located(np.array([0, 2, 3]), boxes, np.full((3, 1), 0.9, np.float32), sizes, {"rpn_box": 0.5})
    task = LocalizationTraining.__new__(LocalizationTraining)
    task.validation, task.located = source, located
    pictures = task.pictures(2)
    assert list(pictures) == ["val/0_ILSVRC2012_val_00000001", "val/3_ILSVRC2012_val_00000004"]
    last = pictures["val/3_ILSVRC2012_val_00000004"].astype(int)
    assert last.shape == (512, 640, 3)  # enlarged 6.4 times
    red, green = last[..., 0] - last[..., 1], last[..., 1] - last[..., 0]
    assert (red[141:243, 62:68].max(1) > LOST).all() and (green[45:64, 30:36].max(1) > LOST).all()
