"""Invalid ground truth and results raise an error that names the entry, with either engine."""

import copy
import json

import pytest
from coco_scenes import make, written

from resdet.detection.evaluation import coco
from resdet.errors import ConfigError, DataError

OTHER = {"bbox": "segmentation", "segm": "bbox"}

BAD_RESULTS = {
    "image_id": (999, "result 1 has image_id 999, which the annotations lack"),
    "category_id": (2, "result 1 has category_id 2, which the annotations lack"),
    "score": (float("nan"), "result 1 has no finite number as score"),
    "bbox": ([1, 2, 3], r"result 1 has no bbox of four numbers.* \(\[1, 2, 3\]\)"),
    "bbox 2": ([1, float("nan"), 3, 4], "result 1 has a bbox with NaN"),
    "bbox 3": ([1, 2, -3, 4], "result 1 has a bbox with negative sides"),
    "bbox 4": ([1, 2, -3, -4], "result 1 has a bbox with negative sides"),
    "bbox 5": (["1", 2, 3, 4], "result 1 has no bbox of four numbers"),
    "image_id 2": ("4", r"result 1 has no whole number, 0 or more, as image_id \('4'\)"),
    "image_id 3": (4.5, r"result 1 has no whole number, 0 or more, as image_id \(4.5\)"),
    "score 2": (None, "result 1 has no finite number as score"),
}


@pytest.mark.parametrize("key", BAD_RESULTS)
@pytest.mark.parametrize("engine", ["hotcoco", "pycocotools"])
def test_errors_name_the_invalid_result(key, engine, tmp_path):
    truth, results = make(3)
    results = [{key: value for key, value in entry.items() if key != "segmentation"} for entry in results]
    results[1][key.split()[0]], complaint = BAD_RESULTS[key]
    for inputs in ((truth, results), written(tmp_path, truth, results)):
        with pytest.raises(DataError, match=complaint):
            coco.evaluate(*inputs, engine=engine)
    with pytest.raises(DataError, match="results.json, result 1"):
        coco.evaluate(*written(tmp_path, truth, results), engine=engine)


@pytest.mark.parametrize("key", ["image_id", "category_id"])
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_results_of_other_annotations_are_refused_without_a_warning_of_the_library(key, kind, tmp_path, capfd):
    truth, results = make(3)
    results = [{name: value for name, value in entry.items() if name != OTHER[kind]} | {key: 999} for entry in results]
    with pytest.raises(DataError, match=f"result 0 has {key} 999, which the annotations lack"):
        coco.evaluate(*written(tmp_path, truth, results), kind)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("key", ["image_id", "category_id", "score", "bbox"])
def test_errors_name_the_missing_field_of_a_result(key, tmp_path):
    truth, results = make(3)
    results = [{key: value for key, value in entry.items() if key != "segmentation"} for entry in results]
    del results[2][key]
    for inputs in ((truth, results), written(tmp_path, truth, results)):
        with pytest.raises(DataError, match=f"result 2 has no .*{key}"):
            coco.evaluate(*inputs)


@pytest.mark.parametrize("boxes", [True, False])
@pytest.mark.parametrize("engine", ["hotcoco", "pycocotools"])
def test_errors_name_the_invalid_mask(engine, boxes, tmp_path):
    truth, results = make(3)
    for entry in results if not boxes else ():
        del entry["bbox"]
    spoilt = copy.deepcopy(results)
    spoilt[4]["segmentation"]["size"] = results[4]["segmentation"]["size"][::-1]
    polygon = copy.deepcopy(results)
    polygon[4]["segmentation"] = [[0, 0, 5, 0, 5, 5]]
    missing = copy.deepcopy(results)
    del missing[4]["segmentation"]
    for bad, complaint in (
        (spoilt, "result 4 has a mask of"),
        (polygon, "result 4 .*RLE"),
        (missing, "segmentation|bbox"),
    ):
        for inputs in ((truth, bad), written(tmp_path, truth, bad)):
            with pytest.raises(DataError, match=complaint):
                coco.evaluate(*inputs, "segm", engine)


@pytest.mark.parametrize("engine", ["hotcoco", "pycocotools"])
def test_results_with_only_some_boxes_are_refused(engine, tmp_path):
    truth, results = make(3)
    for entry, key in zip(results, ["bbox", "segmentation"] * len(results)):
        del entry[key]
    with pytest.raises(DataError, match="result 0 has no bbox"):
        coco.evaluate(*written(tmp_path, truth, results), engine=engine)


@pytest.mark.parametrize("engine", ["hotcoco", "pycocotools"])
@pytest.mark.parametrize(
    "spoil", [lambda text: text[:-1], lambda text: text + "0", lambda text: "o" * 40, lambda _: ""]
)
def test_errors_name_the_damaged_rle(engine, spoil, tmp_path):
    truth, results = make(3)
    for entry in results:
        del entry["bbox"]
    results[2]["segmentation"]["counts"] = spoil(results[2]["segmentation"]["counts"])
    for inputs in ((truth, results), written(tmp_path, truth, results)):
        with pytest.raises(DataError, match="result 2 has a damaged RLE"):
            coco.evaluate(*inputs, "segm", engine)


BAD_TRUTH = {
    "no images": (lambda truth: truth.pop("images"), "no list .images."),
    "null annotations": (lambda truth: truth.update(annotations=None), "no list .annotations."),
    "nan": (lambda truth: truth["annotations"][1].update(bbox=[0, float("nan"), 1, 1]), "annotation 1 .*NaN"),
    "negative": (lambda truth: truth["annotations"][1].update(bbox=[5, 5, -1, -1]), "annotation 1 .*negative"),
    "no box": (lambda truth: truth["annotations"][1].pop("bbox"), "annotation 1 .*no bbox"),
    "two categories": (
        lambda truth: truth["categories"].append(truth["categories"][0]),
        "category .* has an id that another category has",
    ),
    "text for ids": (lambda truth: truth["images"][0].update(id="a"), "image 0 .*whole number"),
}


@pytest.mark.parametrize("name", BAD_TRUTH)
@pytest.mark.parametrize("engine", ["hotcoco", "pycocotools"])
def test_errors_name_the_invalid_ground_truth(name, engine, tmp_path):
    truth, results = make(3)
    change, complaint = BAD_TRUTH[name]
    change(truth)
    for inputs in ((truth, results), written(tmp_path, truth, results)):
        with pytest.raises(DataError, match=complaint):
            coco.evaluate(*inputs, engine=engine)


@pytest.mark.parametrize("engine", ["hotcoco", "pycocotools"])
def test_mask_ap_needs_masks_and_image_sizes(engine, tmp_path):
    truth, results = make(3)
    image = truth["annotations"][0]["image_id"]
    for change, complaint in (
        (lambda truth: truth["annotations"][2].pop("segmentation"), "annotation 2 .*no segmentation"),
        (lambda truth: truth["annotations"][2].update(segmentation=[]), "annotation 2 .*no segmentation"),
        (
            lambda truth: next(i for i in truth["images"] if i["id"] == image).pop("width"),
            "annotation .* width and height",
        ),
    ):
        bad = copy.deepcopy(truth)
        change(bad)
        for inputs in ((bad, results), written(tmp_path, bad, results)):
            with pytest.raises(DataError, match=complaint):
                coco.evaluate(*inputs, "segm", engine)


def test_files_with_spaces_before_colons_are_checked_equally(tmp_path):
    truth, results = make(3)
    truth["annotations"][1]["iscrowd"] = 2
    (tmp_path / "truth.json").write_text(json.dumps(truth, separators=(" , ", " : ")))
    with pytest.raises(DataError, match="annotation 1 .*iscrowd that is neither 0 nor 1"):
        coco.evaluate(tmp_path / "truth.json", results)


def test_invalid_files_and_options_are_refused(tmp_path):
    truth, results = make(3)
    good, _ = written(tmp_path, truth, results)
    with pytest.raises(DataError, match="nothing.json cannot be read"):
        coco.evaluate(good, tmp_path / "nothing.json")
    with pytest.raises(DataError, match="nothing.json cannot be read"):
        coco.evaluate(tmp_path / "nothing.json", results)
    (tmp_path / "text.json").write_text("text")
    with pytest.raises(DataError, match="text.json is not valid JSON"):
        coco.evaluate(good, tmp_path / "text.json")
    with pytest.raises(DataError, match="truth.json holds no list of results but a dict"):
        coco.evaluate(good, good)
    with pytest.raises(ConfigError, match="hotcoco or pycocotools"):
        coco.evaluate(truth, results, engine="other")
    with pytest.raises(ConfigError, match="bbox, segm, keypoints"):
        coco.evaluate(truth, results, "poses")
    with pytest.raises(DataError, match="no category has a list of keypoints"):
        coco.evaluate(truth, results, "keypoints")
