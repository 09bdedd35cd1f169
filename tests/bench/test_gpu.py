"""Tests `resdet bench gpu` on the CPU: its processes, its files, and its stages at small sizes."""

import json

import pytest

from resdet.bench import gpu
from resdet.bench.gpu import TIMEOUTS, bench_gpu, run_stage
from resdet.bench.gpu_stages import cifar, machine
from resdet.bench.gpu_stages.stage import Stage
from resdet.cli import main
from resdet.errors import ConfigError


@pytest.fixture
def stage(tmp_path) -> Stage:
    return Stage("cpu", True, tmp_path / "rows.json")


def saved(stage: Stage) -> dict:
    return json.loads(stage.file.read_text(encoding="utf-8"))


def test_a_run_writes_the_rows_of_its_stages_and_prints_them(tmp_path, capsys):
    content = bench_gpu(tmp_path, ["machine"], device="cpu", tiny=True)
    assert content == json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    rows = content["stages"]["machine"]["rows"]
    assert rows["bf16 product"]["tflop_per_s"] == pytest.approx(2 * 256**3 / rows["bf16 product"]["ms"] / 1e9)
    assert "error" not in content["stages"]["machine"]
    assert "bf16 product" in capsys.readouterr().out
    assert {file.name for file in tmp_path.iterdir()} == {"gpu.json", "log.txt"}


def test_failures_and_timeouts_of_stages_are_recorded(tmp_path):
    with open(tmp_path / "log.txt", "w") as log:
        unknown = run_stage("nothing", "cpu", True, tmp_path, log, 60)
        slow = run_stage("detector", "cpu", True, tmp_path, log, 1.5)
    assert unknown["error"][0] == "exit status 1" and "ModuleNotFoundError" in unknown["error"][-1]
    assert slow["error"][0] == "stopped after 2 s" and slow["seconds"] < 30
    assert unknown["rows"] == slow["rows"] == {}
    late = bench_gpu(tmp_path, ["machine"], device="cpu", tiny=True, limit=0)
    assert late["stages"]["machine"]["error"] == ["there was no time left"]


def test_a_failing_row_records_its_error_and_later_rows_run(stage):
    def fail() -> dict:
        raise RuntimeError("first line\nsecond line")

    stage.attempt("bad", fail)
    stage.time("good", lambda: lambda: None)
    assert saved(stage)["bad"] == {"error": "RuntimeError: first line"}
    assert saved(stage)["good"]["ms"] >= 0 and len(saved(stage)["good"]["rounds"]) == stage.rounds


def test_medians_exclude_the_warm_up(stage, monkeypatch):
    times = iter([(1.0, 0.5), (9.0, 0.7), (2.0, 0.6)])
    calls = []
    monkeypatch.setattr("resdet.bench.gpu_stages.stage.once_on_cpu", lambda call: (call(), next(times))[1])
    values = stage.timed(lambda: calls.append(1), rounds=3, warm_up=2)
    assert values == {"ms": 2.0, "enqueue_ms": 0.6, "rounds": [1.0, 9.0, 2.0]} and len(calls) == 5


def test_training_time_of_cifar_is_extrapolated_to_64000_steps(stage):
    cifar.run(stage)
    eager = saved(stage)["ResNet-20, fp32, eager"]
    assert eager["s_of_64000"] == pytest.approx(64 * eager["ms"])
    assert "note" in saved(stage)["ResNet-20, fp32, captured"]


def test_stages_are_selected_by_name_in_a_fixed_order(tmp_path, capsys):
    assert gpu.chosen([]) == list(TIMEOUTS)
    assert gpu.chosen(["cifar", "machine"]) == ["machine", "cifar"]
    with pytest.raises(ConfigError, match="'cifarr'.*machine, kernels"):
        gpu.chosen(["cifarr"])
    for words in (
        ["gpu"],
        ["gpu", "forward", "--out", str(tmp_path)],
        ["gpu", "--out", str(tmp_path), "--stages", "x"],
    ):
        assert main(["bench", *words]) == 2
    assert capsys.readouterr().out == ""


def test_the_machine_is_described(stage):
    machine.run(stage)
    assert saved(stage)["machine"]["torch"] and "gpu" not in saved(stage)["machine"]
