"""Training steps of detectors, captured in a CUDA graph (`train.graph`), and their losses against eager ones."""

from typing import Any

from torch import Tensor

from resdet.bench.gpu_stages.detectors import Pair, chosen_by_benchmark, pairs
from resdet.bench.gpu_stages.stage import NEEDS_CUDA, Stage
from resdet.engine.trainer import Trainer

STEPS = 6


def run(stage: Stage) -> None:
    if not stage.cuda:
        stage.add("all", {"note": NEEDS_CUDA})
        return
    for pair in pairs(stage):
        for on in (False, True):
            name = f"{pair.name}, resdet, captured, cudnn.benchmark {'on' if on else 'off'}"
            stage.time(name, chosen_by_benchmark(lambda: pair.step(captures=True), on))
        stage.attempt(f"{pair.name}, captured beside eager", lambda: difference(pair))


def difference(pair: Pair) -> dict[str, Any]:
    """Returns the largest relative difference of a loss over several steps from equal weights."""
    eager, captured = (losses(pair.trainer(captures), pair) for captures in (False, True))
    relative = (captured - eager).abs() / eager.abs().clamp(min=1e-6)
    rows = {f"step {step}": round(value, 8) for step, value in enumerate(relative.amax(1).tolist())}
    return {"largest_difference": relative.max().item(), "total_loss": eager.sum(1).mean().item(), **rows}


def losses(trainer: Trainer, pair: Pair) -> Tensor:
    """Returns the losses of STEPS steps, [STEPS, K]."""
    for _ in range(STEPS):
        trainer.take_step(pair.inputs.batch)
        trainer.step += 1
    return trainer.window.table()
