"""TensorBoard reads the points that a run has written, and after resuming only the new ones."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image
from torch import nn

from resdet.commands import train
from resdet.engine.loggers import tensorboard
from resdet.engine.loggers.tensorboard import EventWriter, TensorBoardLogger
from resdet.engine.metrics_file import METRICS, append, keep_until
from resdet.engine.run import Run


@pytest.mark.parametrize("resumed_at", [0, 2])
def test_a_resumed_run_continues_the_curves(resumed_at, tmp_path, monkeypatch):
    """Resumes into a new file, even within the same second and process, as its tenth and eleventh file."""
    monkeypatch.setattr("time.time", lambda: 1795977965.0)
    monkeypatch.setattr(tensorboard, "serial", itertools.count(9))
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventWriter(tmp_path / "a/b", 0)
    for step in range(1, 5):
        board.add(step, {"train/loss": step / 10, "train/error": 0.5})
    board = EventWriter(tmp_path / "a/b", resumed_at + 1)
    board.add(resumed_at + 1, {"train/loss": 3.5})
    assert len(list((tmp_path / "a/b").iterdir())) == 2
    events = EventAccumulator(str(tmp_path / "a/b"))
    events.Reload()
    losses = [(event.step, round(event.value, 5)) for event in events.Scalars("train/loss")]
    assert losses == [(1, 0.1), (2, 0.2)][:resumed_at] + [(resumed_at + 1, 3.5)]
    assert [event.step for event in events.Scalars("train/error")] == [1, 2][:resumed_at]


@pytest.mark.parametrize("due", [True, False])
def test_an_evaluation_at_the_checkpoint_is_one_point(due, tmp_path):
    """Kills a run after its last evaluation, which repeats on resume if the checkpoint precedes it."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    points = [(1, "train", 0.5), (2, "train", 0.25), (2, "val", 0.75)]
    for resumed_at, more in ((0, points), (2, [(2, "val", 0.875)] * due + [(3, "train", 0.125)])):
        keep_until(tmp_path / METRICS, resumed_at, due)
        board = TensorBoardLogger()
        board.open(Run(tmp_path, {}, nn.Identity(), 9, resumed_at))
        for step, kind, value in more:
            append(tmp_path / METRICS, step, kind, {"error": value})
            board.metrics(step, kind, {"error": value})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    found = {
        kind: [(event.step, event.value) for event in events.Scalars(f"{kind}/error")] for kind in ("train", "val")
    }
    assert found == {"train": [(1, 0.5), (2, 0.25), (3, 0.125)], "val": [(2, 0.875 if due else 0.75)]}


def test_tensorboard_reads_the_pictures(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventWriter(tmp_path, 0)
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:, 30:] = 200, 100, 50
    board.add_images(7, {"val/1_cat": picture, "val/2": picture[:20]})
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert events.Tags()["images"] == ["val/1_cat", "val/2"]
    (event,) = events.Images("val/1_cat")
    assert (event.step, event.width, event.height) == (7, 60, 40)
    decoded = np.array(Image.open(io.BytesIO(event.encoded_image_string)), np.int64)
    assert decoded.shape == picture.shape and abs(decoded - picture)[:, [5, 50]].max() < 6


@pytest.mark.parametrize("installed, names", [(True, ["tensorboard"]), (False, [])])
def test_the_default_is_tensorboard_where_it_is_installed(installed, names, monkeypatch):
    monkeypatch.setattr(train, "find_spec", lambda module: object() if installed else None)
    assert train.logger_names(None) == names and train.logger_names(["csv"]) == ["csv"]
