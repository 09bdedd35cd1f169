"""Versions, and the device's memory bandwidth and arithmetic throughput."""

import platform

import torch

from resdet.bench.gpu_stages.stage import Stage
from resdet.engine.run_record import git_revision, processor, versions


def run(stage: Stage) -> None:
    facts = {"python": platform.python_version(), "git": git_revision(), "cpu": processor(), **versions()}
    stage.add("machine", facts | (gpu() if stage.cuda else {}))
    stage.attempt("copy", lambda: copy(stage))
    stage.attempt("bf16 product", lambda: product(stage))


def gpu() -> dict[str, object]:
    import triton

    properties = torch.cuda.get_device_properties(0)
    return {
        "gpu": properties.name,
        "memory_gb": round(properties.total_memory / 1e9, 1),
        "multiprocessors": properties.multi_processor_count,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "triton": triton.__version__,
    }


def copy(stage: Stage) -> dict[str, object]:
    """Times a copy on the device; each byte is read and written."""
    source = torch.rand(10**6 if stage.tiny else 2 * 10**9, device=stage.device)
    target = torch.empty_like(source)
    values = stage.timed(lambda: target.copy_(source))
    return values | {"gb_per_s": 2 * source.nbytes / values["ms"] / 1e6}


def product(stage: Stage) -> dict[str, object]:
    side = 256 if stage.tiny else 8192
    a, b = (torch.randn(side, side, device=stage.device, dtype=torch.bfloat16) for _ in range(2))
    values = stage.timed(lambda: a @ b)
    return values | {"tflop_per_s": 2 * side**3 / values["ms"] / 1e9}
