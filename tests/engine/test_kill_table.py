"""Runs that are ended at random moments and resumed equal one that never was."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_random_ends(tmp_path):
    script = Path(__file__).with_name("kill_table.py")
    words = [script, "--kills", 10, "--signals", 2, "--folder", tmp_path]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *map(str, words)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines()[2:]]
    assert len(rows) == 7 and all(row[4] == "0" for row in rows), done.stdout
