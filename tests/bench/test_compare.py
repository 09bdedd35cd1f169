"""Tests the comparison of running times with a simulated clock."""

import pytest
import torch

from resdet import timing
from resdet.timing import Case, CudaTimer, Timer, compare, torch_threads


class Clock:
    """A clock that advances only in the work of `side`."""

    def __init__(self):
        self.now = 0.0
        self.calls = []

    def __call__(self) -> float:
        return self.now

    def side(self, name, *durations):
        """Returns work that takes these seconds in successive calls, repeating the last value."""
        left = list(durations)

        def run():
            self.calls.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


def silent(_):
    pass


def test_sides_alternate_in_rounds_after_the_warm_up():
    clock = Clock()
    sides = {name: clock.side(name, 1.0) for name in "ABC"}
    compare(Case("a case", 1, sides), 3, silent, Timer(clock))
    assert "".join(clock.calls) == "AABBCC" + "ABC" * 3


def test_rounds_are_timed_and_the_warm_up_is_not():
    clock = Clock()
    sides = {"slow": clock.side("slow", 60.0, 2.0, 2.0, 4.0, 9.0), "steady": clock.side("steady", 1.0)}
    seconds = compare(Case("a case", 1, sides), 3, silent, Timer(clock))
    assert seconds == {"slow": [2.0, 4.0, 9.0], "steady": [1.0, 1.0, 1.0]}


def test_short_work_is_repeated_and_averaged(monkeypatch):
    monkeypatch.setattr(timing, "MIN_SECONDS", 0.5)
    clock = Clock()
    quick = clock.side("quick", 5.0, 0.125, 0.125, 0.25, 0.125, 0.5, 1.0)
    seconds = compare(Case("a case", 1, {"quick": quick}), 2, silent, Timer(clock))
    assert seconds == {"quick": [0.25, 1.0]}
    assert len(clock.calls) == 2 + 4 * 2


def test_missing_sides_are_skipped():
    clock = Clock()
    said = []
    sides = {"here": clock.side("here", 1.0), "timm": "not installed"}
    seconds = compare(Case("a case", 1, sides), 1, said.append, Timer(clock))
    assert list(seconds) == ["here"]
    assert said == ["a case: warming up here"]


def test_the_number_of_threads_is_restored():
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_long_work_is_timed_once_without_a_warm_up(monkeypatch):
    monkeypatch.setattr(timing, "MAX_SECONDS", 20.0)
    clock = Clock()
    sides = {"long": clock.side("long", 46.0), "short": clock.side("short", 0.5)}
    seconds = compare(Case("a case", 1, sides, warm=False), 3, silent, Timer(clock))
    assert seconds == {"long": [46.0], "short": [0.5] * 3}
    assert len(clock.calls) == 4


def test_memory_is_the_value_returned_by_the_side():
    sides = {"heavy": lambda: 300.0, "light": lambda: 20.0, "absent": "Linux alone"}
    assert timing.measure(Case("a case", 1, sides, unit="MB"), 3, silent) == {"heavy": [300.0], "light": [20.0]}


class Device:
    """A stand-in for torch.cuda: work is queued, uses memory, and is complete after the host waits for it."""

    def __init__(self, clock: Clock):
        self.clock, self.free_at, self.allocated, self.peak = clock, 0.0, 5 * 10**9, 0
        device = self

        class Event:
            def __init__(self, enable_timing: bool):
                assert enable_timing

            def record(self):
                self.at = max(device.free_at, clock.now)

            def elapsed_time(self, end):
                assert clock.now >= end.at  # the host has waited for the end
                return 1000 * (end.at - self.at)

        self.Event = Event

    def launch(self, seconds: float, bytes: int):
        self.clock.now += 0.001
        self.free_at = max(self.free_at, self.clock.now) + seconds
        self.peak = max(self.peak, self.allocated + bytes)

    def synchronize(self):
        self.clock.now = max(self.clock.now, self.free_at)

    def reset_peak_memory_stats(self):
        self.peak = self.allocated

    def memory_allocated(self):
        return self.allocated

    def max_memory_allocated(self):
        return self.peak


def test_gpu_and_host_times_are_measured_separately(monkeypatch):
    clock = Clock()
    device = Device(clock)
    monkeypatch.setattr(torch, "cuda", device)
    timer = CudaTimer()
    timer.clock = clock
    sides = {"large": lambda: device.launch(2.0, 3 * 10**9), "small": lambda: device.launch(0.25, 10**9)}
    seconds = compare(Case("a case", 1, sides), 3, silent, timer)
    for name, wanted, memory in (("large", 2.0, 3.0), ("small", 0.25, 1.0)):
        assert seconds[name] == pytest.approx([wanted] * 3, abs=0.002)
        assert timer.details(sides[name]) == pytest.approx({"enqueue_ms": 1.0, "peak_gb": memory})
    assert Timer().details(sides["large"]) == {}
