"""The comparison itself, on a clock that the test winds."""

import pytest
import torch

from resdet import timing
from resdet.timing import Case, CudaTimer, Timer, compare, torch_threads


class Clock:
    """Time passes only where `take` spends it."""

    def __init__(self):
        self.now = 0.0
        self.calls = []

    def __call__(self) -> float:
        return self.now

    def side(self, name, *durations):
        """Work that takes these seconds, one call after the other, and the last of them ever after."""
        left = list(durations)

        def run():
            self.calls.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


def silent(_):
    pass


def test_rounds_take_turns_after_everyone_is_warm():
    clock = Clock()
    sides = {name: clock.side(name, 1.0) for name in "ABC"}
    compare(Case("a case", 1, sides), 3, silent, Timer(clock))
    assert "".join(clock.calls) == "AABBCC" + "ABC" * 3


def test_each_round_counts_and_the_warm_up_does_not():
    clock = Clock()
    sides = {"slow": clock.side("slow", 60.0, 2.0, 2.0, 4.0, 9.0), "steady": clock.side("steady", 1.0)}
    seconds = compare(Case("a case", 1, sides), 3, silent, Timer(clock))
    assert seconds == {"slow": [2.0, 4.0, 9.0], "steady": [1.0, 1.0, 1.0]}


def test_short_work_is_repeated_and_its_mean_taken(monkeypatch):
    monkeypatch.setattr(timing, "MIN_SECONDS", 0.5)
    clock = Clock()
    quick = clock.side("quick", 5.0, 0.125, 0.125, 0.25, 0.125, 0.5, 1.0)
    seconds = compare(Case("a case", 1, {"quick": quick}), 2, silent, Timer(clock))
    assert seconds == {"quick": [0.25, 1.0]}
    assert len(clock.calls) == 2 + 4 * 2


def test_a_side_that_is_absent_is_left_out():
    clock = Clock()
    said = []
    sides = {"here": clock.side("here", 1.0), "timm": "not installed"}
    seconds = compare(Case("a case", 1, sides), 1, said.append, Timer(clock))
    assert list(seconds) == ["here"]
    assert said == ["a case: warming up here"]


def test_threads_are_given_back():
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_long_work_is_timed_once_and_cold_work_not_repeated_first(monkeypatch):
    monkeypatch.setattr(timing, "MAX_SECONDS", 20.0)
    clock = Clock()
    sides = {"long": clock.side("long", 46.0), "short": clock.side("short", 0.5)}
    seconds = compare(Case("a case", 1, sides, warm=False), 3, silent, Timer(clock))
    assert seconds == {"long": [46.0], "short": [0.5] * 3}
    assert len(clock.calls) == 4


def test_what_is_weighed_is_what_its_side_returns():
    sides = {"heavy": lambda: 300.0, "light": lambda: 20.0, "absent": "Linux alone"}
    assert timing.measure(Case("a case", 1, sides, unit="MB"), 3, silent) == {"heavy": [300.0], "light": [20.0]}


class Device:
    """Stands for torch.cuda: work is queued, done when the host waits, and takes memory meanwhile."""

    def __init__(self, clock: Clock):
        self.clock, self.free_at, self.allocated, self.peak = clock, 0.0, 5 * 10**9, 0
        device = self

        class Event:
            def __init__(self, enable_timing: bool):
                assert enable_timing

            def record(self):
                self.at = max(device.free_at, clock.now)

            def elapsed_time(self, end):
                assert clock.now >= end.at  # it was waited for
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


def test_on_a_gpu_the_device_and_the_host_are_timed_apart(monkeypatch):
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
