"""TensorBoard reads what a run has written, and after a resumption the new points alone."""

import pytest

from resdet.engine.tensorboard import EventWriter


def test_a_resumed_run_goes_on_with_the_curves(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventWriter(tmp_path / "a/b", 0)
    for step in range(1, 5):
        board.add(step, {"train/loss": step / 10, "train/error": 0.5})
    board = EventWriter(tmp_path / "a/b", 2)
    board.add(3, {"train/loss": 3.5})
    events = EventAccumulator(str(tmp_path / "a/b"))
    events.Reload()
    losses = [(event.step, round(event.value, 5)) for event in events.Scalars("train/loss")]
    assert losses == [(1, 0.1), (2, 0.2), (3, 3.5)]
    assert [event.step for event in events.Scalars("train/error")] == [1, 2]
