"""Tests `resdet report` of small detector runs against pycocotools and the training log, and comparisons of runs."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask
from report import pages
from report.commands import report
from tasks import runs

from resdet import tasks
from resdet.detection.data.sources import open_scenes
from resdet.detection.evaluation import coco
from resdet.detection.report.evaluation import state_of
from resdet.errors import ConfigError
from resdet.report.runs import key_of, names_of, read_run

pytestmark = pytest.mark.usefixtures("narrow")


@pytest.fixture(scope="module")
def root(module_folder):
    return runs.scenes(module_folder("data") / "scenes")


@pytest.fixture(scope="module")
def run(root, module_folder):
    """Trains a small detector with masks for a few steps."""
    out = module_folder("run") / "small"
    runs.train(out, *runs.of(root))
    return out


def test_overrides_of_the_model_are_refused(run):
    read_run(run, "small", ["eval.score=0.2"])
    with pytest.raises(ConfigError, match=r"model.box.nms is 0.5 in .*config.yaml, and 0.3 would have no effect"):
        read_run(run, "small", ["model.box.nms=0.3"])


def detection(entry, box, score, sizes):
    """Returns a detection of the entry's class and image, whose mask is its box."""
    x, y, width, height = box = box.clip(0).tolist()
    corners = [x, y, x + width, y, x + width, y + height, x, y + height]
    (rle,) = mask.frPyObjects([corners], *sizes[entry["image_id"]])
    segmentation = {"size": rle["size"], "counts": rle["counts"].decode()}
    kept = {key: entry[key] for key in ("image_id", "category_id")}
    return {**kept, "bbox": box, "score": score, "segmentation": segmentation}


def copied(run, out, found, left_out=()):
    """Copies a run with these detections in its cache."""
    shutil.copytree(run, out, ignore=shutil.ignore_patterns("last.pth", "report*", "pictures"))
    content = {"results": found, "losses": {}, "left_out": list(left_out)}
    run = read_run(out, out.name, [])
    source = open_scenes(run.experiment.data, "val")
    tasks.EvaluatedRun(out.name, None, run.experiment, out / "report", key_of(run)).predictions(
        lambda: content, state_of(source)
    )
    return out


def planted(run, root, out, seed, dropped=0):
    """Copies a run with simulated detections: shifted objects and false positives; `dropped` objects of the first
    class are missed."""
    truth, rng = json.loads((root / "annotations/val.json").read_text()), np.random.default_rng(seed)
    first = truth["categories"][0]["id"]
    sizes = {each["id"]: (each["height"], each["width"]) for each in truth["images"]}
    singles = [entry for entry in truth["annotations"] if not entry["iscrowd"]]
    objects = [entry for entry in singles if entry["category_id"] == first][dropped:]
    objects += [entry for entry in singles if entry["category_id"] != first]
    found = [
        detection(entry, np.array(entry["bbox"]) + rng.normal(0, 0.5, 4), 0.6 + 0.4 * rng.random(), sizes)
        for entry in objects
    ]
    false = [{"image_id": image, "category_id": first} for image in sizes]
    found += [detection(entry, np.array([0, 0, 3, 3]), 0.4 * rng.random(), sizes) for entry in false]
    return copied(run, out, found), found


def test_metrics_match_pycocotools(run, root, tmp_path):
    report(run, "--json", tmp_path / "report.json", "--markdown", tmp_path / "report.md")
    content = json.loads((tmp_path / "report.json").read_text())
    metrics = {row["name"]: row["value"] for row in content["summary"]["metrics"]}
    assert list(metrics)[:6] == ["AP", "AP50", "AP75", "APs", "APm", "APl"]  # also without large objects
    cached = json.loads((run / "report/predictions.json").read_text())["content"]["results"]
    for kind, prefix in (("bbox", ""), ("segm", "mask_")):
        found = [{k: v for k, v in entry.items() if kind == "bbox" or k != "bbox"} for entry in cached]
        (tmp_path / "results.json").write_text(json.dumps(found))
        figures = runs.pycocotools_figures(root / "annotations/val.json", tmp_path / "results.json", kind)
        for name, value in figures.items():
            assert metrics[f"{prefix}{name}"] == pytest.approx(value, abs=1e-6)
    (logged,) = runs.metrics(run, "val")
    assert metrics["AP50"] == pytest.approx(logged["AP50"], rel=1e-4, abs=1e-6)
    page = pages.read(run / "report.html")
    assert page.count("section") == len(content) - 1
    assert (run / "report.html").stat().st_size < 5e6
    text = (tmp_path / "report.md").read_text()
    for row in content["classes"]["classes"]:
        cells = [row["class"], *(f"{row[name]:.3f}" for name in ("AP", "AP50"))]
        assert f"| {' | '.join(cells)} |" in text


def test_the_report_of_a_good_detector(run, root, tmp_path):
    good, found = planted(run, root, tmp_path / "good", 0)
    report(good, "--json", tmp_path / "report.json")
    content = json.loads((tmp_path / "report.json").read_text())
    chosen = {row["name"]: row["value"] for row in content["scores"]["threshold"]}
    assert chosen["score"] > 0.5 and chosen["precision"] == chosen["recall"] == 1  # without the false positives
    assert not any(row["count"] for row in content["errors"]["tide"] if row["error"] in ("Cls", "Loc", "Both", "Miss"))
    masks = coco.tide(root / "annotations/val.json", found, "segm")
    assert {row["error"]: row["AP50 lost"] for row in content["errors"]["mask_tide"]} == pytest.approx(masks["cost"])
    assert sum(row["count"] or 0 for row in content["errors"]["mask_tide"] if row["error"] == "Loc") > 0
    counts = content["confusion"]["confusion"]["counts"]
    assert np.trace(np.array(counts)[:-1, :-1]) == np.sum(counts) == len(found) - runs.VAL
    assert content["images"]["worst"] == [] and len(content["images"]["best"]) > 0
    assert content["labels"]["doubts"] == []
    words = pages.read(good / "report.html").words
    assert any(word.startswith("triangle 0.") for word in words)  # a detection drawn on an image


@pytest.mark.skipif(pages.browser() is None, reason="no Chromium in PATH")
def test_the_page_fits_a_phone(run, root, tmp_path):
    good, _ = planted(run, root, tmp_path / "good", 0)
    report(good)
    script = "const page = document.documentElement; report.fits = page.scrollWidth <= page.clientWidth;"
    script += "report.pictures = [...document.querySelectorAll('.pictures image')].length;"
    found = pages.in_browser(good / "report.html", script)
    assert found["fits"] and found["pictures"] > 0


def test_the_report_without_detections(run, tmp_path):
    report(copied(run, tmp_path / "blind", []), "--json", tmp_path / "report.json", "--precision", "0.9")
    content = json.loads((tmp_path / "report.json").read_text())
    assert {row["value"] for row in content["scores"]["threshold"]} == {None}
    assert {row["AP"] for row in content["classes"]["classes"]} == {0}
    assert all(picture["caption"].startswith("0 found") for picture in content["images"]["worst"])
    words = " ".join(pages.read(tmp_path / "blind/report.html").words)
    assert words.count("No detections, since there is no score threshold.") == 2 and "of at least inf" not in words


def test_label_errors_are_listed_without_a_score_threshold(run, root, tmp_path):
    """Checks a run with one detection, a false one, so that no score reaches the precision."""
    truth = json.loads((root / "annotations/val.json").read_text())
    sizes = {each["id"]: (each["height"], each["width"]) for each in truth["images"]}
    entry = {"image_id": truth["images"][0]["id"], "category_id": truth["categories"][0]["id"]}
    false = [detection(entry, np.array([0, 0, 3, 3]), 0.7, sizes)]
    report(copied(run, tmp_path / "false", false), "--json", tmp_path / "report.json", "--precision", "0.9")
    content = json.loads((tmp_path / "report.json").read_text())
    assert {row["value"] for row in content["scores"]["threshold"]} == {None}
    assert [row["score"] for row in content["labels"]["doubts"]] == [0.7]


def test_the_cache_key_depends_on_checkpoint_and_settings(run, tmp_path):
    same, other = (read_run(run, "run", words) for words in ([], ["eval.score=0.3"]))
    assert key_of(same) == key_of(read_run(run, "another", [])) != key_of(other)
    changed = tmp_path / "changed"
    shutil.copytree(run, changed)
    with (changed / "best.pth").open("ab") as file:
        file.write(b"0")
    assert key_of(read_run(changed, "run", [])) != key_of(same)


def test_cached_predictions_of_other_data_are_not_used(run, root, tmp_path):
    good, _ = planted(run, root, tmp_path / "good", 0)
    moved = tmp_path / "moved"
    shutil.copytree(root, moved)
    experiment = read_run(good, "good", [f"data.root={moved}"]).experiment
    before = state_of(open_scenes(experiment.data, "val"))
    truth = json.loads((moved / "annotations/val.json").read_text())
    truth["images"].pop()
    (moved / "annotations/val.json").write_text(json.dumps(truth))
    assert state_of(open_scenes(experiment.data, "val")) != before
    same = tasks.EvaluatedRun("good", None, experiment, tmp_path / "cache", "key")
    assert same.predictions(lambda: 1, before) == same.predictions(lambda: 2, before) == 1
    assert same.predictions(lambda: 2, "other") == 2


def test_repeated_folders_get_distinct_names():
    assert names_of([Path("a"), Path("a")]) == ["a", "a (2)"]
    assert names_of([Path("a"), Path("b/a")]) == ["a", "b/a"]


@pytest.fixture
def pair(run, root, tmp_path):
    """Returns a run that misses five objects of the first class, and one that misses none."""
    return planted(run, root, tmp_path / "truth", 0, 5)[0], planted(run, root, tmp_path / "after", 0)[0]


def test_a_comparison_separates_differences_from_noise(pair, root, tmp_path):
    before, after = pair
    report(before, after, "--json", tmp_path / "report.json", "--out", tmp_path / "comparison.html")
    content = json.loads((tmp_path / "report.json").read_text())
    rows = {(row["class"], row["metric"]): row for row in content["comparison_2"]["differences_2"]}
    first = rows["circle", "AP50"]
    assert first["verdict"] == "few images" and first["low"] > 0 and first["this"] > first["first"] + 0.5
    assert rows["all classes", "AP50"]["verdict"] == rows["all classes", "mask_AP50"]["verdict"] == "better"
    for name, folder in (("first", before), ("this", after)):
        found = json.loads((folder / "report/predictions.json").read_text())["content"]["results"]
        expected = coco.evaluate(root / "annotations/val.json", found, kind="segm", engine="pycocotools")
        assert rows["all classes", "mask_AP"][name] == pytest.approx(expected["AP"])
        assert rows["circle", "mask_AP50"][name] == pytest.approx(expected["per_class"]["circle"]["AP50"])
    same = rows["star", "AP50"]
    assert same["verdict"] == "noise" and same["low"] <= 0 <= same["high"]
    assert rows["all classes", "AP50"]["difference"] == pytest.approx(
        np.mean([row["difference"] for key, row in rows.items() if key[1] == "AP50" and key[0] != "all classes"])
    )
    assert content["comparison_2"]["lost_2"] == [] and content["comparison_2"]["gained_2"]
    assert {"truth", "after"} == set(content["curves"]["val_AP"]["lines"])
    pages.read(tmp_path / "comparison.html")
    assert pages.layers(tmp_path / "comparison.html") == ["truth", "detections of truth", "detections of after"]


def test_a_comparison_with_itself_is_noise(pair, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(pair[0], copy)
    report(pair[0], copy, "--json", tmp_path / "report.json")
    content = json.loads((tmp_path / "report.json").read_text())
    rows = content["comparison_2"]["differences_2"]
    assert {row["verdict"] for row in rows} == {"noise"} and all(row["difference"] == 0 for row in rows)
    assert (copy / "comparison.html").exists()


def test_comparing_runs_on_different_data_is_rejected(pair, root, tmp_path):
    before, after = pair
    moved = tmp_path / "moved"
    shutil.copytree(root, moved)
    truth = json.loads((moved / "annotations/val.json").read_text())
    truth["annotations"][0]["bbox"][0] += 1
    (moved / "annotations/val.json").write_text(json.dumps(truth))
    text = (after / "config.yaml").read_text()
    (after / "config.yaml").write_text(text.replace(str(root), str(moved)))
    assert "have other validation data" in runs.sentence(runs.here("report", before, after))


def test_invalid_folders_and_options_are_rejected(run, tmp_path):
    refused = lambda *words: runs.sentence(runs.here("report", *words))
    assert f"{tmp_path} holds no best.pth" in refused(tmp_path)
    assert "give a number above 0" in runs.here("report", run, "--precision", "2").stderr
    assert "is a folder" in runs.here("report", run, "--markdown", tmp_path).stderr
    unreadable = copied(run, tmp_path / "unreadable", [], range(runs.VAL))
    assert f"Cannot read any of the {runs.VAL} validation images of unreadable" in refused(unreadable)
    with pytest.raises(ConfigError, match="has no report"):
        tasks.Task().report(tasks.EvaluatedRun("a", None, read_run(run, "a", []).experiment, tmp_path, ""), None)
    with pytest.raises(ConfigError, match="a: the task detection has no comparison"):
        tasks.Task().compare([tasks.EvaluatedRun("a", None, read_run(run, "a", []).experiment, tmp_path, "")], None)


def test_files_of_a_run_are_not_overwritten(run, root, tmp_path):
    good, _ = planted(run, root, tmp_path / "good", 0)
    before = {file: file.read_bytes() for file in good.rglob("*") if file.is_file()}
    for option, name in (
        ("--out", "metrics.jsonl"),
        ("--out", "best.pth"),
        ("--json", "run.json"),
        ("--json", "report/predictions.json"),
        ("--markdown", "config.yaml"),
    ):
        told = runs.sentence(runs.here("report", run, good, option, good / name))
        assert f"{good / name} is an input file: give another output file with {option}" in told
    assert {file: file.read_bytes() for file in good.rglob("*") if file.is_file()} == before
    truth = root / "annotations/val.json"
    told = runs.sentence(runs.here("report", good, "--json", truth))
    assert f"{truth} is an input file: give another output file with --json" in told
    assert json.loads(truth.read_text())["annotations"]
    for _ in range(2):
        report(good, "--json", good / "report.json", "--markdown", good / "report.md")


def test_the_precision_sets_the_threshold(run, root, tmp_path):
    good, _ = planted(run, root, tmp_path / "good", 0)
    report(good, "--precision", "0.5", "--json", tmp_path / "report.json")
    content = json.loads((tmp_path / "report.json").read_text())
    chosen = {row["name"]: row["value"] for row in content["scores"]["threshold"]}
    assert chosen["precision"] >= 0.5 and chosen["recall"] == 1
    report(good, "--precision", "1", "--json", tmp_path / "report.json")
    content = json.loads((tmp_path / "report.json").read_text())
    assert {row["name"]: row["value"] for row in content["scores"]["threshold"]}["precision"] == 1
