"""Base of the stages: device, problem sizes, timers, and rows that are saved as they are measured."""

import gc
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch

from resdet.bench.detection import COUNTS, Counts
from resdet.bench.nets import Variant
from resdet.engine.precision import choose_precision
from resdet.files.atomic import write_json

WARM_UP, ROUNDS = 5, 12  # numbers of calls; the trainer captures a step after three eager ones
NEEDS_CUDA = "needs CUDA"

Call = Callable[[], Any]
Values = dict[str, Any]


class Size(NamedTuple):
    """Image and net sizes of the detector stages."""

    height: int = 800
    width: int = 1344
    batch: int = 16
    body: str = "resnet50"
    counts: Counts = COUNTS


TINY = Size(64, 64, 2, "resnet18", Counts(8, (16, 16), 4))


class Stage:
    """The rows of a stage by name; `attempt` and `time` record an error in the row and continue."""

    def __init__(self, device: str, tiny: bool, file: Path):
        self.device, self.tiny, self.file = device, tiny, file
        self.size = TINY if tiny else Size()
        self.precision = choose_precision("auto", torch.device(device))  # bf16, except on CPUs without it
        self.warm_up, self.rounds = (1, 2) if tiny else (WARM_UP, ROUNDS)
        self.rows: dict[str, Values] = {}

    @property
    def cuda(self) -> bool:
        return self.device == "cuda"

    @property
    def variant(self) -> Variant:
        """Eager and channels_last, with bfloat16 autocast if the device supports it."""
        return Variant(self.precision == "bf16", False, self.device)

    def add(self, name: str, values: Values) -> None:
        print(f"{time.strftime('%X')} {name}: {values}", flush=True)
        self.rows[name] = values
        write_json(self.file, self.rows)

    def attempt(self, name: str, measure: Callable[[], Values]) -> Values:
        """Adds the row that `measure` returns, or the error that it raises."""
        try:
            values = measure()
        except Exception as error:
            traceback.print_exc()
            lines = str(error).strip().splitlines() or [""]
            values = {"error": f"{type(error).__name__}: {lines[0]}"}
        self.add(name, values)
        self.free()
        return values

    def time(self, name: str, make: Callable[[], Call], rounds: int | None = None, warm_up: int | None = None) -> None:
        """Adds the time of the call that `make` returns; making it here lets its memory be freed afterwards."""
        self.attempt(name, lambda: self.timed(make(), rounds, warm_up))

    def time_compiled(self, name: str, make: Callable[[], Call]) -> None:
        """As `time`, plus the seconds of the first call, which compiles."""

        def measure() -> Values:
            call = make()
            return {"first_s": self.seconds(call)} | self.timed(call)

        self.attempt(name, measure)

    def time_captured(self, name: str, make: Callable[[], Call]) -> None:
        """As `time`, for the replay of a CUDA graph of the call."""
        if self.cuda:
            self.time(name, lambda: captured(make()))
        else:
            self.add(name, {"note": NEEDS_CUDA})

    def timed(self, call: Call, rounds: int | None = None, warm_up: int | None = None) -> Values:
        """Returns the median milliseconds of a call, in total and until it returns to Python, and the peak memory."""
        for _ in range(self.warm_up if warm_up is None else warm_up):
            call()
        self.wait()
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        times = [once_on_cuda(call) if self.cuda else once_on_cpu(call) for _ in range(rounds or self.rounds)]
        total, enqueue = (round(median(column), 4) for column in zip(*times))
        values: Values = {"ms": total, "enqueue_ms": enqueue}
        if self.cuda:
            values["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 3)
        return values | {"rounds": [round(ms, 4) for ms, _ in times]}

    def kernel(self, name: str, call: Call) -> None:
        """Adds the median time of a kernel with a cold cache."""
        self.attempt(name, lambda: self.kernel_time(call))

    def kernel_time(self, call: Call) -> Values:
        if not self.cuda:
            return self.timed(call)
        from triton.testing import do_bench

        return {"ms": round(do_bench(call, warmup=10, rep=60, return_mode="median"), 5)}

    def seconds(self, call: Call) -> float:
        """Returns the seconds of one call, including its work on the device."""
        self.wait()
        start = time.perf_counter()
        call()
        self.wait()
        return round(time.perf_counter() - start, 3)

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def free(self) -> None:
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()


def once_on_cuda(call: Call) -> tuple[float, float]:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    clock = time.perf_counter()
    call()
    enqueued = time.perf_counter() - clock
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end), 1000 * enqueued


def once_on_cpu(call: Call) -> tuple[float, float]:
    start = time.perf_counter()
    call()
    milliseconds = 1000 * (time.perf_counter() - start)
    return milliseconds, milliseconds


def captured(call: Call) -> Call:
    """Captures the call in a CUDA graph; returns its replay."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = call()

    def replay() -> Any:
        graph.replay()
        return output

    return replay
