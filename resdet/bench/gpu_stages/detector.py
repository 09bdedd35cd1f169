"""Eager training steps of Mask and Faster R-CNN in bfloat16: resdet's, with a profile, and torchvision's."""

from pathlib import Path
from typing import Any

from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from resdet.bench.gpu import PROFILE
from resdet.bench.gpu_stages.detectors import Pair, chosen_by_benchmark, pairs
from resdet.bench.gpu_stages.stage import Call, Stage

KERNELS = 30  # rows of the profile


def run(stage: Stage) -> None:
    for pair in pairs(stage):
        if note := pair.note():
            stage.add(f"{pair.name}, inputs", {"note": note})
        for on in (False, True):
            name = f"{pair.name}, {{}}, cudnn.benchmark {'on' if on else 'off'}".format
            stage.time(name("resdet"), chosen_by_benchmark(pair.step, on))
            # The number of RoIs in torchvision's mask head varies, and cuDNN repeats its search for each.
            rounds = 5 if on and pair.model.draws_masks else None
            stage.time(name("torchvision"), chosen_by_benchmark(pair.peer_step, on), rounds)
        stage.attempt(f"{pair.name}, profile", lambda: profiled(stage, pair))


def profiled(stage: Stage, pair: Pair) -> dict[str, Any]:
    """Appends the kernels of a step to profile.txt; returns their launches, total time and synchronizations."""
    call = chosen_by_benchmark(pair.step, True)()
    for _ in range(stage.warm_up):
        call()
    stage.wait()
    return write_profile(stage, pair.name, call, stage.file.parent / PROFILE)


def write_profile(stage: Stage, title: str, call: Call, file: Path) -> dict[str, Any]:
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if stage.cuda else [])]
    with profile(activities=activities) as profiler:
        call()
        stage.wait()
    averages = profiler.key_averages()
    order = "self_device_time_total" if stage.cuda else "self_cpu_time_total"
    launches = sum(average.count for average in averages if "LaunchKernel" in average.key)
    kernels = [event for event in averages if event.device_type == DeviceType.CUDA]
    with open(file, "a", encoding="utf-8") as output:
        output.write(f"{title}: {launches} launches\n{averages.table(sort_by=order, row_limit=KERNELS)}\n\n")
        for event in sorted(kernels, key=lambda event: -event.self_device_time_total)[:KERNELS]:
            output.write(f"{event.self_device_time_total / 1000:9.3f} ms {event.count:6} × {event.key}\n")
        output.write("\n")
    busy = sum(event.self_device_time_total for event in kernels) / 1000
    waits = sum(average.count for average in averages if "Synchronize" in average.key)
    final_wait = 1 if stage.cuda else 0  # synchronization above
    return {"launches": launches, "kernel_ms": round(busy, 3), "synchronizations": waits - final_wait}
