"""`resdet bench`: runs suites and prints the timings."""

import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from importlib import import_module
from typing import Any

from resdet.errors import ConfigError
from resdet.timing import Case, CudaTimer, Timer, measure, torch_threads

SUITES = (
    "forward", "train", "cifar", "pipeline", "detect", "detect_train", "end_to_end", "ops", "evaluate", "index",
    "serve",
)  # fmt: skip
END_TO_END = "end_to_end"
ON_DEVICES = ("forward", "train", "cifar", "detect", "detect_train", "ops", "serve")  # suites that also run on a GPU


def bench(
    suites: Sequence[str] = (),
    rounds: int = 5,
    threads: int | None = None,
    json_path: str | None = None,
    device: str = "cpu",
    images: int | None = None,
    case_text: str = "",
) -> None:
    """Times the given suites, or all that run on the device (`cpu` or `cuda`).

    For each library, prints the median images/s or time per call over `rounds`, and its ratio to the first library
    (torchvision or pycocotools). `threads`: torch threads, by default one per core; the pipeline suite always uses one
    core. `images`: number of images in the suite end_to_end. `case_text`: measures only cases whose name contains it.
    """
    validate(suites, rounds, threads, device, images)
    import torch

    from resdet.bench.report import Report

    with torch_threads(threads or torch.get_num_threads()):
        report = Report(json_path, rounds, device)
        skipped: list[str] = []
        for name in suites or (SUITES if device == "cpu" else ON_DEVICES):
            log = lambda text: progress(f"{name}: {text}")
            with closing(cases_of(name, device, images)) as cases:
                for case in select(cases, case_text, skipped):
                    timer = CudaTimer() if device == "cuda" else Timer()
                    report.add(name, case, measure(case, rounds, log, timer), timer)
    if not report.content["cases"]:
        raise ConfigError(f"--case: no case contains {case_text!r}; the cases are {', '.join(skipped)}.")


def select(cases: Iterable[Case], text: str, skipped: list[str]) -> Iterator[Case]:
    """Yields the cases whose name contains `text`, and adds the names of the others to `skipped`."""
    for case in cases:
        if text.lower() in case.name.lower():
            yield case
        else:
            skipped.append(case.name)


def cases_of(name: str, device: str, images: int | None) -> Generator[Case, None, None]:
    """Yields the cases of a suite; closing the generator removes the suite's temporary files."""
    settings: dict[str, Any] = {"device": device} if name in ON_DEVICES else {}
    if name == END_TO_END and images:
        settings["images"] = images
    return import_module(f"resdet.bench.{name}").cases(**settings)


def validate(suites: Sequence[str], rounds: int, threads: int | None, device: str, images: int | None) -> None:
    for name in suites:
        if name not in SUITES:
            raise ConfigError(f"There is no suite named {name!r}: use one of {', '.join(SUITES)}.")
        if device != "cpu" and name not in ON_DEVICES:
            raise ConfigError(f"The suite {name} runs on the CPU only: leave out --device {device}.")
    if rounds < 1:
        raise ConfigError(f"--rounds is {rounds}: give 1 or more.")
    if images is not None and (images < 1 or END_TO_END not in suites):
        raise ConfigError(f"--images is {images}: give 1 or more, and the suite {END_TO_END}.")
    if threads is not None and threads < 1:
        raise ConfigError(f"--threads is {threads}: give 1 or more, or leave it out for one thread per core.")
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise ConfigError("--device is cuda: torch has no usable GPU on this machine; give cpu.")


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
