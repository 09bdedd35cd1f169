"""Training steps of detectors, compiled (`train.compile`) without and with capture, and the compile time in seconds."""

from resdet.bench.gpu_stages.detectors import pairs
from resdet.bench.gpu_stages.stage import NEEDS_CUDA, Stage


def run(stage: Stage) -> None:
    if not stage.cuda:
        stage.add("all", {"note": NEEDS_CUDA})
        return
    for pair in pairs(stage):
        for captures, name in ((False, "compiled"), (True, "compiled and captured")):
            stage.time_compiled(f"{pair.name}, resdet, {name}", lambda: pair.step(captures, compile=True))
