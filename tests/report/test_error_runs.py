"""Tests `resdet report` of classifiers and localizers against `resdet evaluate`, and comparisons of runs."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import running
from report import pages
from report.commands import report
from tasks import runs

from resdet import tasks
from resdet.classification import report as classification
from resdet.errors import DataError
from resdet.report.runs import read_run

CLASSES = 10  # of the generated shapes
pytestmark = pytest.mark.usefixtures("narrow")


@pytest.fixture(scope="module")
def classifier(module_folder):
    out = module_folder("classifier") / "run"
    runs.train(out, *running.TINY, "train.length=10", "train.unit=steps")
    return out


def test_the_report_of_a_classifier_matches_evaluate(classifier, tmp_path):
    report(classifier, "--json", tmp_path / "report.json")
    content = json.loads((tmp_path / "report.json").read_text())
    done = runs.here("evaluate", "--weights", classifier / "best.pth", "--json", tmp_path / "found.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    metrics = {row["name"]: row["value"] for row in content["summary"]["metrics"]}
    expected = [found[name] for name in ("images", "error", "top5_error", "loss")]
    assert [metrics[name] for name in ("images", "top-1 error", "top-5 error", "loss")] == pytest.approx(expected, 1e-5)
    for row in content["classes"]["classes"]:
        images, first, fifth = found["per_class"][row["class"]]
        assert row["images"] == images
        assert (row["top-1 error"], row["top-5 error"]) == pytest.approx((1 - first / images, 1 - fifth / images))
    counts = np.array(content["confusion"]["confusion"]["counts"])
    assert np.trace(counts) == pytest.approx((1 - found["error"]) * found["images"])
    assert len(content["images"]["worst"]) == min(24, counts.sum() - np.trace(counts))
    pages.read(classifier / "report.html")


def recached(run, out, change):
    """Copies a run with its cached report and changes the predictions in the cache."""
    shutil.copytree(run, out, ignore=shutil.ignore_patterns("last.pth", "*.html"))
    content = json.loads((out / "report/predictions.json").read_text())
    change(content["content"])
    (out / "report/predictions.json").write_text(json.dumps(content))
    return out


def compared(folders, tmp_path):
    """Returns the differences of the last run by class and metric, its comparison section, and the whole report."""
    report(*folders, "--json", tmp_path / "report.json", "--out", tmp_path / "comparison.html")
    pages.read(tmp_path / "comparison.html")
    content = json.loads((tmp_path / "report.json").read_text())
    section = content[f"comparison_{len(folders)}"]
    rows = section[f"differences_{len(folders)}"]
    return {(row["class"], row["metric"]): row for row in rows}, section, content


def with_guesses(guesses):
    """Returns a change of cached predictions that sets the top class of each image."""

    def change(columns):
        columns["best"] = [[guess] * 5 for guess in map(guesses, columns["labels"], columns["indices"])]
        columns["truth"] = [0.9 if own[0] == label else 0.1 for own, label in zip(columns["best"], columns["labels"])]

    return change


def test_classifiers_are_compared(classifier, tmp_path):
    report(classifier)
    none = recached(classifier, tmp_path / "none", with_guesses(lambda label, index: (label + 1) % CLASSES))
    half = recached(classifier, tmp_path / "half", with_guesses(lambda label, index: (label + index % 2) % CLASSES))
    one = recached(classifier, tmp_path / "one", with_guesses(lambda label, index: label if label != 1 else 0))
    rows, section, content = compared([half, none, one], tmp_path)
    labels = np.array(json.loads((half / "report/predictions.json").read_text())["content"]["labels"])
    odd = np.arange(len(labels)) % 2 == 1
    all_rows = rows["all classes", "top-1 error"]
    assert all_rows["first"] == pytest.approx(odd.mean()) and all_rows["this"] == pytest.approx((labels == 1).mean())
    counts = {row["run"]: row["images"] for row in section["agreement_3"]}
    assert counts["only one"] == (odd & (labels != 1)).sum() and counts["none"] == (odd & (labels == 1)).sum()
    assert len(section["gained_3"]) == min(6, counts["only one"])
    assert all("one: " in each["caption"] and ", half: " in each["caption"] for each in section["gained_3"])
    worse = {row["class"]: row for row in content["comparison_2"]["differences_2"] if row["metric"] == "top-1 error"}
    assert worse["all classes"]["this"] == 1 and worse["all classes"]["verdict"] == "worse"
    assert set(content["curves"]["val_error"]["lines"]) == {"half", "none", "one"}


def test_comparing_classifiers_on_different_images_is_rejected(classifier, tmp_path):
    report(classifier)
    change = lambda columns: columns["labels"].reverse()
    other = recached(classifier, tmp_path / "other", change)
    assert "other and run have other validation data" in runs.sentence(runs.here("report", classifier, other))


def test_curves_match_the_log(classifier, tmp_path):
    with (classifier / "metrics.jsonl").open("a") as file:
        file.write('{"step": 11, "ki')  # a line cut off as by a killed run
    report(classifier, "--json", tmp_path / "report.json")
    curves = json.loads((tmp_path / "report.json").read_text())["curves"]
    lines = [json.loads(line) for line in (classifier / "metrics.jsonl").read_text().splitlines()[:-1]]
    trained, validated = ([line for line in lines if line["kind"] == kind] for kind in ("train", "val"))
    for key, name, expected in (("lr", "training", trained), ("error", "validation", validated)):
        line = curves[key]["lines"][name]
        assert line["x"] == [entry["step"] for entry in expected] != []
        assert line["y"] == [entry[key] for entry in expected]
    assert curves["loss"]["lines"]["validation"]["y"] == [entry["loss"] for entry in validated]


class Names(str):
    """Validation images, named by the characters."""

    classes = ["x", "y"]
    name = str.__getitem__


def test_the_cache_key_of_a_classifier_depends_on_its_images(monkeypatch):
    states = []
    run = SimpleNamespace(
        name="a",
        model=SimpleNamespace(classes=["x", "y"], device="cpu"),
        experiment=None,
        predictions=lambda compute, state: states.append(state) or {"indices": []},
    )
    for names in ("ab", "ab", "ac", "abc"):
        images = Names(names)
        monkeypatch.setattr(classification, "open_validation", lambda *given, images=images: images)
        with pytest.raises(DataError, match="Cannot read any"):
            classification.report(run)
    assert states[0] == states[1] and len(set(states)) == 3


@pytest.fixture(scope="module")
def localizer(module_folder):
    folder = module_folder("localizer")
    words = tasks.tasks["localization"].smoke_training(None)
    data = ["data.root=" + str(folder / "data"), "data.train_images=24", "data.val_images=10", "data.side=96"]
    data += ["data.size=64", "data.short=72", "data.augment.short=[64,80]", "data.workers=0"]
    short = ["train.length=1", "train.unit=steps", "train.evaluate_every=1", "train.checkpoint_every=1"]
    short += ["train.precision=fp32", "schedule.warmup=0", "eval.candidates=50", "eval.batch=8"]
    runs.train(folder / "run", "--config", "shapes_loc_r18.yaml", *words, *data, *short)
    return folder / "run"


def test_the_report_of_a_localizer_matches_the_log(localizer, tmp_path):
    run = localizer
    report(run, "--json", tmp_path / "report.json")
    content = json.loads((tmp_path / "report.json").read_text())
    (logged,) = runs.metrics(run, "val")
    metrics = {row["name"]: row["value"] for row in content["summary"]["metrics"]}
    assert metrics["loc_error"] == pytest.approx(logged["loc_error"], rel=1e-4)
    kinds = {row["type"]: row["share"] for row in content["summary"]["errors"]}
    assert kinds.pop("correct") == pytest.approx(1 - metrics["loc_error"]) and sum(kinds.values()) == pytest.approx(
        metrics["loc_error"]
    )
    classes = content["classes"]["classes"]
    wrong = sum(row["images"] * (row["error"] or 0) for row in classes)
    assert wrong == pytest.approx(metrics["loc_error"] * metrics["images"])
    pages.read(run / "report.html")


def test_invalid_options_are_rejected(classifier, localizer):
    refused = lambda *words: runs.sentence(runs.here("report", *words))
    for run in (classifier, localizer):
        for folders in ([run], [run, run]):
            assert "no score threshold: omit --precision" in refused(*folders, "--precision", "0.9")
    assert "of one task" in refused(classifier, localizer)


def test_localizers_are_compared(localizer, tmp_path):
    """Compares a run whose boxes are all correct with one whose boxes are all wrong."""
    report(localizer)
    experiment = read_run(localizer, "run", []).experiment
    source = experiment.data.open("val")

    def found(columns):
        columns["boxes"] = [[source.boxes(index)[0].tolist()] for index in columns["indices"]]

    def missed(columns):
        columns["boxes"] = [[[0, 0, 1, 1]] for _ in columns["indices"]]

    good, bad = (recached(localizer, tmp_path / name, each) for name, each in (("truth", found), ("bad", missed)))
    rows, section, content = compared([bad, good], tmp_path)
    assert rows["all classes", "error"]["first"] == 1 and rows["all classes", "error"]["this"] == 0
    assert {row["verdict"] for row in rows.values()} <= {"better", "few images", "no images"}
    assert rows["all classes", "error"]["verdict"] == "better"
    assert {row["run"]: row["images"] for row in section["agreement_2"]} == {
        **{"both": 0, "only bad": 0, "only truth": 10, "none": 0}
    }
    assert section["lost_2"] == [] and len(section["gained_2"]) == 6
    assert "truth: IoU 1.00, bad: IoU 0.0" in section["gained_2"][0]["caption"]
    assert set(content["curves"]["val_loc_error"]["lines"]) == {"truth", "bad"}
    assert pages.layers(tmp_path / "comparison.html") == ["truth", "box of truth", "box of bad"]
    short = recached(localizer, tmp_path / "short", lambda columns: [own.pop() for own in columns.values()])
    assert "short and run have other validation data" in runs.sentence(runs.here("report", localizer, short))
