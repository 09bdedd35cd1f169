"""Runs one stage: `python -m resdet.bench.gpu_stages NAME DEVICE FILE [--tiny]`."""

import sys
import warnings
from importlib import import_module
from pathlib import Path

import torch

from resdet.bench.gpu_stages.stage import Stage


def main(name: str, device: str, file: str, *options: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch has no usable GPU on this machine: give --device cpu")
    # Makes the fallback to eager steps an error, which the row then contains instead of eager timings.
    warnings.filterwarnings("error", "training continues without CUDA graphs")
    import_module(f"resdet.bench.gpu_stages.{name}").run(Stage(device, "--tiny" in options, Path(file)))


if __name__ == "__main__":
    main(*sys.argv[1:])
