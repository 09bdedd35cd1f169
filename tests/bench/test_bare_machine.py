"""Tests that the GPU tests and the GPU benchmark need only torch, torchvision, Triton, NumPy and pytest."""

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
BARE = """
import sys
absent = "cv2 albumentations pycocotools hotcoco rich tensorboard pydantic pydantic_core yaml timm scipy matplotlib"
sys.modules.update(dict.fromkeys(absent.split()))
import pytest
collected = pytest.main(["tests/gpu", "-m", "gpu", "--collect-only", "-q", "-p", "no:cacheprovider"])
assert collected == 0, collected

from importlib import import_module
from pathlib import Path
from resdet.bench import detection, gpu
from resdet.bench.gpu_stages.stage import Stage, TINY
for name in gpu.TIMEOUTS:
    import_module(f"resdet.bench.gpu_stages.{name}").run
detection.twins(True, *TINY[:2], TINY.body, TINY.counts)
from detection.heads import tiny
tiny.make("fpn")
assert not any(sys.modules[name] for name in absent.split())
"""


def test_gpu_tests_and_benchmark_need_few_packages():
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    finished = subprocess.run(
        [sys.executable, "-c", BARE], cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
