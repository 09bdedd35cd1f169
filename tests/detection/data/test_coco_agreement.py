"""Training and evaluation read COCO files alike: both engines refuse the entries that training leaves out."""

import copy
import json
from contextlib import nullcontext

import numpy as np
import pytest

from resdet.detection.data.coco import open_coco
from resdet.detection.evaluation import coco, ground_truth
from resdet.detection.evaluation.metrics import truth_of
from resdet.detection.evaluation.results import Results
from resdet.errors import DataError

HUGE = 10**400
RING = [2.5, 3, 20, 3, 20, 18, 2.5, 18]


def content() -> dict:
    images = [{"id": k, "file_name": f"{k}.png", "width": 40, "height": 30} for k in (1, 2)]
    return {
        "images": images,
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [
            {
                "id": k,
                "image_id": 1 + k % 2,
                "category_id": 1 + k // 2 % 2,
                "bbox": [2.5, 3, 17.5, 15],
                "area": 100.5,
                "iscrowd": 0,
                "segmentation": [RING] if k % 2 else {"size": [30, 40], "counts": [100, 20, 1080]},
            }
            for k in range(1, 5)
        ],
    }


def annotation(**values):
    return lambda data: data["annotations"][1].update(values)


def image(**values):
    return lambda data: data["images"][0].update(values)


def category(**values):
    return lambda data: data["categories"][0].update(values)


def runs(counts, size=(30, 40)):
    return annotation(segmentation={"size": size if isinstance(size, int) else list(size), "counts": counts})


# Evaluation refuses these for boxes and masks: training must leave them out.
UNUSABLE = {
    **{f"image_id {value!r:.20}": annotation(image_id=value) for value in ("1", [1], -1, 1.5, True, HUGE, None, {})},
    **{f"category_id {value!r:.20}": annotation(category_id=value) for value in ("1", [1], -1, HUGE, None)},
    **{f"bbox {value!r:.20}": annotation(bbox=value) for value in ([1, 2, 3], [[1, 2, 3, 4]], [1, 2, 3, HUGE], "1234")},
    **{f"bbox with {value!r:.20}": annotation(bbox=[1, 2, 3, value]) for value in (float("nan"), -1, True, "4", None)},
    **{
        f"area {value!r:.20}": annotation(area=value)
        for value in ("12", [1], float("nan"), float("inf"), -1, True, HUGE)
    },
    **{f"iscrowd {value!r:.20}": annotation(iscrowd=value) for value in (2, -1, "1", [0], 0.5, HUGE, float("nan"))},
    "two images of an id": lambda data: data["images"].append(data["images"][0]),
    **{f"image id {value!r:.20}": image(id=value) for value in ("1", [1], -1, None, HUGE, 1.5)},
    "an annotation that is none": lambda data: data["annotations"].append(7),
    "an image that is none": lambda data: data["images"].append([1]),
}
# Evaluation refuses these for masks.
UNUSABLE_MASKS = {
    **{
        f"polygon to {value!r:.20}": annotation(segmentation=[[*RING[:-1], value]]) for value in (4e8, 1e8, -1e8, 1e300)
    },
    **{
        f"polygon with {value!r:.20}": annotation(segmentation=[[*RING[:-1], value]])
        for value in (float("nan"), float("inf"), HUGE, "1", None, True, [1])
    },
    **{
        f"segmentation {value!r:.20}": annotation(segmentation=value)
        for value in ("abc", 5, RING, [[1, 2, 3]], [[1, 2]])
    },
    **{f"counts {value!r:.20}": runs(value) for value in ("ooo", "", "é", "\ud800", [1200.5], [5], [-5, 1205], [HUGE])},
    "no counts": annotation(segmentation={"size": [30, 40]}),
    **{f"size {value}": runs([100, 20, 1080], value) for value in ((40, 30), (30,), (30, 40, 1), 5, ("30", "40"))},
}
# Evaluation fills these gaps, or refuses them for masks alone.
GAPS = {
    **{f"id {value!r:.20}": annotation(id=value) for value in ([1], -1, "1", None, HUGE, 1, 1.0, True)},
    "no area": lambda data: data["annotations"][1].pop("area"),
    "null area": annotation(area=None),
    "null iscrowd": annotation(iscrowd=None),
    "true iscrowd": annotation(iscrowd=True),
    "unknown image": annotation(image_id=99),
    "unknown category": annotation(category_id=99),
    "no segmentation": lambda data: data["annotations"][1].pop("segmentation"),
    "empty segmentation": annotation(segmentation=[]),
    "null segmentation": annotation(segmentation=None),
    "two points beside a ring": annotation(segmentation=[[1, 1, 5, 5], RING]),
    "no points beside a ring": annotation(segmentation=[[], RING]),
    "no box area": annotation(bbox=[5, 5, 0, 3]),
    "outside": annotation(bbox=[50, 5, 3, 3]),
    "no size": lambda data: [data["images"][0].pop(key) for key in ("width", "height")],
    **{f"width {value!r:.20}": image(width=value) for value in (0, -1, "40", 2.5, None, HUGE, 10**9, True, [1])},
    **{f"file_name {value!r:.20}": image(file_name=value) for value in ("a\0b", "\ud800", None, 5, "")},
    "odd coco_url": image(file_name=None, coco_url="http://[a/b"),
    "deep": annotation(more=eval("[" * 90 + "]" * 90)),
    "huge": annotation(more=HUGE),
    "surrogate": annotation(more="\ud800"),
}
BAD_CATEGORIES = {
    **{f"name {value!r:.20}": category(name=value) for value in (5, None, ["a"], "\ud800", {})},
    **{f"category id {value!r:.20}": category(id=value) for value in ("1", [1], -1, None, HUGE, 2)},
    "a category that is none": lambda data: data["categories"].append("c"),
    "a category twice": lambda data: data["categories"].append(data["categories"][0]),
}
NOTHING = Results([], [], [], [], [])
ENGINES = ("hotcoco", "pycocotools")


@pytest.fixture
def write(tmp_path):
    def write(spoil):
        data = copy.deepcopy(content())
        spoil(data)
        (tmp_path / "gt.json").write_text(json.dumps(data))
        return tmp_path / "gt.json"

    return write


def judged(truth, kind) -> list:
    """Returns each engine's metrics, or its error message."""
    outcomes = []
    for engine in ENGINES:
        try:
            outcomes.append(coco.evaluate(truth, NOTHING, kind, engine))
        except DataError as error:
            outcomes.append(str(error))
    return outcomes


@pytest.mark.parametrize("damage", UNUSABLE | UNUSABLE_MASKS | GAPS)
def test_annotations_kept_by_training_can_be_evaluated(write, tmp_path, damage):
    spoil = (UNUSABLE | UNUSABLE_MASKS | GAPS)[damage]
    file = write(spoil)
    source = open_coco(file, tmp_path)
    assert source.problems or damage in GAPS
    for kind in ("bbox", "segm"):
        fast, reference = judged(truth_of(source, (), kind), kind)
        assert isinstance(fast, dict) and fast == reference, kind
    with pytest.raises(DataError) if source.problems else nullcontext():
        open_coco(file, tmp_path, "error")


def test_an_area_that_overflows_can_be_evaluated(write, tmp_path):
    source = open_coco(write(annotation(area=None, bbox=[2, 3, 10, 1e308])), tmp_path)
    read = ground_truth.read(truth_of(source, (), "bbox"))
    assert ground_truth.read(read) == read


@pytest.mark.parametrize("damage", UNUSABLE | UNUSABLE_MASKS | GAPS | BAD_CATEGORIES)
def test_engines_refuse_the_same_files(write, damage):
    file = write((UNUSABLE | UNUSABLE_MASKS | GAPS | BAD_CATEGORIES)[damage])
    for kind in ("bbox", "segm"):
        fast, reference = judged(file, kind)
        assert fast == reference, kind
        refused = damage in UNUSABLE or damage in BAD_CATEGORIES or (kind == "segm" and damage in UNUSABLE_MASKS)
        assert not refused or (isinstance(fast, str) and str(file) in fast and "\n" not in fast and fast.isascii())
        assert isinstance(fast, dict) or len(fast) < 400 + len(str(file))


@pytest.mark.parametrize("damage", BAD_CATEGORIES)
@pytest.mark.parametrize("on_bad", ["error", "skip"])
def test_invalid_categories_are_an_error(write, tmp_path, damage, on_bad):
    with pytest.raises(DataError, match="gt.json, category"):
        open_coco(write(BAD_CATEGORIES[damage]), tmp_path, on_bad)


def test_evaluation_uses_measured_image_sizes(write, tmp_path):
    import cv2

    for k in (1, 2):
        cv2.imwrite(str(tmp_path / f"{k}.png"), np.zeros((30, 40, 3), np.uint8))
    source = open_coco(write(GAPS["no size"]), tmp_path, "error")
    assert not source.intact and len(source) == 2
    fast, reference = judged(truth_of(source, (), "segm"), "segm")
    assert fast == reference


def test_mask_ap_leaves_out_objects_without_masks(write, tmp_path):
    source = open_coco(write(GAPS["no segmentation"]), tmp_path, "error")
    assert len(source.maskless()) == 1
    assert source.maskless_note() == f"{tmp_path}/gt.json: mask AP leaves out 1 object without a mask: 2"
    objects = lambda kind: sum(
        row["objects"] for row in coco.evaluate(truth_of(source, (), kind), NOTHING, kind)["per_class"].values()
    )
    assert (objects("bbox"), objects("segm")) == (4, 3)
