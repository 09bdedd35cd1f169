"""`resdet bench`: runs the suites and prints what they find."""

import sys
from collections.abc import Sequence
from contextlib import closing
from importlib import import_module

from resdet.errors import ConfigError
from resdet.timing import measure, torch_threads

SUITES = ("forward", "train", "cifar", "pipeline", "detect", "detect_train", "ops", "evaluate", "index")


def bench(
    suites: Sequence[str] = (), rounds: int = 5, threads: int | None = None, json_path: str | None = None
) -> None:
    """Times the suites named, or all; prints images/s (or the time of a call) of each library, the median of `rounds`,
    and the ratio to the first one's, torchvision's or pycocotools'. `threads` are torch's, as many as cores by default;
    the pipeline suite works on one core.
    """
    check(suites, rounds, threads)
    import torch

    from resdet.bench.report import Report

    with torch_threads(threads or torch.get_num_threads()):
        report = Report(json_path, rounds)
        for name in suites or SUITES:
            with closing(import_module(f"resdet.bench.{name}").cases()) as cases:
                for case in cases:
                    report.add(name, case, measure(case, rounds, lambda text: progress(f"{name}: {text}")))


def check(suites: Sequence[str], rounds: int, threads: int | None) -> None:
    for name in suites:
        if name not in SUITES:
            raise ConfigError(f"There is no suite named {name!r} to bench: there are {', '.join(SUITES)}.")
    if rounds < 1:
        raise ConfigError(f"--rounds is {rounds}: give 1 or more.")
    if threads is not None and threads < 1:
        raise ConfigError(f"--threads is {threads}: give 1 or more, or leave it out for as many as cores.")


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
