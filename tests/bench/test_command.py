"""Tests the command `resdet bench`: rejected options, printed tables and the JSON report."""

import json

import cv2
import pytest
import torch

from resdet import timing
from resdet.bench import bench, pipeline
from resdet.bench.report import Report, timing_of
from resdet.cli import main
from resdet.errors import ConfigError
from resdet.timing import Case, CudaTimer

ROWS = [
    "random_resized",
    "random_resized, trivial_augment",
    "scale_jitter",
    "scale_jitter, pca_color (the paper's)",
    "center crop (evaluation)",
]


@pytest.fixture
def small(monkeypatch):
    """Limits the benchmark to two images, with one call of each case per round."""
    photographs = pipeline.photographs
    monkeypatch.setattr(pipeline, "photographs", lambda count: photographs(2))
    monkeypatch.setattr(timing, "MIN_SECONDS", 0.0)


def test_the_pipeline_suite_prints_and_writes_every_row(small, tmp_path, capsys):
    threads, opencv = torch.get_num_threads(), cv2.getNumThreads()
    path = tmp_path / "figures.json"
    bench(["pipeline"], rounds=1, threads=2, json_path=str(path))
    assert (torch.get_num_threads(), cv2.getNumThreads()) == (threads, opencv)

    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["threads"] == 2 and content["rounds"] == 1
    assert {"date", "command", "device", "packages", "git"} <= content.keys()
    assert [(case["suite"], case["case"]) for case in content["cases"]] == [("pipeline", row) for row in ROWS]
    for case in content["cases"]:
        assert list(case["sides"]) == ["torchvision", "torchvision v2", "resdet"]
        assert case["sides"]["resdet"]["images/s"] > 0
        assert (case["sides"]["torchvision"] == "none") == ("pca_color" in case["case"])

    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[1].split()[:2] == ["pipeline,", "images/s"]
    assert all(sum(line.startswith(row + " ") for line in lines) >= 1 for row in ROWS)
    assert "warming up resdet" in printed.err


def test_case_measures_only_the_cases_whose_name_contains_the_text(small, tmp_path, capsys):
    path = tmp_path / "figures.json"
    assert main(["bench", "pipeline", "--rounds", "1", "--case", "Center CROP", "--json", str(path)]) == 0
    (case,) = json.loads(path.read_text(encoding="utf-8"))["cases"]
    assert case["case"] == "center crop (evaluation)"

    assert main(["bench", "pipeline", "--rounds", "1", "--case", "corner"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "no case contains 'corner'; the cases are random_resized, " in error


def test_values_are_medians_and_speed_ratios():
    case = Case("a case", 8, {"torchvision": len, "resdet": len, "timm": "not installed"})
    seconds = {"torchvision": [4.0, 1.0, 2.0], "resdet": [0.5, 9.0, 0.4]}
    ours = timing_of(case, "resdet", seconds)
    assert (ours["seconds"], ours["images/s"], ours["ratio"]) == (0.5, 16.0, 4.0)
    assert ours["rounds"] == [0.5, 9.0, 0.4]
    assert timing_of(case, "timm", seconds) == "not installed"
    assert "ratio" not in timing_of(case, "resdet", {"resdet": [1.0]})


def test_the_file_is_written_after_each_case(tmp_path, capsys):
    path = tmp_path / "figures.json"
    report = Report(str(path), rounds=1)
    assert json.loads(path.read_text())["cases"] == []
    case = Case("a case", 8, {"torchvision": len, "timm": "not installed"}, "a note")
    report.add("train", case, {"torchvision": [2.0]})
    (case,) = json.loads(path.read_text())["cases"]
    assert case["note"] == "a note" and case["sides"]["timm"] == "not installed"
    assert "4.00 (1.00x)" in capsys.readouterr().out


def test_an_unknown_suite_is_rejected_with_the_list_of_suites(capsys):
    with pytest.raises(ConfigError, match="'forwards'.*forward, train, cifar, pipeline"):
        bench(["pipeline", "forwards"])
    assert main(["bench", "forwards"]) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("option, value", [("--rounds", "0"), ("--threads", "0")])
def test_invalid_options_are_rejected_before_any_suite(option, value, capsys):
    assert main(["bench", "pipeline", option, value]) == 2
    printed = capsys.readouterr()
    assert f"{option} {value}" in printed.err or f"{option} is {value}" in printed.err
    assert printed.out == ""


def test_device_and_images_are_rejected_where_unsupported(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="--device is cuda: torch has no usable GPU"):
        bench(["train"], device="cuda")
    with pytest.raises(ConfigError, match="suite evaluate runs on the CPU only: leave out --device cuda"):
        bench(["evaluate"], device="cuda")
    assert main(["bench", "ops", "--device", "cuda"]) == 2
    for suites, images in ((["end_to_end"], "0"), (["ops"], "5"), ([], "5")):
        assert main(["bench", *suites, "--images", images]) == 2


def test_gpu_details_are_reported_with_the_values(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "an absent GPU")
    path, timer = tmp_path / "figures.json", CudaTimer()
    case = Case("a case", 8, {"torchvision": len, "timm": "not installed"})
    timer.enqueue[len], timer.memory[len] = [0.5, 0.25, 0.125], [2 * 10**9] * 3
    report = Report(str(path), 1, "cuda")
    report.add("train", case, {"torchvision": [2.0]}, timer)
    content = json.loads(path.read_text())
    side = content["cases"][0]["sides"]["torchvision"]
    assert (content["device"], side["enqueue_ms"], side["peak_gb"]) == ("an absent GPU", 250.0, 2.0)
    assert "torchvision: enqueue_ms 250, peak_gb 2" in capsys.readouterr().out


def test_units_other_than_speed():
    sides = {"pycocotools": len, "resdet": len}
    milliseconds = timing_of(Case("a case", 8, sides, unit="ms"), "resdet", {"pycocotools": [4.0], "resdet": [0.5]})
    assert (milliseconds["ms"], milliseconds["ratio"]) == (500.0, 8.0)
    weight = timing_of(Case("a case", 1, sides, unit="MB"), "resdet", {"pycocotools": [300.0], "resdet": [30.0]})
    assert (weight["MB"], weight["ratio"]) == (30.0, 10.0)
    assert "seconds" not in weight
