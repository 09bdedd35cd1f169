"""COCO's metrics with both engines and every form of input, compared with pycocotools."""

import contextlib
import copy
import io
import weakref
from pathlib import Path

import numpy as np
import pytest
from coco_scenes import found, make, one_image, written
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from resdet.detection.evaluation import coco
from resdet.detection.evaluation.results import Results

SHARED = Path(__file__).parents[4] / "shared" / "data" / "coco_val2014_100"
NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
OTHER = {"bbox": "segmentation", "segm": "bbox"}


def pycocotools(truth: dict, results: list[dict], kind: str, max_detections=(1, 10, 100)) -> COCOeval:
    with contextlib.redirect_stdout(io.StringIO()):
        there = COCO()
        there.dataset = {"info": {}, **copy.deepcopy(truth)}
        there.createIndex()
        judge = COCOeval(there, there.loadRes(copy.deepcopy(results)), kind)
        judge.params.maxDets = list(max_detections)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge


def agree(evaluation: coco.Evaluation, judge: COCOeval) -> None:
    for name in ("precision", "recall", "scores"):
        np.testing.assert_allclose(getattr(evaluation.arrays, name), judge.eval[name], rtol=0, atol=1e-9)
    figures = evaluation.summary()
    expected = [None if value == -1 else pytest.approx(value, abs=1e-9) for value in judge.stats]
    assert [figures[name] for name in NAMES] == expected


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(20))
def test_both_engines_equal_pycocotools(seed, kind, tmp_path):
    truth, results = make(seed)
    results = [{key: value for key, value in entry.items() if key != OTHER[kind]} for entry in results]
    judge = pycocotools(truth, results, kind)
    files = written(tmp_path, truth, results)
    for engine in ("hotcoco", "pycocotools"):
        agree(coco.match(truth, results, kind, engine), judge)
        agree(coco.match(*files, kind, engine), judge)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(20))
def test_parts_in_any_order_equal_a_single_evaluation(seed, kind):
    truth, entries = make(seed)
    results = Results.from_list(entries)
    rng = np.random.default_rng(seed)
    images = rng.permutation([image["id"] for image in truth["images"]])
    groups = np.array_split(images, rng.integers(1, 5))
    evaluation = coco.match_parts(truth, (results.where(np.isin(results.image_ids, group)) for group in groups), kind)
    whole = coco.match(truth, results, kind)
    assert (evaluation.arrays.classes, evaluation.arrays.objects) == (whole.arrays.classes, whole.arrays.objects)
    for name in ("precision", "recall", "scores"):
        np.testing.assert_array_equal(getattr(evaluation.arrays, name), getattr(whole.arrays, name))


def test_matched_parts_are_dropped():
    truth, entries = make(0)
    results, alive = Results.from_list(entries), []

    def part_of(row: int) -> Results:
        part = results.where(np.arange(len(results)) == row)
        part.image_ids[:] = truth["images"][row]["id"]
        alive.append(weakref.ref(part))
        return part

    def parts():
        for row in range(len(truth["images"])):
            assert not any(part() for part in alive[:-1])
            yield part_of(row)

    coco.match_parts(truth, parts())
    assert len(alive) > 2


def test_random_scenes_contain_the_hard_cases():
    truths, results = zip(*map(make, range(20)))
    objects = [thing for truth in truths for thing in truth["annotations"]]
    assert sum(len(truth["annotations"]) > 5 for truth in truths) >= 15
    assert any(thing["iscrowd"] for thing in objects) and {0.0, 1024.0, 9216.0, 1e10} <= {t["area"] for t in objects}
    assert {type(thing["segmentation"]) for thing in objects} == {list, dict}
    counts = [np.unique([entry["image_id"] for entry in each], return_counts=True)[1].max() for each in results]
    assert max(counts) > 100
    assert all(len({entry["score"] for entry in each}) < len(each) for each in results if len(each) > 30)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_complete_files_are_not_parsed_by_python(kind, tmp_path, monkeypatch):
    truth, results = make(10)
    truth["annotations"] = [thing for thing in truth["annotations"] if min(thing["bbox"][2:]) > 0]
    results = [{key: value for key, value in entry.items() if key != OTHER[kind]} for entry in results]
    for reader in ("ground_truth", "results") if kind == "bbox" else ("results",):  # masks are validated in Python
        monkeypatch.setattr(f"resdet.detection.evaluation.{reader}.read_json", None)
    files = written(tmp_path, truth, results)
    agree(coco.match(*files, kind), pycocotools(truth, results, kind))
    with pytest.raises(TypeError, match="NoneType"):
        coco.match(*files, kind, "pycocotools")


@pytest.mark.parametrize("engine", ["hotcoco", "pycocotools"])
def test_other_limits_of_detections(engine):
    truth, results = make(10)
    evaluation = coco.match(truth, results, "bbox", engine, (1, 5, 20))
    judge = pycocotools(truth, results, "bbox", (1, 5, 20))
    np.testing.assert_allclose(evaluation.arrays.precision, judge.eval["precision"], atol=1e-9)
    assert {"AR1", "AR5", "AR20"} <= evaluation.summary().keys()
    assert "AR20" in evaluation.summary()["per_class"]["class 0"]


@pytest.mark.parametrize("engine", ["hotcoco", "pycocotools"])
def test_per_class_metrics_equal_evaluation_of_the_class_alone(engine):
    truth, results = make(3)
    for category in truth["categories"]:
        own = [
            [each for each in some if each["category_id"] == category["id"]] for some in (truth["annotations"], results)
        ]
        figures = coco.evaluate(truth, results, "bbox", engine)["per_class"][category["name"]]
        assert figures["objects"] == sum(not thing["iscrowd"] for thing in own[0])
        if not own[1]:
            continue
        stats = pycocotools({**truth, "categories": [category], "annotations": own[0]}, own[1], "bbox").stats
        for name in ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100"):
            expected = stats[NAMES.index(name)]
            assert figures[name] == (None if expected == -1 else pytest.approx(expected, abs=1e-9))


def test_masks_are_evaluated_by_mask_area_even_with_boxes(tmp_path):
    truth, results = make(10)
    alone = [{key: value for key, value in entry.items() if key != "bbox"} for entry in results]
    judge = pycocotools(truth, alone, "segm")
    for engine in ("hotcoco", "pycocotools"):
        agree(coco.match(truth, results, "segm", engine), judge)
        agree(coco.match(*written(tmp_path, truth, results), "segm", engine), judge)
    assert not np.array_equal(pycocotools(truth, results, "segm").eval["precision"], judge.eval["precision"])


def test_missing_boxes_are_computed_from_masks(tmp_path):
    truth, results = make(3)
    results = [{key: value for key, value in entry.items() if key != "bbox"} for entry in results]
    agree(coco.match(*written(tmp_path, truth, results), "bbox"), pycocotools(truth, results, "bbox"))


@pytest.mark.parametrize("engine", ["hotcoco", "pycocotools"])
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_no_results_give_zeros(engine, kind, tmp_path):
    truth, _ = make(3)
    for annotations, results in ((truth, []), written(tmp_path, truth, [])):
        figures = coco.evaluate(annotations, results, kind, engine)
        assert figures["AP"] == figures["AR100"] == 0
        present = [row for row in figures["per_class"].values() if row["objects"]]
        assert present and all(row["AP"] == 0 for row in present)


@pytest.mark.parametrize("engine", ["hotcoco", "pycocotools"])
def test_metrics_without_objects_are_none(engine):
    truth = one_image({"bbox": [0, 0, 10, 10]})
    figures = coco.evaluate(truth, [found([0, 0, 10, 10], 0.9), found([0, 0, 10, 10], 0.8, 2)], engine=engine)
    assert figures["AP"] == figures["APs"] == pytest.approx(1) and figures["APm"] is figures["ARl"] is None
    assert figures["per_class"]["b"] == dict.fromkeys(("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")) | {
        "objects": 0
    }
    nothing = coco.evaluate(one_image(), [], engine=engine)
    assert all(nothing[name] is None for name in NAMES)


def test_classes_of_the_same_name_stay_apart():
    truth = one_image(
        {"bbox": [0, 0, 10, 10]}, {"bbox": [50, 50, 10, 10], "category_id": 2}, names=("bat", "bat", "cat")
    )
    per_class = coco.evaluate(truth, [found([0, 0, 10, 10], 0.9)])["per_class"]
    assert [*per_class] == ["bat (1)", "bat (2)", "cat"]
    assert per_class["bat (1)"]["AP"] == pytest.approx(1) and per_class["bat (2)"]["AP"] == 0


def test_classes_with_the_name_of_another_and_its_id_stay_apart():
    names = ("bat", "bat", "bat (2)", "cat")
    per_class = coco.evaluate(one_image({"bbox": [0, 0, 10, 10]}, names=names), [])["per_class"]
    assert [*per_class] == ["bat (1)", "bat (2) (2)", "bat (2) (3)", "cat"]


def spoil(truth: dict, gap: str) -> dict:
    truth = copy.deepcopy(truth)
    for number, thing in enumerate(truth["annotations"]):
        if gap == "id from 0":
            thing["id"] = number
        elif gap == "ids twice":
            thing["id"] = 1 + number // 2
        elif gap == "null area":
            thing["area"] = None
        elif gap != "strangers":
            thing.pop(gap)
    if gap == "strangers":
        truth["annotations"] += [{**truth["annotations"][0], "id": 901, "image_id": 999}]
        truth["annotations"] += [{**truth["annotations"][0], "id": 902, "category_id": 999}]
    return truth


@pytest.mark.parametrize("gap", ["id", "id from 0", "ids twice", "area", "null area", "iscrowd", "strangers"])
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_gaps_in_the_ground_truth_are_filled(gap, kind, tmp_path):
    truth, results = make(8)
    for thing in truth["annotations"]:
        thing |= {"iscrowd": 0, "area": thing["bbox"][2] * thing["bbox"][3]}
    results = [{key: value for key, value in entry.items() if key != OTHER[kind]} for entry in results]
    judge = pycocotools(truth, results, kind)
    spoilt = spoil(truth, gap)
    before = copy.deepcopy(spoilt)
    for engine in ("hotcoco", "pycocotools"):
        agree(coco.match(spoilt, results, kind, engine), judge)
        agree(coco.match(*written(tmp_path, spoilt, results), kind, engine), judge)
    assert spoilt == before
    objects = sum(row["objects"] for row in coco.evaluate(spoilt, results, kind)["per_class"].values())
    assert objects == len(truth["annotations"])


def test_columns_numpy_values_and_parts_give_the_same_metrics(tmp_path):
    truth, results = make(10)
    expected = coco.evaluate(truth, results)
    numpy = [
        {
            **entry,
            "image_id": np.int64(entry["image_id"]),
            "score": np.float64(entry["score"]),
            "bbox": np.array(entry["bbox"]),
        }
        for entry in results
    ]
    columns = Results.from_list(results)
    images = np.unique(columns.image_ids)
    share = lambda rank: Results.from_list([entry for entry in results if entry["image_id"] in images[rank::2]])
    columns.save(tmp_path / "saved.json")
    for same in (numpy, columns, Results.concatenate([share(1), share(0)]), tmp_path / "saved.json"):
        for kind in ("bbox", "segm"):
            assert coco.evaluate(truth, same, kind) == (
                expected if kind == "bbox" else coco.evaluate(truth, results, kind)
            )


def test_curves_by_hand():
    """A true, a false and a true positive for two objects: precision 1 up to recall 0.5, then 2/3."""
    truth = one_image({"bbox": [0, 0, 20, 20]}, {"bbox": [50, 50, 20, 20]})
    results = [found([0, 0, 20, 20], 0.9), found([30, 30, 9, 9], 0.8), found([50, 50, 20, 14.5], 0.7)]
    curves = coco.curves(truth, results)
    assert [*curves] == ["a"] and curves["a"]["recall"][50] == 0.5 and len(curves["a"]["recall"]) == 101
    assert curves["a"]["precision"]["0.5"] == pytest.approx([1] * 51 + [2 / 3] * 50)
    # The third result has an IoU of 0.725.
    assert curves["a"]["precision"]["0.75"] == pytest.approx([1] * 51 + [0] * 50)
    figures = coco.evaluate(truth, results)
    assert np.mean(curves["a"]["precision"]["mean"]) == pytest.approx(figures["AP"])
    assert np.mean(curves["a"]["precision"]["0.5"]) == pytest.approx(figures["AP50"])


def test_known_metrics_of_100_coco_images():
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not here")
    truth = SHARED / "instances_val2014_100.json"
    for kind, known in (("bbox", (0.505, 0.697, 0.573)), ("segm", (0.320, 0.562, 0.299))):
        for engine in ("hotcoco", "pycocotools"):
            figures = coco.evaluate(truth, SHARED / f"instances_val2014_fake{kind}100_results.json", kind, engine)
            assert tuple(round(figures[name], 3) for name in NAMES[:3]) == known


@pytest.mark.parametrize("extra", [{"area": 5.0}, {"iscrowd": 1}, {"id": 7}, {"ignore": 1}, {"note": "x"}])
def test_extra_fields_of_results_are_ignored(extra, tmp_path):
    truth, results = make(10)
    truth["annotations"] = [thing for thing in truth["annotations"] if min(thing["bbox"][2:]) > 0]
    results = [{key: value for key, value in entry.items() if key != "segmentation"} for entry in results]
    judge = pycocotools(truth, results, "bbox")
    agree(coco.match(*written(tmp_path, truth, [{**entry, **extra} for entry in results])), judge)
