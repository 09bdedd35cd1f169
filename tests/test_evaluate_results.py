"""Tests the printed and written output of `resdet evaluate --annotations --results`."""

import json
import subprocess
import sys

import numpy as np
import pytest
from coco_scenes import make

from resdet.commands.evaluate_results import evaluate_results
from resdet.detection.evaluation import coco, ilsvrc_det, voc
from resdet.detection.evaluation.protocols import evaluators
from resdet.errors import ConfigError


@pytest.fixture
def files(tmp_path):
    """Writes ground truth and results; one class has no objects."""
    truth, results = make(10)
    paths = tmp_path / "truth.json", tmp_path / "results.json"
    for path, content in zip(paths, (truth, results)):
        path.write_text(json.dumps(content))
    return tuple(map(str, paths))


def test_metrics_are_printed_as_a_table(files, capsys):
    figures = evaluate_results(*files)
    assert figures == coco.evaluate(*files)
    header, _, row = capsys.readouterr().out.splitlines()
    assert header.startswith("| AP | AP50 | AP75 |") and row.startswith(f"| {figures['AP']:.3f} |")


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_all_outputs(files, kind, capsys, tmp_path):
    path = tmp_path / "figures.json"
    figures = evaluate_results(*files, kind, True, True, True, str(path))
    printed = capsys.readouterr().out
    assert "-1" not in printed and "n/a" in printed and "| background |" in printed and "| Dupe |" in printed
    content = json.loads(path.read_text())
    assert {name: content[name] for name in figures} == figures
    assert content["curves"] == coco.curves(*files, kind) and content["confusion"] == coco.confusion(*files, kind)
    assert content["tide"] == coco.tide(*files, kind)
    absent = [row for row in content["per_class"].values() if not row["objects"]]
    assert absent and all(row["AP"] is None for row in absent)


def test_engines_agree(files):
    fast, reference = (evaluate_results(*files, engine=engine) for engine in ("hotcoco", "pycocotools"))
    assert fast["AP"] == pytest.approx(reference["AP"], abs=1e-9)


def test_other_protocols(files, capsys):
    assert evaluate_results(*files, protocol="voc07") == voc.evaluate(*files, "07")
    assert evaluate_results(*files, protocol="voc_area", per_class=True) == voc.evaluate(*files, "area")
    assert evaluate_results(*files, protocol="ilsvrc_det", confusion=True) == ilsvrc_det.evaluate_det(*files)
    assert capsys.readouterr().out.count("| mAP |") == 3


def registered(monkeypatch, metrics) -> str:
    """Registers an evaluator that returns these metrics."""
    monkeypatch.setitem(evaluators.entries, "mine", lambda annotations, results: metrics)
    return "mine"


def test_registered_evaluators_return_any_kind_of_number(files, monkeypatch, capsys, tmp_path):
    row = {"AP": np.float32(0.5), "objects": np.int64(3), "size": None}
    metrics = {"mAP": np.float32(0.25), "found": 3, "boxes": np.int64(7), "none": None, "per_class": {"cat": row}}
    path = tmp_path / "figures.json"
    evaluate_results(*files, protocol=registered(monkeypatch, metrics), per_class=True, json_path=str(path))
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "| 0.250 | 3.000 | 7.000 | n/a |" and lines[-1] == "| cat | 0.500 | 3 | n/a |"
    assert json.loads(path.read_text()) == {
        **{"mAP": 0.25, "found": 3.0, "boxes": 7.0, "none": None},
        "per_class": {"cat": {"AP": 0.5, "objects": 3, "size": None}},
    }


@pytest.mark.parametrize("value", ["0.5", [0.5], np.zeros(100)], ids=["text", "list", "array"])
def test_metrics_that_are_not_numbers_are_refused(files, monkeypatch, value):
    name = registered(monkeypatch, {"mAP": 0.5, "other": value})
    with pytest.raises(ConfigError, match="The evaluator mine returns .* as other: a metric is a number, or None"):
        evaluate_results(*files, protocol=name)


@pytest.mark.parametrize("options", [{"protocol": "voc"}, {"protocol": "voc07", "kind": "segm"}, {"engine": "other"}])
def test_invalid_options_are_refused(files, options):
    with pytest.raises(ConfigError):
        evaluate_results(*files, **options)


def test_torch_is_not_imported(files):
    code = (
        "import sys; from resdet.commands.evaluate_results import evaluate_results; "
        f"evaluate_results(*{files!r}, confusion=True); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
