"""Runs interpreted.py: Triton decides when it is imported whether it interprets, so in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def test_kernels_in_tritons_interpreter():
    pytest.importorskip("triton", reason="Triton is not installed here")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        str(Path(__file__).with_name("interpreted.py")),
    ]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    root = Path(__file__).parents[2]
    finished = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "passed" in finished.stdout
