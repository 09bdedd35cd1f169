"""Conversion of results between columns, lists and JSON files."""

import json

import numpy as np
import pytest
from coco_scenes import make
from pycocotools import mask as pycocotools_mask

from resdet.detection.evaluation.results import Results
from resdet.errors import DataError

RLE = pycocotools_mask.encode(np.asfortranarray(np.eye(4, 6, dtype=np.uint8)))


def test_lists_and_files_round_trip(tmp_path):
    _, entries = make(10)
    results = Results.from_list(entries)
    assert len(results) == len(entries) and results.boxes.shape == (len(entries), 4)
    assert results.to_list() == entries
    results.save(tmp_path / "results.json")
    assert json.loads((tmp_path / "results.json").read_text()) == entries
    assert Results.read(tmp_path / "results.json").to_list() == entries


def test_columns_of_any_type_become_json(tmp_path):
    results = Results(
        [1, 2], np.array([3, 4], np.int32), np.array([0.5, 0.25], np.float32), [[1, 2, 3, 4]] * 2, [RLE] * 2
    )
    results.save(tmp_path / "results.json")
    first, second = json.loads((tmp_path / "results.json").read_text())
    assert first == {
        "image_id": 1,
        "category_id": 3,
        "bbox": [1, 2, 3, 4],
        "score": 0.5,
        "segmentation": {"size": [4, 6], "counts": RLE["counts"].decode()},
    }
    assert second["score"] == 0.25


def test_without_masks_there_is_no_segmentation():
    results = Results([1], [1], [0.5], [[0, 0, 1, 1]])
    assert "segmentation" not in results.to_list()[0]
    assert Results.from_list([]).to_list() == [] and len(Results.from_list([])) == 0


def test_missing_boxes_are_computed_from_masks():
    entry = {"image_id": 1, "category_id": 1, "score": 0.5, "segmentation": RLE}
    boxes = Results.from_list([entry, {**entry, "bbox": [1, 1, 2, 2]}]).boxes
    assert boxes.tolist() == [pycocotools_mask.toBbox(RLE).tolist(), [1, 1, 2, 2]]


def test_uncompressed_rle_is_compressed():
    counts = [0, 1, 4, 1, 4, 1, 4, 1, 8]  # the diagonal, column by column
    entry = {"image_id": 1, "category_id": 1, "score": 0.5, "segmentation": {"size": [4, 6], "counts": counts}}
    assert Results.from_list([entry]).to_list()[0]["segmentation"]["counts"] == RLE["counts"].decode()


def test_parts_are_concatenated():
    part = Results([1], [1], [0.5], [[0, 0, 1, 1]], [RLE])
    empty = Results([], [], [], [])
    whole = Results.concatenate([part, empty, part])
    assert len(whole) == 2 and whole.masks == [RLE, RLE] and whole.boxes.shape == (2, 4)
    assert Results.concatenate([empty, empty]).masks is None
    assert Results.concatenate([part, Results([2], [1], [0.5], [[0, 0, 1, 1]])]).masks is None


@pytest.mark.parametrize(
    "entries, complaint",
    [
        ({"annotations": []}, "no list of results but a dict"),
        ([1], "result 0 has no whole number, 0 or more, as image_id"),
        ([{"image_id": 1, "category_id": 1, "score": 0.5}], "result 0 has no bbox"),
        ([{"image_id": -1, "category_id": 1, "score": 0.5, "bbox": [0, 0, 1, 1]}], r"image_id \(-1\)"),
        ([{"image_id": True, "category_id": 1, "score": 0.5, "bbox": [0, 0, 1, 1]}], r"image_id \(True\)"),
        ([{"image_id": 1, "category_id": 1, "score": [1], "bbox": [0, 0, 1, 1]}], r"score \(\[1\]\)"),
        ([{"image_id": 1, "category_id": 1, "score": 0.5, "bbox": [[0, 0], [1]]}], "no bbox of four numbers"),
        ([{"image_id": 1, "category_id": 1, "score": 0.5, "segmentation": {"size": [4, 6]}}], "no mask as RLE"),
    ],
)
def test_errors_name_the_faulty_field(entries, complaint):
    with pytest.raises(DataError, match=f"dets.json.*{complaint}"):
        Results.from_list(entries, "dets.json")
