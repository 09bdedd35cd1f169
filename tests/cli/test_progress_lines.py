"""Tests that predict and evaluate print progress to stderr without changing stdout and `--json`."""

import itertools
import json

import numpy as np
import pytest
from running import TINY

from resdet import progress
from resdet.images.encode import write_image


@pytest.fixture
def checkpoint(command, tmp_path):
    assert command("train", *TINY, "train.length=1", "train.loggers=[]", "--out", "run").returncode == 0
    (tmp_path / "images").mkdir()
    for number in range(6):
        write_image(tmp_path / f"images/{number}.png", np.full((32, 32, 3), 40 * number, np.uint8))
    return "run/best.pth"


@pytest.fixture
def slow(monkeypatch):
    """Returns a function that makes each image take 31 seconds on the display's clock."""

    def make_slow():
        numbers, advance = itertools.count(), progress.Activity.advance
        monkeypatch.setattr(progress.DISPLAY, "clock", lambda: 31.0 * next(numbers))
        monkeypatch.setattr(progress.Display, "watch", lambda self, stopped: None)
        monkeypatch.setattr(
            progress.Activity, "advance", lambda self, count=1: (advance(self, count), self.display.tick())
        )

    return make_slow


def told(finished):
    assert finished.returncode == 0, finished.stderr
    return [line for line in finished.stderr.splitlines() if "images" in line]


def test_progress_of_predict(command, checkpoint, slow):
    words = ["predict", "--weights", checkpoint, "images", "--no-compile"]
    table, content = command(*words), command(*words, "--json", "-")
    slow()
    finished = command(*words)
    lines = [line.split(",")[0] for line in told(finished)]
    assert lines == [f"predicting: {number}/6 images" for number in range(1, 7)]
    assert finished.stdout == table.stdout and finished.stdout.count("images/") == 6
    again = command(*words, "--json", "-")
    assert json.loads(again.stdout) == json.loads(content.stdout) and "predicting: 3/6 images" in again.stderr


def test_progress_of_evaluate(command, checkpoint, slow):
    words = ["evaluate", "--weights", checkpoint, "eval.batch=8"]
    table = command(*words)
    slow()
    finished = command(*words)
    lines = [line.split(",")[0] for line in told(finished) if line.startswith("evaluating")]
    assert lines == [f"evaluating: {number}/32 images" for number in (8, 16, 24, 32)]
    assert finished.stdout == table.stdout and "32 images: top-1 error" in table.stdout
