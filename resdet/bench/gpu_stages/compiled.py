"""The training steps of detectors, compiled (`train.compile`), then also captured; and the seconds to compile."""

from typing import Any

from resdet.bench.gpu_stages.detectors import Pair, pairs
from resdet.bench.gpu_stages.stage import NEEDS_CUDA, Stage


def run(stage: Stage) -> None:
    if not stage.cuda:
        stage.add("all", {"note": NEEDS_CUDA})
        return
    for pair in pairs(stage):
        stage.attempt(f"{pair.name}, resdet, compiled", lambda: compiled(stage, pair, captures=False))
        name = f"{pair.name}, resdet, compiled and captured"
        stage.attempt(name, lambda: compiled(stage, pair, captures=True))


def compiled(stage: Stage, pair: Pair, captures: bool) -> dict[str, Any]:
    step = pair.step(captures, compile=True)
    seconds = stage.seconds(step)
    return {"first_s": seconds} | stage.timed(step)
