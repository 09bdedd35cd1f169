"""wandb and mlflow: stand-ins that record calls, and the packages themselves where they are installed."""

import json
import sys

import numpy as np
import pytest
from engine.linear import Linear, run, trainer
from engine.loggers.services import Mlflow, Wandb

from resdet.engine.loggers.mlflow import MlflowLogger
from resdet.engine.loggers.wandb import WandbLogger
from resdet.engine.run import Run
from resdet.errors import Error


@pytest.fixture
def wandb(monkeypatch):
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    monkeypatch.setitem(sys.modules, "wandb", module := Wandb())
    return module


@pytest.fixture
def mlflow(monkeypatch):
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    module = Mlflow()
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.setitem(sys.modules, "mlflow.entities", module.entities)
    return module


def continued(out, logger, length):
    made = trainer(Linear(figures=[0.25]), out, length=length)
    made.resume()
    run(made, out, [logger])


def test_wandb_gets_values_and_pictures(tmp_path, wandb):
    out = tmp_path / "run"
    run(trainer(Linear(figures=[0.4, 0.3]), out, length=6), out, [WandbLogger()])
    (given,) = wandb.given
    assert (given["name"], given["dir"], given["project"]) == (str(out), str(out), "resdet")
    assert given["config"] == {"name": "linear"} and given["settings"] == {"console": "off"}
    assert wandb.defined == [(("*",), {"step_metric": "step"})] and wandb.finished == [0]
    assert [values["step"] for values in wandb.logged] == [3, 3, 3, 6, 6, 6]
    train, val, pictures = wandb.logged[:3]
    assert {"train/cross_entropy", "train/lr"} <= train.keys() and val == {"step": 3, "val/error": 0.4}
    assert pictures == {"step": 3, **{f"val/{index}": ("image", (4, 6, 3)) for index in range(4)}}


def test_a_resumed_run_continues_the_same_wandb_run(tmp_path, wandb):
    run(trainer(Linear(), tmp_path, length=3), tmp_path, [WandbLogger()])
    continued(tmp_path, WandbLogger(), 6)
    first, second = wandb.given
    assert first["id"] == second["id"] == json.loads((tmp_path / "run_ids.json").read_text())["wandb"]
    assert first["resume"] == second["resume"] == "allow"


def test_a_custom_project(tmp_path, wandb, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "pets")
    WandbLogger().open(Run(tmp_path, {}, None, 3))
    assert wandb.given[0]["project"] == "pets"


def test_a_stopped_run_is_not_complete(tmp_path, wandb, mlflow):
    for logger in (WandbLogger(), MlflowLogger()):
        logger.open(Run(tmp_path, {}, None, 3))
        logger.close(complete=False)
    assert wandb.finished == [1] and mlflow.states == ["RUNNING", "KILLED"]


def test_a_failing_logger_warns_once_and_the_run_continues(tmp_path, wandb, mlflow, capsys):
    wandb.broken = True
    run(trainer(Linear(figures=[0.4, 0.3, 0.2]), tmp_path), tmp_path, [WandbLogger(), MlflowLogger()])
    errors = capsys.readouterr().err
    assert errors.count("WandbLogger failed and is off until the run is resumed (ConnectionError: the network") == 1
    assert errors.count("failed") == 1 and len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 6
    assert {step for step, _, _ in mlflow.runs["run-0"]} == {3, 6, 9}


def test_mlflow_gets_values_pictures_and_config(tmp_path, mlflow):
    run(trainer(Linear(figures=[0.4]), tmp_path, length=3, log_images=1), tmp_path, [MlflowLogger()])
    assert mlflow.named == ("experiment-resdet", str(tmp_path)) and mlflow.states == ["RUNNING", "FINISHED"]
    assert (3, "val/error", 0.4) in mlflow.runs["run-0"]
    assert mlflow.images == [("run-0", "val/0", 3, (4, 6, 3))]
    assert mlflow.files == [("run-0", {"name": "linear"}, "config.yaml")]


def test_a_resumed_run_continues_the_same_mlflow_run(tmp_path, mlflow):
    run(trainer(Linear(), tmp_path, length=3), tmp_path, [MlflowLogger()])
    continued(tmp_path, MlflowLogger(), 6)
    assert list(mlflow.runs) == ["run-0"] and mlflow.states == ["RUNNING", "FINISHED"] * 2
    assert {step for step, _, _ in mlflow.runs["run-0"]} == {3, 6}


def test_names_that_mlflow_refuses(tmp_path, mlflow):
    logger = MlflowLogger()
    logger.open(Run(tmp_path, {}, None, 3))
    logger.metrics(1, "val", {"AP (small)": 0.5})
    logger.images(1, {"val/1_café (2)": np.zeros((2, 2, 3), np.uint8)})
    assert mlflow.runs["run-0"] == [(1, "val/AP _small_", 0.5)] and mlflow.images[0][1] == "val/1_caf_ _2_"


@pytest.mark.parametrize("logger, name", [(WandbLogger, "wandb"), (MlflowLogger, "mlflow")])
def test_a_missing_package_is_reported_before_anything_is_opened(logger, name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    sentence = rf"train.loggers=\[{name}\] needs a package that is not installed: pip install {name}"
    with pytest.raises(Error, match=sentence):
        logger()


def test_a_service_that_does_not_start_a_run(tmp_path, wandb, mlflow):
    def refuse(*_, **__):
        raise RuntimeError("api_key not configured\n(no-tty)")

    wandb.init = mlflow.update_run = refuse
    with pytest.raises(
        Error, match=r"wandb cannot start a run \(api_key not configured.*WANDB_MODE=offline, or remove"
    ):
        WandbLogger().open(Run(tmp_path, {}, None, 3))
    with pytest.raises(Error, match=r"mlflow cannot start a run \(api_key.*set MLFLOW_TRACKING_URI, or remove it"):
        MlflowLogger().open(Run(tmp_path, {}, None, 3))


def test_the_real_wandb_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    run(trainer(Linear(), tmp_path, length=3), tmp_path, [WandbLogger()])
    continued(tmp_path, WandbLogger(), 6)
    number = json.loads((tmp_path / "run_ids.json").read_text())["wandb"]
    folders = sorted((tmp_path / "wandb").glob(f"offline-run-*-{number}"))
    assert folders and all((folder / f"run-{number}.wandb").stat().st_size > 0 for folder in folders)
    assert len(list((tmp_path / "wandb").glob("offline-run-*/files/media/images/val/*.png"))) == 8


def test_the_real_mlflow_in_files(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # versions 3 ask for it
    run(trainer(Linear(figures=[0.4]), tmp_path, length=3), tmp_path, [MlflowLogger()])
    continued(tmp_path, MlflowLogger(), 6)
    from mlflow import MlflowClient

    client = MlflowClient()
    experiment = client.get_experiment_by_name("resdet").experiment_id
    (found,) = client.search_runs([experiment])
    assert found.info.status == "FINISHED"
    values = [(point.step, point.value) for point in client.get_metric_history(found.info.run_id, "val/error")]
    assert values == [(3, 0.4), (6, 0.25)]
    assert {file.path for file in client.list_artifacts(found.info.run_id)} == {"config.yaml", "images"}
