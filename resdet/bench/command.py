"""`resdet bench`: runs suites and prints the timings."""

import sys
from collections.abc import Sequence
from contextlib import closing
from importlib import import_module

from resdet.errors import ConfigError
from resdet.timing import measure, torch_threads

SUITES = ("forward", "train", "cifar", "pipeline", "detect", "detect_train", "end_to_end", "ops", "evaluate", "index")


def bench(
    suites: Sequence[str] = (), rounds: int = 5, threads: int | None = None, json_path: str | None = None
) -> None:
    """Times the given suites, or all. Prints for each library the median over `rounds` of images/s or time per call,
    and the ratio to the first library (torchvision or pycocotools). `threads`: torch threads, by default one per core;
    the pipeline suite always uses one core.
    """
    validate(suites, rounds, threads)
    import torch

    from resdet.bench.report import Report

    with torch_threads(threads or torch.get_num_threads()):
        report = Report(json_path, rounds)
        for name in suites or SUITES:
            with closing(import_module(f"resdet.bench.{name}").cases()) as cases:
                for case in cases:
                    report.add(name, case, measure(case, rounds, lambda text: progress(f"{name}: {text}")))


def validate(suites: Sequence[str], rounds: int, threads: int | None) -> None:
    for name in suites:
        if name not in SUITES:
            raise ConfigError(f"There is no suite named {name!r}: use one of {', '.join(SUITES)}.")
    if rounds < 1:
        raise ConfigError(f"--rounds is {rounds}: give 1 or more.")
    if threads is not None and threads < 1:
        raise ConfigError(f"--threads is {threads}: give 1 or more, or leave it out for one thread per core.")


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
