"""How tests run the command: in a process of its own, as a user does."""

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]

# A run of a few seconds: eight layers, 64 generated images.
TINY = [
    "--config",
    "shapes_resnet20.yaml",
    "model.backbone=cifar_resnet8",
    "data.train_images=64",
    "data.val_images=32",
    "train.batch=8",
    "train.precision=fp32",
    "schedule.warmup=0",
    "train.evaluate_every=10",
    "train.checkpoint_every=5",
    "train.log_every=5",
]

COMMAND = ("-m", "resdet.cli")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *COMMAND)


def process(folder: Path, *words, launcher: tuple[str, ...] = COMMAND) -> subprocess.Popen:
    """`resdet WORDS` started in a folder, with this checkout and one thread."""
    paths = os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "tests")))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, *launcher, *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(arguments, cwd=folder, env=environment, **pipes)


def run(folder: Path, *words, launcher: tuple[str, ...] = COMMAND) -> subprocess.CompletedProcess:
    """The same, to its end."""
    started = process(folder, *words, launcher=launcher)
    try:
        output, errors = started.communicate(timeout=600)
    except subprocess.TimeoutExpired:
        started.terminate()
        raise AssertionError(started.communicate()[1]) from None
    return subprocess.CompletedProcess(started.args, started.returncode, output, errors)
