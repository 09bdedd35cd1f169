"""Checks that runs ended at random moments and resumed equal an uninterrupted run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_runs_ended_at_random_equal_an_uninterrupted_run(tmp_path):
    script = Path(__file__).with_name("kill_table.py")
    words = [script, "--kills", 10, "--signals", 2, "--folder", tmp_path]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *map(str, words)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines()[2:]]
    assert len(rows) == 7 and all(row[4] == "0" for row in rows), done.stdout
