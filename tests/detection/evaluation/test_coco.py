"""COCO's figures are those of pycocotools, called here as its users do, whatever engine and whatever form of input."""

import contextlib
import copy
import io
import json
from pathlib import Path

import numpy as np
import pytest
from coco_scenes import make
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from resdet.detection.evaluation import coco
from resdet.detection.evaluation.results import Results
from resdet.errors import ConfigError, DataError

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


def written(folder: Path, truth: dict, results: list[dict]) -> tuple[Path, Path]:
    paths = folder / "truth.json", folder / "results.json"
    for path, content in zip(paths, (truth, results)):
        path.write_text(json.dumps(content))
    return paths


def one_image(*objects: dict, names=("a", "b")) -> dict:
    """Ground truth of one image of 100×100."""
    defaults = {"image_id": 1, "category_id": 1, "iscrowd": 0}
    return {
        "images": [{"id": 1, "width": 100, "height": 100}],
        "categories": [{"id": k, "name": name} for k, name in enumerate(names, start=1)],
        "annotations": [
            {**defaults, "id": k, "area": thing["bbox"][2] * thing["bbox"][3], **thing}
            for k, thing in enumerate(objects, start=1)
        ],
    }


def found(bbox: list, score: float, category_id: int = 1) -> dict:
    return {"image_id": 1, "category_id": category_id, "bbox": bbox, "score": score}


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(20))
def test_both_engines_are_pycocotools(seed, kind, tmp_path):
    truth, results = make(seed)
    results = [{key: value for key, value in entry.items() if key != OTHER[kind]} for entry in results]
    judge = pycocotools(truth, results, kind)
    files = written(tmp_path, truth, results)
    for engine in ("hotcoco", "pycocotools"):
        agree(coco.match(truth, results, kind, engine), judge)
        agree(coco.match(*files, kind, engine), judge)


def test_the_random_scenes_have_what_is_hard():
    truths, results = zip(*map(make, range(20)))
    objects = [thing for truth in truths for thing in truth["annotations"]]
    assert sum(len(truth["annotations"]) > 5 for truth in truths) >= 15
    assert any(thing["iscrowd"] for thing in objects) and {0.0, 1024.0, 9216.0, 1e10} <= {t["area"] for t in objects}
    assert {type(thing["segmentation"]) for thing in objects} == {list, dict}
    counts = [np.unique([entry["image_id"] for entry in each], return_counts=True)[1].max() for each in results]
    assert max(counts) > 100
    assert all(len({entry["score"] for entry in each}) < len(each) for each in results if len(each) > 30)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_files_without_gaps_are_not_parsed_by_python(kind, tmp_path, monkeypatch):
    truth, results = make(10)
    truth["annotations"] = [thing for thing in truth["annotations"] if min(thing["bbox"][2:]) > 0]
    results = [{key: value for key, value in entry.items() if key != OTHER[kind]} for entry in results]
    for reader in ("ground_truth", "results") if kind == "bbox" else ("results",):  # masks are looked at
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
def test_per_class_is_that_of_the_class_alone(engine):
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


def test_masks_are_judged_by_their_own_area_beside_boxes_too(tmp_path):
    truth, results = make(10)
    alone = [{key: value for key, value in entry.items() if key != "bbox"} for entry in results]
    judge = pycocotools(truth, alone, "segm")
    for engine in ("hotcoco", "pycocotools"):
        agree(coco.match(truth, results, "segm", engine), judge)
        agree(coco.match(*written(tmp_path, truth, results), "segm", engine), judge)
    assert not np.array_equal(pycocotools(truth, results, "segm").eval["precision"], judge.eval["precision"])


def test_boxes_of_masks_where_no_boxes_are_given(tmp_path):
    truth, results = make(3)
    results = [{key: value for key, value in entry.items() if key != "bbox"} for entry in results]
    agree(coco.match(*written(tmp_path, truth, results), "bbox"), pycocotools(truth, results, "bbox"))


@pytest.mark.parametrize("engine", ["hotcoco", "pycocotools"])
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_no_results_are_zeros(engine, kind, tmp_path):
    truth, _ = make(3)
    for annotations, results in ((truth, []), written(tmp_path, truth, [])):
        figures = coco.evaluate(annotations, results, kind, engine)
        assert figures["AP"] == figures["AR100"] == 0
        present = [row for row in figures["per_class"].values() if row["objects"]]
        assert present and all(row["AP"] == 0 for row in present)


@pytest.mark.parametrize("engine", ["hotcoco", "pycocotools"])
def test_what_is_absent_is_none(engine):
    truth = one_image({"bbox": [0, 0, 10, 10]})
    figures = coco.evaluate(truth, [found([0, 0, 10, 10], 0.9), found([0, 0, 10, 10], 0.8, 2)], engine=engine)
    assert figures["AP"] == figures["APs"] == pytest.approx(1) and figures["APm"] is figures["ARl"] is None
    assert figures["per_class"]["b"] == dict.fromkeys(("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")) | {
        "objects": 0
    }
    nothing = coco.evaluate(one_image(), [], engine=engine)
    assert all(nothing[name] is None for name in NAMES)


def test_classes_of_one_name_stay_apart():
    truth = one_image(
        {"bbox": [0, 0, 10, 10]}, {"bbox": [50, 50, 10, 10], "category_id": 2}, names=("bat", "bat", "cat")
    )
    per_class = coco.evaluate(truth, [found([0, 0, 10, 10], 0.9)])["per_class"]
    assert [*per_class] == ["bat (1)", "bat (2)", "cat"]
    assert per_class["bat (1)"]["AP"] == pytest.approx(1) and per_class["bat (2)"]["AP"] == 0


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
def test_bad_results_are_named(key, engine, tmp_path):
    truth, results = make(3)
    results = [{key: value for key, value in entry.items() if key != "segmentation"} for entry in results]
    results[1][key.split()[0]], complaint = BAD_RESULTS[key]
    for inputs in ((truth, results), written(tmp_path, truth, results)):
        with pytest.raises(DataError, match=complaint):
            coco.evaluate(*inputs, engine=engine)
    with pytest.raises(DataError, match="results.json, result 1"):
        coco.evaluate(*written(tmp_path, truth, results), engine=engine)


@pytest.mark.parametrize("key", ["image_id", "category_id", "score", "bbox"])
def test_missing_fields_of_results_are_named(key, tmp_path):
    truth, results = make(3)
    results = [{key: value for key, value in entry.items() if key != "segmentation"} for entry in results]
    del results[2][key]
    for inputs in ((truth, results), written(tmp_path, truth, results)):
        with pytest.raises(DataError, match=f"result 2 has no .*{key}"):
            coco.evaluate(*inputs)


@pytest.mark.parametrize("boxes", [True, False])
@pytest.mark.parametrize("engine", ["hotcoco", "pycocotools"])
def test_bad_masks_are_named(engine, boxes, tmp_path):
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
def test_masks_of_some_and_boxes_of_others_are_refused(engine, tmp_path):
    truth, results = make(3)
    for entry, key in zip(results, ["bbox", "segmentation"] * len(results)):
        del entry[key]
    with pytest.raises(DataError, match="result 0 has no bbox"):
        coco.evaluate(*written(tmp_path, truth, results), engine=engine)


@pytest.mark.parametrize("engine", ["hotcoco", "pycocotools"])
@pytest.mark.parametrize(
    "spoil", [lambda text: text[:-1], lambda text: text + "0", lambda text: "o" * 40, lambda _: ""]
)
def test_damaged_runs_are_named(engine, spoil, tmp_path):
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
def test_bad_ground_truth_is_named(name, engine, tmp_path):
    truth, results = make(3)
    change, complaint = BAD_TRUTH[name]
    change(truth)
    for inputs in ((truth, results), written(tmp_path, truth, results)):
        with pytest.raises(DataError, match=complaint):
            coco.evaluate(*inputs, engine=engine)


@pytest.mark.parametrize("engine", ["hotcoco", "pycocotools"])
def test_masks_need_masks_and_sizes(engine, tmp_path):
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


def test_files_that_are_none(tmp_path):
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


def test_columns_numpy_values_and_parts_are_the_same(tmp_path):
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


def test_curves_of_a_case_done_by_hand():
    """Two objects; found at once, then a false one, then the other: precision 1 up to recall 0.5, then 2/3."""
    truth = one_image({"bbox": [0, 0, 20, 20]}, {"bbox": [50, 50, 20, 20]})
    results = [found([0, 0, 20, 20], 0.9), found([30, 30, 9, 9], 0.8), found([50, 50, 20, 12], 0.7)]
    curves = coco.curves(truth, results)
    assert [*curves] == ["a"] and curves["a"]["recall"][50] == 0.5 and len(curves["a"]["recall"]) == 101
    assert curves["a"]["precision"]["0.5"] == pytest.approx([1] * 51 + [2 / 3] * 50)
    assert curves["a"]["precision"]["0.75"] == pytest.approx([1] * 51 + [0] * 50)  # the last one's IoU is 0.6
    figures = coco.evaluate(truth, results)
    assert np.mean(curves["a"]["precision"]["mean"]) == pytest.approx(figures["AP"])
    assert np.mean(curves["a"]["precision"]["0.5"]) == pytest.approx(figures["AP50"])


def test_the_known_figures():
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not here")
    truth = SHARED / "instances_val2014_100.json"
    for kind, known in (("bbox", (0.505, 0.697, 0.573)), ("segm", (0.320, 0.562, 0.299))):
        for engine in ("hotcoco", "pycocotools"):
            figures = coco.evaluate(truth, SHARED / f"instances_val2014_fake{kind}100_results.json", kind, engine)
            assert tuple(round(figures[name], 3) for name in NAMES[:3]) == known


@pytest.mark.parametrize("extra", [{"area": 5.0}, {"iscrowd": 1}, {"id": 7}, {"ignore": 1}, {"note": "x"}])
def test_what_else_results_carry_changes_nothing(extra, tmp_path):
    truth, results = make(10)
    truth["annotations"] = [thing for thing in truth["annotations"] if min(thing["bbox"][2:]) > 0]
    results = [{key: value for key, value in entry.items() if key != "segmentation"} for entry in results]
    judge = pycocotools(truth, results, "bbox")
    agree(coco.match(*written(tmp_path, truth, [{**entry, **extra} for entry in results])), judge)
