"""Tests reading FiftyOne's export format, in the layout that FiftyOne 1.22 writes."""

import json

import cv2
import numpy as np
import pytest
from detection.formats.samples import (
    FIFTYONE,
    FIFTYONE_MASK,
    FIFTYONE_SHAPES,
    SQUARE,
    TRIANGLE,
    detection,
    fiftyone_metadata,
    fiftyone_sample,
    keypoint,
    objects,
    opened,
    packed,
    polyline,
    write,
)

from resdet.detection.formats.fiftyone_mask import mask_of, rle_of_mask
from resdet.detection.formats.fiftyone_shapes import Instance, declare_keypoints, with_points, with_polygons
from resdet.detection.formats.folder import Folder
from resdet.detection.formats.registry import recognize
from resdet.detection.formats.shapes import mask_of as rle_mask
from resdet.errors import DataError

HALF = [detection("cat", [0.25, 0.25, 0.5, 0.5])]
CAT = [("cat", [15, 10, 45, 30])]


def test_an_export(tmp_path):
    root = write(tmp_path, FIFTYONE)
    layout = recognize(root)
    assert layout.format == "fiftyone" and list(layout.splits) == ["train", "val"]
    source = opened(root)
    assert source.classes == opened(root, "val").classes == ["dog", "cat", "owl"]
    assert objects(source) == {
        "data/a.jpg": [*CAT, ("dog", [4, 3, 8, 6]), ("dog", [4, 3, 12, 9]), ("cat", [10, 20, 14, 23])],
        "data/c.jpg": [],
    }
    assert objects(opened(root, "val")) == {"data/b.jpg": [("owl", [0, 0, 30, 40])]}
    found = source.objects(0)
    assert found.crowd.tolist() == [False, False, False, True] and found.segments[0] is None
    own, enlarged, of_file = (segment.bitmap(40, 60) for segment in found.segments[1:])
    expected = np.zeros((40, 60), bool)
    expected[3:6, 4:8] = FIFTYONE_MASK
    assert np.array_equal(own, expected)
    expected[3:9, 4:12] = FIFTYONE_MASK.repeat(2, 0).repeat(2, 1)
    assert np.array_equal(enlarged, expected)
    assert np.array_equal(of_file[20:23, 10:14], FIFTYONE_MASK) and of_file.sum() == FIFTYONE_MASK.sum()
    assert [sentence.split(": ", 1)[1] for sentence in source.problems] == [
        "left out 1 sample with no filepath of an image: 4 of samples.json",
        "left out 1 object with no label and bounding_box of four numbers: 5 of data/a.jpg",
        "left out 2 objects with a damaged mask: 6 of data/a.jpg, 7 of data/a.jpg",
    ]


def test_the_index_depends_on_the_files_of_masks(tmp_path):
    root = write(tmp_path, FIFTYONE)
    whole = opened(root).objects(0).segments[3].bitmap(40, 60).sum()
    file = root / "fields" / "ground_truth.detections.mask_path" / "a.png"
    cv2.imwrite(str(file), np.ones((3, 4), np.uint8))
    assert opened(root).objects(0).segments[3].bitmap(40, 60).sum() == 12 > whole


def test_names_that_no_file_can_have(tmp_path):
    """An unpaired surrogate and NUL, in samples without a size."""
    samples = [fiftyone_sample(f"data/{name}.jpg", HALF, ["train"], size=None) for name in ("a", "\ud800", "\0")]
    files = {"metadata.json": fiftyone_metadata("ground_truth"), "samples.json": {"samples": samples}}
    source = opened(write(tmp_path, {"data/a.jpg": None} | files))
    assert len(source) + len(opened(tmp_path, "val")) == 1
    assert "left out 2 samples with no filepath of an image: 2 of samples.json, 3 of samples.json" in source.problems[0]


@pytest.mark.parametrize("form", ["lines", "files", "folders"])
def test_other_layouts(form, tmp_path):
    """Reads one line per sample, one file per sample, and one export per split."""
    samples = {split: fiftyone_sample(f"data/{split}.jpg", HALF, [split]) for split in ("train", "val")}
    files = {f"data/{split}.jpg": None for split in samples} | {"metadata.json": fiftyone_metadata("found")}
    for sample in samples.values():
        sample["found"] = sample.pop("ground_truth")
    if form == "lines":
        lines = "\n".join([*map(json.dumps, samples.values()), "{broken", ""])
        files["samples.jsonl"] = lines
    elif form == "files":
        files |= {f"samples/000001-{split}.json": sample for split, sample in samples.items()}
    else:
        files = {}
        for split, sample in samples.items():
            sample["tags"] = []
            files |= {f"{split}/data/{split}.jpg": None, f"{split}/metadata.json": fiftyone_metadata("found")}
            files[f"{split}/samples.json"] = {"samples": [sample]}
    root = write(tmp_path, files)
    assert list(recognize(root).splits) == ["train", "val"]
    for split in samples:
        source = opened(root, split)
        assert list(objects(source).values()) == [CAT] and source.files[0].endswith(f"data/{split}.jpg")
    broken = [sentence.partition(": ")[2] for sentence in opened(root).problems]
    assert broken == (["left out 1 sample with no filepath of an image: 3 of samples.jsonl"] if form == "lines" else [])


def test_images_in_another_folder(tmp_path):
    """Exports of labels have paths of another machine; folder names in these do not define splits."""
    sample = fiftyone_sample("/home/test/pictures/a.jpg", HALF)
    files = {"pictures/a.jpg": None, "metadata.json": fiftyone_metadata("ground_truth")}
    root = write(tmp_path, files | {"samples.json": {"samples": [sample]}})
    layout = recognize(root)
    assert list(layout.splits) == ["train"] and layout.annotated == 1
    assert objects(opened(root, val_share=0.1)) == {"pictures/a.jpg": CAT}


def test_ambiguous_and_missing_fields_are_refused(tmp_path):
    files = {"data/a.jpg": None, "samples.json": {"samples": [fiftyone_sample("data/a.jpg", HALF)]}}
    root = write(tmp_path, {**files, "metadata.json": fiftyone_metadata("first", "second")})
    with pytest.raises(DataError, match="metadata.json has the fields first, second of Detections: name one ground"):
        recognize(root)
    write(root, {"metadata.json": fiftyone_metadata()})
    with pytest.raises(DataError, match="fiftyone: metadata.json has no field of Detections"):
        recognize(root, "fiftyone")


def test_damaged_masks(tmp_path):
    folder = Folder(write(tmp_path, {"a.jpg": None}))
    whole = packed(FIFTYONE_MASK)["$binary"]["base64"]
    text = {"mask": whole}
    assert np.array_equal(mask_of(text, folder, ""), FIFTYONE_MASK)  # format of an older release
    assert np.array_equal(mask_of({"mask": packed(np.asfortranarray(FIFTYONE_MASK))}, folder, ""), FIFTYONE_MASK)
    for mask in (whole[:-8], "é", 7, [], {}, {"$binary": 3}, packed(np.ones(3)), packed(np.ones((2, 2)))):
        assert mask_of({"mask": mask}, folder, "") is None
    assert mask_of({"mask_path": "none.png"}, folder, "") is None
    for box in ((-1, 0, 5, 5), (58, 0, 62, 5), (0, 0, float("nan"), 5), (0, 38, 5, 42)):
        assert rle_of_mask(np.ones((5, 5)), box, (60, 40)) is None
    assert rle_of_mask(np.zeros((5, 5)), (0, 0, 5, 5), (60, 40)) is None


def test_polylines_and_keypoints_are_matched_to_detections(tmp_path):
    """Matches by instance, or by label and box; polylines and keypoints without a match become separate objects."""
    source = opened(write(tmp_path, FIFTYONE_SHAPES))
    assert objects(source) == {
        "data/a.jpg": [
            ("cat", [15, 10, 45, 30]),
            ("dog", [15, 10, 45, 30]),
            ("cat", [0, 0, 60, 40]),
            ("cat", [2, 2, 45, 30]),
            ("owl", [2, 2, 8, 8]),
            ("dog", [1, 2, 5, 7]),
        ]
    }
    found = source.objects(0)
    rings = [segment and [ring.round(3).tolist() for ring in segment.rings] for segment in found.segments]
    triangle, square = ([list(point) for point in shape] for shape in (TRIANGLE, SQUARE))
    assert rings == [[triangle], [square], None, [triangle, square], [square], None]
    points = found.keypoints.points
    assert points[0].round(3).tolist() == [[20.5, 15.5, 2], [30.5, 20.5, 2], [0, 0, 0]]
    assert points[2].round(3).tolist() == [[1.5, 1.5, 2], [50.5, 39.5, 2], [30.5, 20.5, 2]]
    assert points[5].round(3).tolist() == [[1.5, 2.5, 2], [3.5, 4.5, 2], [5.5, 7.5, 2]]
    assert not points[[1, 3, 4]].any()
    assert source.keypoints.names == ["nose", "left_ear", "right_ear"] and source.keypoints.skeleton == [(1, 0), (0, 2)]
    assert source.mirror.tolist() == [0, 2, 1]
    assert [sentence.split(": ", 1)[1] for sentence in source.problems] == [
        "left out 2 polylines with no area: it is not filled and closed: 5 of data/a.jpg, 6 of data/a.jpg",
        "left out 2 polylines with no label and lists of points: 7 of data/a.jpg, 8 of data/a.jpg",
        "left out 1 keypoint with no point that is there: 5 of data/a.jpg",
        "left out 1 keypoint with no label and list of points: 6 of data/a.jpg",
        "left out 1 keypoint with another number of points than the skeleton or most others: 4 of data/a.jpg",
    ]


def test_fields_of_polylines_or_keypoints_without_detections(tmp_path):
    """Checks that points without a skeleton are named by number and that fields of predictions are ignored."""
    poses = {
        "keypoints": [
            keypoint("cat", (5, 5), (9, 8)),
            keypoint("owl", (1, 2), (3, 4), (5, 6)),
            keypoint("cat", (1, 2), (3, 4)),
        ]
    }
    sample = fiftyone_sample("data/a.jpg", None, ["train"], poses=poses) | {
        "predicted": {"polylines": [polyline("dog", SQUARE)]}
    }
    other = fiftyone_sample("data/b.jpg", None, ["val"])
    files = {"data/a.jpg": None, "data/b.jpg": None, "samples.json": {"samples": [sample, other]}}
    root = write(
        tmp_path / "poses", {**files, "metadata.json": fiftyone_metadata(polylines="predicted", keypoints="poses")}
    )
    source = opened(root)
    assert objects(source) == {"data/a.jpg": [("cat", [5, 5, 9, 8]), ("cat", [1, 2, 3, 4])]}
    assert source.keypoints.names == ["point_1", "point_2"] and "1 keypoint with another number" in source.problems[0]
    assert not opened(root, keypoints=False).has_keypoints
    shapes = {"ground_truth": {"polylines": [polyline("dog", SQUARE)]}}
    files["samples.json"] = {"samples": [sample | shapes, other]}
    files["metadata.json"] = fiftyone_metadata(polylines="ground_truth")
    assert objects(opened(write(tmp_path / "shapes", files))) == {"data/a.jpg": [("dog", [2, 2, 8, 8])]}


def test_invalid_keypoint_names_are_replaced_by_numbers(tmp_path):
    """Tests an unpaired surrogate, which cannot be encoded in UTF-8."""
    skeleton = {"labels": ["\ud800", "b"], "edges": []}
    metadata = fiftyone_metadata(keypoints="poses", skeletons={"poses": skeleton})
    sample = fiftyone_sample("data/a.jpg", None, poses={"keypoints": [keypoint("cat", (5, 5), (9, 8))]})
    files = {"data/a.jpg": None, "metadata.json": metadata, "samples.json": {"samples": [sample]}}
    assert opened(write(tmp_path, files), val_share=0.1).keypoints.names == ["point_1", "point_2"]


def test_fields_without_a_list_of_labels_are_reported(tmp_path):
    problems = opened(write(tmp_path, FIFTYONE_SHAPES), "val").problems
    assert [problem.split(": ", 1)[1] for problem in problems] == [
        "left out 1 sample with a field shapes without a list of polylines: data/b.jpg"
    ]


@pytest.mark.parametrize("box, pixels", [((3.6, 2.6, 7.4, 5.4), (4, 3, 7, 5)), ((3.6, 2.6, 3.9, 2.9), (4, 3, 5, 4))])
def test_masks_cover_their_box_rounded_to_pixels(box, pixels):
    left, top, right, bottom = pixels
    mask = rle_mask(rle_of_mask(np.ones((1, 1), bool), box, (60, 40)), (60, 40))
    assert mask[top:bottom, left:right].all() and mask.sum() == (right - left) * (bottom - top)


def test_objects_for_polygons_and_keypoints():
    """Polygons belong to a box of IoU 0.75 or more, keypoints to one around them up to a pixel."""
    objects = [Instance("cat", (0.0, 0.0, 10.0, 10.0), "a", {}), Instance("cat", (0.0, 0.0, 50.0, 40.0), "b", {})]
    assert with_polygons(objects, "cat", (0.0, 0.0, 10.0, 8.0), None) is objects[0]
    assert with_polygons(objects, "cat", (0.0, 0.0, 10.0, 7.0), None) is None
    assert with_points(objects, "cat", [(0, 0), (11, 11)], None) is objects[0]
    assert with_points(objects, "cat", [(0, 0), (11.5, 5)], None) is objects[1]
    assert with_points(objects, "cat", [(2, 2), (5, 5)], "b") is objects[1]


def test_edges_to_keypoints_that_do_not_exist_are_left_out():
    content = {
        "annotations": [{"category_id": 1, "keypoints": [1, 2, 2] * 2}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    declare_keypoints(content, [], [[0, 1, 2]])
    assert content["categories"][0]["skeleton"] == [[1, 2]]


def test_tags_of_splits_in_upper_case(tmp_path):
    samples = [fiftyone_sample(f"{name}.jpg", HALF, [tag]) for name, tag in (("a", "Train"), ("b", "VALIDATION"))]
    files = {"a.jpg": None, "b.jpg": None, "metadata.json": fiftyone_metadata("ground_truth")}
    root = write(tmp_path, files | {"samples.json": {"samples": samples}})
    assert list(recognize(root).splits) == ["train", "val"]
    assert objects(opened(root)) == {"a.jpg": CAT} and objects(opened(root, "val")) == {"b.jpg": CAT}
