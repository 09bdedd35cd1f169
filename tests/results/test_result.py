"""Tests results of detectors: export to COCO, JSON and supervision, selection, masks as RLE, and drawing."""

import contextlib
import io
import json
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from resdet.errors import DataError, Error
from resdet.results import visualizer
from resdet.results.result import Result

HEIGHT, WIDTH = 60, 80


def result(masks=True, image=None):
    boxes = np.array([(10, 5, 40, 25), (30, 20, 70.5, 50.25), (0, 0, 8, 8)], np.float32)
    return Result(
        boxes=boxes,
        scores=np.array([0.9, 0.6, 0.2], np.float32),
        labels=np.array([2, 0, 2]),
        names=["zebra", "cat", "zebra"],
        category_ids=np.array([24, 17, 24]),
        size=(HEIGHT, WIDTH),
        masks=np.stack([filled(box) for box in boxes]) if masks else None,
        image=image,
    )


def filled(box):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    left, top, right, bottom = np.round(box).astype(int)
    mask[top:bottom, left:right] = True
    return mask


def quietly(function, *arguments):
    with contextlib.redirect_stdout(io.StringIO()):
        return function(*arguments)


def test_pycocotools_evaluates_to_coco_with_an_ap_of_one():
    """Evaluates the entries against ground truth of the same boxes and masks, with non-contiguous category IDs."""
    found = result()
    annotations = [
        {
            "id": i + 1,
            "image_id": 139,
            "category_id": int(found.category_ids[i]),
            "bbox": [float(x), float(y), float(right - x), float(bottom - y)],
            "segmentation": {"size": [HEIGHT, WIDTH], "counts": runs(found.masks[i])},
            "area": int(found.masks[i].sum()),
            "iscrowd": 0,
        }
        for i, (x, y, right, bottom) in enumerate(found.boxes)
    ]
    truth = COCO()
    truth.dataset = {
        "images": [{"id": 139, "height": HEIGHT, "width": WIDTH}],
        "annotations": annotations,
        "categories": [{"id": 17, "name": "cat"}, {"id": 24, "name": "zebra"}],
    }
    quietly(truth.createIndex)
    entries = json.loads(json.dumps(found.to_coco(139)))
    for kind in ("bbox", "segm"):
        judged = COCOeval(truth, quietly(truth.loadRes, entries), kind)
        for step in (judged.evaluate, judged.accumulate, judged.summarize):
            quietly(step)
        assert judged.stats[0] == pytest.approx(1.0)


def runs(mask):
    """Returns COCO's uncompressed RLE counts, computed pixel by pixel."""
    counts, value = [0], False
    for pixel in mask.ravel(order="F"):
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return counts


def test_to_coco_has_plain_python_types():
    entry = result().to_coco("a")[1]
    assert entry["bbox"] == [30.0, 20.0, 40.5, 30.25] and entry["category_id"] == 17 and entry["image_id"] == "a"
    assert type(entry["category_id"]) is int and type(entry["score"]) is float
    assert type(entry["segmentation"]["counts"]) is str
    np.testing.assert_array_equal(coco_mask.decode(entry["segmentation"]), result().masks[1])
    assert "segmentation" not in result(masks=False).to_coco(1)[0]


@pytest.mark.parametrize("masks", [True, False])
def test_a_result_without_detections(masks):
    empty = result(masks, np.zeros((HEIGHT, WIDTH, 3), np.uint8)).above(2.0)
    assert len(empty) == 0 and empty.boxes.shape == (0, 4) and empty.to_coco(1) == []
    assert str(empty) == f"0 detections in an image, {WIDTH} x {HEIGHT} pixels"
    assert empty.to_dict()["detections"] == [] and not empty.draw().any()
    assert len(empty.to_supervision()) == 0


def test_masks_are_stored_as_rle():
    """Checks that results built from masks and from RLEs are equal, and that returned entries are copies."""
    whole = result()
    assert whole.masks.shape == (3, HEIGHT, WIDTH) and whole.masks.dtype == bool
    np.testing.assert_array_equal(whole.masks, [filled(box) for box in whole.boxes])
    again = replace(whole, names=["a", "b", "c"])
    assert again.rles == whole.rles and replace(whole, rles=None).masks is None
    for entry in (whole.to_coco(1)[0], whole.to_dict()["detections"][0]):
        assert entry["segmentation"] == whole.rles[0]
        entry["segmentation"]["counts"] = b""
        assert entry["segmentation"] != whole.rles[0]


@pytest.mark.parametrize("keep", [[2, 0], np.array([2, 0])])
def test_selection_applies_to_every_field(keep):
    chosen, whole = result().select(keep), result()
    assert chosen.names == ["zebra", "zebra"] and len(chosen) == 2
    for field in ("boxes", "scores", "labels", "category_ids", "masks"):
        np.testing.assert_array_equal(getattr(chosen, field), getattr(whole, field)[[2, 0]])
    assert result(masks=False).select(whole.scores > 0.5).names == ["zebra", "cat"]
    assert whole.above(0.6).names == ["zebra", "cat"]  # the threshold is inclusive


def test_text_of_a_result():
    lines = str(result(image="zoo/1.jpg")).splitlines()
    assert lines[0] == "3 detections in zoo/1.jpg, 80 x 60 pixels"
    assert lines[2].split() == ["cat", "0.600", "30.0", "20.0", "70.5", "50.2"]
    assert str(result().select([0])).startswith("1 detection in an image,")
    assert repr([result(image="zoo/1.jpg")]) == f"[<Result: {lines[0]}>]"  # without arrays and masks, for notebooks


def test_to_dict_is_json():
    described = json.loads(json.dumps(result(image="zoo/1.jpg").to_dict()))
    assert (described["image"], described["height"], described["width"]) == ("zoo/1.jpg", HEIGHT, WIDTH)
    second = described["detections"][1]
    assert second["box"] == [30.0, 20.0, 70.5, 50.25] and (second["name"], second["category_id"]) == ("cat", 17)
    np.testing.assert_array_equal(coco_mask.decode(second["segmentation"]), result().masks[1])


@pytest.mark.parametrize("masks", [True, False])
def test_to_supervision(masks):
    supervision = pytest.importorskip("supervision")
    detections = result(masks).to_supervision()
    assert isinstance(detections, supervision.Detections)
    np.testing.assert_array_equal(detections.xyxy, result().boxes)
    assert detections.data["class_name"].tolist() == ["zebra", "cat", "zebra"]
    kept = detections[detections.confidence > 0.5]
    assert len(kept) == 2 and (kept.mask is not None) == masks


def test_track_ids_are_in_all_forms():
    pytest.importorskip("supervision")
    tracked = replace(result(masks=False), track_ids=np.array([7, 3, 5]))
    assert [entry["track_id"] for entry in tracked.to_dict()["detections"]] == [7, 3, 5]
    assert tracked.columns()["track_id"].tolist() == [7, 3, 5] and "track_id" not in result().columns()
    assert tracked.to_supervision().tracker_id.tolist() == [7, 3, 5] and result().to_supervision().tracker_id is None
    assert tracked.of_classes("zebra").track_ids.tolist() == [7, 5] and tracked.above(0.5).track_ids.tolist() == [7, 3]


def test_the_captions_of_tracked_objects_begin_with_their_id(monkeypatch):
    captions, labels = [], []
    monkeypatch.setattr(
        visualizer, "draw", lambda *given: (labels.extend(given[2]), captions.extend(given[3])) and given[0]
    )
    tracked = replace(result(masks=False, image=np.zeros((HEIGHT, WIDTH, 3), np.uint8)), track_ids=np.array([7, 3, 5]))
    tracked.draw(score=0.5)
    assert captions == ["#7 zebra 0.90", "#3 cat 0.60"] and labels == [7, 3]


def test_a_missing_supervision_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(Error, match="pip install supervision"):
        result().to_supervision()


def test_drawing_uses_the_image_of_the_result(tmp_path):
    pixels = np.full((HEIGHT, WIDTH, 3), (10, 120, 230), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), pixels[..., ::-1])
    from_array, from_file = (result(image=image).draw() for image in (pixels, tmp_path / "a.png"))
    np.testing.assert_array_equal(from_array, from_file)
    np.testing.assert_array_equal(result().draw(pixels), from_array)
    assert (pixels == (10, 120, 230)).all() and (from_array != pixels).any()
    assert np.array_equal(result(image=pixels).draw(score=0.95), pixels)
    lowest = np.s_[0:4, 0:8]  # region of the detection with a score of 0.2
    assert (from_array != pixels)[lowest].any() and not (result().draw(pixels, score=0.5) != pixels)[lowest].any()


def test_drawing_without_a_valid_image_is_rejected():
    with pytest.raises(DataError, match="has no image"):
        result().draw()
    with pytest.raises(DataError, match="the given array has 80 x 61 pixels"):
        result().draw(np.zeros((61, 80, 3), np.uint8))
    with pytest.raises(DataError, match="cannot read the file"):
        result(image="absent.jpg").draw()
