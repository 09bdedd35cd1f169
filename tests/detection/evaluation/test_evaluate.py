"""Evaluation of a detector on a data set, compared with its predictions and with hand-computed metrics."""

import contextlib
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tasks import runs

from resdet import config
from resdet.data.loader import Notes
from resdet.detection.build import build_detector
from resdet.detection.config import DetectionEvalConfig
from resdet.detection.data.coco import open_coco
from resdet.detection.evaluation import evaluate
from resdet.detection.evaluation.category_map import CategoryMap
from resdet.detection.evaluation.command import print_metrics
from resdet.detection.evaluation.evaluate import (
    DatasetDetections,
    detect_all,
    detect_one_by_one,
    empty,
    evaluation_batches_of,
    gather_results,
    to_results,
    unread,
)
from resdet.detection.evaluation.evaluate import detect as detect_models
from resdet.detection.evaluation.metrics import headline_metrics
from resdet.detection.evaluation.protocols import evaluators
from resdet.detection.evaluation.results import Results
from resdet.detection.evaluation.validation_loss import LossSums
from resdet.detection.training import DetectionTraining
from resdet.engine.distributed import World
from resdet.errors import ConfigError, DataError
from resdet.results.result import Result

pytestmark = pytest.mark.usefixtures("narrow")

WORLD = World(0, 1, torch.device("cpu"))
ONE_CLASS = CategoryMap([0], np.array([7]), np.array([True]), None)
COCO, BOTH = DetectionEvalConfig(), ["bbox", "segm"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return runs.scenes(tmp_path_factory.mktemp("data") / "scenes")


@pytest.fixture(scope="module")
def source(root):
    return open_coco(root / "annotations/val.json", root / "val")


def detector(root, source, *overrides):
    torch.manual_seed(0)
    experiment = config.load("shapes_mask_r18_fpn.yaml", *runs.of(root)[2:], *overrides)
    return experiment, build_detector(experiment, source.classes, source.category_ids).eval()


def judge(root, source, *overrides, score=None):
    experiment, model = detector(root, source, *overrides)
    batches = evaluation_batches_of(source, experiment, model, WORLD, Notes(print))
    return model, detect_all(model, source, CategoryMap.of(model, source), batches, score)


def truth_as_results(root, keep=lambda entry: not entry["iscrowd"]):
    """Returns the annotations as detections of score 1, with RLE masks."""
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        annotations = COCO(str(root / "annotations/val.json"))
    entries = [entry for entry in annotations.dataset["annotations"] if keep(entry)]
    rows = [
        {
            **{key: entry[key] for key in ("image_id", "category_id", "bbox")},
            "segmentation": annotations.annToRLE(entry),
        }
        for entry in entries
    ]
    return Results.from_list([{**row, "score": 1.0} for row in rows])


@pytest.mark.parametrize("masks", [False, True])
def test_a_perfect_detector(root, source, masks):
    found = headline_metrics(COCO, source, truth_as_results(root), BOTH if masks else ["bbox"])
    prefixes = ["", "mask_"] if masks else [""]
    assert found == pytest.approx(
        {f"{p}{name}": 1.0 for p in prefixes for name in ("AP", "AP50", "AP75", "APs", "AR100")}
    )


@pytest.mark.parametrize("metric", ["voc07", "voc_area", "ilsvrc_det"])
def test_a_perfect_detector_by_other_rules(root, source, metric):
    found = truth_as_results(root) if metric != "ilsvrc_det" else truth_as_results(root, lambda entry: True)
    assert headline_metrics(DetectionEvalConfig(metric=metric), source, found, ["bbox"]) == {
        "mAP": pytest.approx(1.0)
    }  # ILSVRC has no crowds


def test_metrics_of_a_registered_evaluator_are_logged_as_floats(root, source, monkeypatch):
    metrics = {"mAP": np.float32(0.25), "found": 3, "boxes": np.int64(7), "none": None, "per_class": {}}
    monkeypatch.setitem(evaluators.entries, "mine", lambda annotations, results: metrics)
    found = headline_metrics(DetectionEvalConfig(metric="mine"), source, truth_as_results(root), ["bbox"])
    assert found == {"mAP": 0.25, "found": 3, "boxes": 7} and {*map(type, found.values())} == {float}


def test_an_evaluator_without_the_metric_of_the_best_checkpoint_is_refused_before_training(root, source, monkeypatch):
    monkeypatch.setitem(evaluators.entries, "mine", lambda annotations, results: {"F1": 0.5, "recall": 0.25})
    experiment, model = detector(root, source, "eval.metric=mine")
    training = SimpleNamespace(experiment=experiment, model=model, validation=source)
    with pytest.raises(ConfigError, match="The evaluator mine returns no mAP, .* only F1, recall: add mAP"):
        DetectionTraining.monitors(training)


@pytest.mark.parametrize(
    "words, monitors",
    [
        (["eval.losses=false"], {"AP", "AP50", "AP75", "APs", "AR100"}),
        (["eval.metric=voc_area"], {"mAP", "loss"}),
    ],
)
def test_monitors_are_metrics_of_the_evaluation(root, source, words, monitors):
    experiment, model = detector(root, source, *words)
    training = SimpleNamespace(experiment=experiment, model=model, validation=source)
    assert monitors <= {*DetectionTraining.monitors(training)}
    assert ("loss" in DetectionTraining.monitors(training)) == ("loss" in monitors)


@pytest.mark.parametrize("metric, name", [("coco", "AP"), ("voc_area", "mAP")])
def test_a_detector_that_misses_one_class(root, source, metric, name):
    """All classes have the same weight in the mean."""
    blind = source.category_ids[0]
    found = truth_as_results(root, lambda entry: entry["category_id"] != blind and not entry["iscrowd"])
    found = headline_metrics(DetectionEvalConfig(metric=metric), source, found, ["bbox"])
    assert found[name] == pytest.approx(1 - 1 / len(source.classes))


def test_the_printed_metrics_leave_out_objects_without_masks(root, tmp_path, capsys):
    """Perfect detections have a mask AP of 1, although one object has no mask."""
    content = json.loads((root / "annotations/val.json").read_text())
    whole = next(entry for entry in content["annotations"] if not entry["iscrowd"])
    del whole["segmentation"]
    (tmp_path / "gt.json").write_text(json.dumps(content))
    source, perfect = open_coco(tmp_path / "gt.json", root / "val"), truth_as_results(root)
    metrics = print_metrics(DatasetDetections(perfect, {}, []), source, COCO, BOTH, per_class=False, json_path=None)
    objects = {kind: sum(row["objects"] for row in metrics[kind]["per_class"].values()) for kind in BOTH}
    assert metrics["bbox"]["AP"] == 1 and objects["segm"] == objects["bbox"] - 1
    found = truth_as_results(root, lambda entry: not entry["iscrowd"] and entry["id"] != whole["id"])
    metrics = print_metrics(DatasetDetections(found, {}, []), source, COCO, BOTH, per_class=False, json_path=None)
    assert metrics["segm"]["AP"] == 1 and "segm" in capsys.readouterr().out


def test_no_detections_give_zero_ap(root, source):
    model, judged = judge(root, source, score=1.0)
    assert len(judged.results) == 0 and judged.results.to_list() == []
    found = headline_metrics(COCO, source, judged.results, BOTH)
    assert found["AP"] == found["mask_AP"] == 0


def test_annotations_without_objects_are_refused(root, tmp_path):
    content = json.loads((root / "annotations/val.json").read_text())
    (tmp_path / "empty.json").write_text(json.dumps(content | {"annotations": []}))
    source = open_coco(tmp_path / "empty.json", root / "val")
    with pytest.raises(DataError, match="no objects"):
        headline_metrics(COCO, source, truth_as_results(root), ["bbox"])


WITHOUT_PADDING = [
    "model.features=c4",
    "model.neck.norm=null",
    "model.rpn.anchors.sizes=[[8, 16, 32]]",
    "model.box.resolution=4",
    "model.input={short: 60, long: 90, divisor: 1}",
]


@pytest.mark.parametrize("overrides", [[], WITHOUT_PADDING], ids=["fpn", "c4 without padding"])
def test_detections_equal_those_of_predict(root, source, overrides):
    """Compares image ids, category ids, boxes in image pixels and masks, in any order of the images."""
    model, judged = judge(root, source, "eval.batch=1", *overrides)
    paths = [source.name(index) for index in range(len(source))]
    expected = [
        entry for index, result in enumerate(model.predict(paths)) for entry in result.to_coco(source.image_id(index))
    ]
    assert expected and len(expected) == len(judged.results)
    key = lambda entry: (entry["image_id"], -entry["score"], entry["category_id"])
    for one, other in zip(sorted(expected, key=key), sorted(judged.results.to_list(), key=key)):
        assert [one[name] for name in ("image_id", "category_id")] == [
            other[name] for name in ("image_id", "category_id")
        ]
        assert one["bbox"] == pytest.approx(other["bbox"], abs=1e-3)
        assert one["segmentation"] == other["segmentation"]


def test_losses_are_means_over_the_images(root, source):
    """Compares with the mean of `model.losses` over batches of one image."""
    model, judged = judge(root, source, "eval.batch=1")
    experiment, _ = detector(root, source, "eval.batch=1")
    sums = {}
    for batch in evaluation_batches_of(source, experiment, model, WORLD, Notes(print)):
        torch.manual_seed(int(batch.indices[0]))
        with torch.no_grad():
            for name, value in model.losses(batch.images, batch.targets).items():
                sums[name] = sums.get(name, 0) + value.item()
    assert judged.losses == pytest.approx({name: value / len(source) for name, value in sums.items()}, rel=1e-4)


def test_losses_do_not_depend_on_the_random_state(root, source):
    """Anchors and proposals are sampled at random, from a seed that the evaluation sets."""
    first = judge(root, source)[1].losses
    torch.manual_seed(123)
    experiment, model = detector(root, source)
    torch.rand(17)
    batches = evaluation_batches_of(source, experiment, model, WORLD, Notes(print))
    assert detect_all(model, source, CategoryMap.of(model, source), batches).losses == first


@pytest.fixture
def damaged(root, tmp_path):
    """Returns the data set with its second image truncated."""
    content = json.loads((root / "annotations/val.json").read_text())
    for image in content["images"]:
        data = (root / "val" / image["file_name"]).read_bytes()
        (tmp_path / image["file_name"]).write_bytes(data[:200] if image is content["images"][1] else data)
    return open_coco(root / "annotations/val.json", tmp_path, cache_dir=tmp_path)


def test_unreadable_images_are_not_evaluated(root, source, damaged):
    """Detections, losses and metrics leave out the unreadable image and do not change for the others."""
    skip = ["eval.batch=1", "data.on_bad_image=skip"]
    model, judged = judge(root, damaged, *skip)
    assert judged.left_out == [1] and source.result_id(1) not in judged.results.image_ids
    shares = [[batch.indices.tolist() for batch in batches_of(root, each, *skip)] for each in (source, damaged)]
    assert sorted(sum(shares[1], [])) == [0, 2, 3, 4, 5] and sorted(sum(shares[0], [])) == list(range(6))
    expected = {}
    for batch in batches_of(root, source, *skip):
        if batch.indices.tolist() != [1]:
            one = detect_all(model, source, CategoryMap.of(model, source), [batch]).losses
            expected = {name: expected.get(name, 0) + one[name] / 5 for name in one}
    assert judged.losses == pytest.approx(expected, rel=1e-4)

    perfect = truth_as_results(root, lambda entry: not entry["iscrowd"] and entry["image_id"] != source.image_id(1))
    for metric, name in (("coco", "AP"), ("voc_area", "mAP")):
        assert headline_metrics(DetectionEvalConfig(metric=metric), damaged, perfect, ["bbox"], judged.left_out)[
            name
        ] == pytest.approx(1)
        assert headline_metrics(DetectionEvalConfig(metric=metric), damaged, perfect, ["bbox"])[name] < 1


def batches_of(root, source, *overrides):
    experiment, model = detector(root, source, *overrides)
    return list(evaluation_batches_of(source, experiment, model, WORLD, Notes(print)))


def test_all_processes_agree_on_unreadable_images(root, damaged, monkeypatch):
    """Runs the two ranks in turn, with `gather` replaced by a function that records what each rank sends."""
    model, said = detector(root, damaged)[1], []
    monkeypatch.setattr(evaluate, "gather", lambda parts: said.append(parts) or parts)
    for rank in (0, 1):
        world = World(rank, 2, torch.device("cpu"))
        detect_one_by_one(model, damaged, CategoryMap.of(model, damaged), "skip", world, Notes(print), 1.0)
    seen = [parts for parts in said if all(isinstance(part, int) for part in parts)]
    assert seen == [[0, 2, 4], [3, 5]]
    monkeypatch.setattr(evaluate, "gather", lambda parts: seen[0] + seen[1])
    assert unread(damaged, seen[0]) == unread(damaged, seen[1]) == [1]


def test_categories_missing_from_the_data_are_not_evaluated(root, source, tmp_path):
    """A model with more categories than the annotations gives one note; detections of the others are dropped."""
    content = json.loads((root / "annotations/val.json").read_text())
    gone = content["categories"].pop()["id"]
    content["annotations"] = [entry for entry in content["annotations"] if entry["category_id"] != gone]
    (tmp_path / "few.json").write_text(json.dumps(content))
    few = open_coco(tmp_path / "few.json", root / "val")
    experiment, model = detector(root, source)
    batches, said = evaluation_batches_of(source, experiment, model, WORLD, Notes(print)), []
    whole = detect_all(model, source, CategoryMap.of(model, source), batches)
    assert gone in whole.results.category_ids
    notes = Notes(said.append)
    for overrides in ([], ["eval.flip=true"]):
        experiment, _ = detector(root, source, *overrides)
        judged = detect_models([model], few, experiment, WORLD, notes)
        assert len(judged.results) and gone not in judged.results.category_ids
        assert headline_metrics(COCO, few, judged.results, BOTH)["AP"] >= 0
    assert said == ["note on the data 1: 1 category of the model is not in the data and not evaluated"]


def test_losses_are_of_the_classes_of_the_model(root, source, tmp_path):
    """Annotations that list fewer categories than the model has give the same losses as those that list all."""
    content = json.loads((root / "annotations/val.json").read_text())
    gone = content["categories"][0]
    content["annotations"] = [entry for entry in content["annotations"] if entry["category_id"] != gone["id"]]
    experiment, model = detector(root, source)
    losses = []
    for categories in (content["categories"], content["categories"][1:]):
        (tmp_path / f"{len(categories)}.json").write_text(json.dumps({**content, "categories": categories}))
        data = open_coco(tmp_path / f"{len(categories)}.json", root / "val")
        losses.append(detect_models([model], data, experiment, WORLD, Notes(print)).losses)
    assert losses[0] and losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_annotations_without_categories_have_losses_and_no_results(root, source, tmp_path):
    """Uses a file without categories and objects, such as for images of background only."""
    content = json.loads((root / "annotations/val.json").read_text())
    (tmp_path / "empty.json").write_text(json.dumps({**content, "categories": [], "annotations": []}))
    empty = open_coco(tmp_path / "empty.json", root / "val")
    experiment, model = detector(root, source)
    found = detect_models([model], empty, experiment, WORLD, Notes(print))
    assert found.losses["rpn_objectness"] > 0 and not len(found.results)


def test_classes_in_another_order_are_evaluated_by_name(root, source, tmp_path):
    """Annotations with reversed category ids give the same losses and metrics, and results with their ids."""
    content = json.loads((root / "annotations/val.json").read_text())
    ids = [category["id"] for category in content["categories"]]
    other = dict(zip(ids, reversed(ids)))
    for entry in content["annotations"]:
        entry["category_id"] = other[entry["category_id"]]
    content["categories"] = [{**each, "id": other[each["id"]]} for each in reversed(content["categories"])]
    (tmp_path / "reversed.json").write_text(json.dumps(content))
    reverse = open_coco(tmp_path / "reversed.json", root / "val")
    assert reverse.classes == source.classes[::-1]
    for overrides in ([], ["eval.flip=true"]):
        experiment, model = detector(root, source, *overrides)
        first, second = (detect_models([model], data, experiment, WORLD, Notes(print)) for data in (source, reverse))
        assert second.losses == pytest.approx(first.losses, rel=1e-5)
        assert [other[id] for id in first.results.category_ids] == second.results.category_ids.tolist()
        first, second = (
            headline_metrics(COCO, data, each.results, BOTH) for data, each in ((source, first), (reverse, second))
        )
        assert second == pytest.approx(first)


def test_results_have_the_size_of_the_annotations():
    """The image is twice as large as the size in the annotations: boxes and keypoints are scaled down."""
    one = Result(np.array([[2, 4, 10, 8]]), np.array([0.5]), np.array([0]), ["a"], np.array([7]), (40, 60), None)
    few = SimpleNamespace(sizes=np.array([[30, 20]]), result_id=lambda index: index + 1)
    assert to_results(one, few, 0, ONE_CLASS).to_list() == [
        {"image_id": 1, "category_id": 7, "bbox": [1, 2, 4, 2], "score": 0.5}
    ]
    one.keypoints = np.array([[[2.0, 8.0, 5.0]]], np.float32)
    assert to_results(one, few, 0, ONE_CLASS).keypoints.tolist() == [[[1, 4, 5]]]


def test_losses_can_be_disabled(root, source):
    assert judge(root, source, "eval.losses=false")[1].losses == {}


def test_a_result_without_detections_has_no_rows():
    nothing = Result(
        np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), [], np.zeros(0, int), (5, 6), np.zeros((0, 5, 6), bool)
    )
    source = SimpleNamespace(sizes=np.array([[6, 5]]), result_id=lambda index: 7)
    results = to_results(nothing, source, 0, ONE_CLASS)
    assert len(results) == 0 and results.boxes.shape == (0, 4)


def test_one_process_gathers_its_results():
    rows = Results([3, 4], [1, 1], [0.5, 0.25], [[0, 0, 1, 1], [1, 1, 2, 2]])
    assert gather_results([rows]).to_list() == rows.to_list()


def test_mean_losses_weight_all_images_equally():
    """Adds a batch of two images, and one of one image without positive anchors."""
    sums = LossSums()
    assert sums.means() == {}
    sums.add({"class": torch.tensor(2.0), "box": torch.tensor(0.75)}, 2)
    sums.add({"class": torch.tensor(5.0)}, 1)
    assert sums.means() == {"class": 3.0, "box": 0.5}


def test_empty_results_have_masks_if_the_detector_has(root, source):
    assert (
        empty(detector(root, source)[1]).masks == []
        and empty(detector(root, source, "model.mask=null")[1]).masks is None
    )
