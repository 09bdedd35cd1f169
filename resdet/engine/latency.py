"""Latency and peak memory of predictions, for reports."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from resdet.engine.run_record import processor
from resdet.results.sections import Cell, Table, facts
from resdet.system import peak_memory

IMAGES = 5  # timed images, in addition to one for warmup
PIXELS, FILES = "decoded pixels", "an image file"  # the input of a prediction


def latency_table(predict: Callable[[Any], Any], images: Sequence[Any], device: torch.device, start: str) -> Table:
    """Times `predict` for each image, after a warmup with the first."""
    gpu = device.type == "cuda"
    if gpu:
        torch.cuda.reset_peak_memory_stats(device)
    predict(images[0])
    seconds = [seconds_of(predict, image, gpu) for image in images[:IMAGES]]
    memory, of = (torch.cuda.max_memory_allocated(device), "GPU") if gpu else (peak_memory(), "process")
    values: dict[str, Cell] = {
        "device": torch.cuda.get_device_name(device) if gpu else f"{processor()}, threads: {torch.get_num_threads()}",
        "median latency (ms)": round(1000 * statistics.median(seconds), 1),
        "images timed": len(seconds),
    }
    if memory is not None:
        values[f"peak memory of the {of} (MB)"] = round(memory / 1e6)
    note = f"One image at a time, in exact mode, from {start} to the result."
    return facts("latency", "Latency and memory", values, note)


def seconds_of(predict: Callable[[Any], Any], image: Any, gpu: bool) -> float:
    if gpu:
        torch.cuda.synchronize()
    start = time.perf_counter()
    predict(image)
    if gpu:
        torch.cuda.synchronize()
    return time.perf_counter() - start
