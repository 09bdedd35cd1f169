"""Tests progress lines and remaining times with a fake clock, and the bar on a terminal."""

import io
import sys

import pytest

from resdet.progress import Activity, Display, track


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def display(clock, monkeypatch):
    """Returns a display without its thread; tests call `tick` directly."""
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr(Display, "watch", lambda self, stopped: None)
    return Display(clock)


def lines(capsys):
    output, errors = capsys.readouterr()
    assert output == ""
    return errors.splitlines()


def passes(clock, display, seconds):
    """Advances the clock and calls `tick` once per second."""
    for _ in range(seconds):
        clock.now += 1
        display.tick()


def test_a_line_after_two_seconds_and_every_thirty(clock, display, capsys):
    with Activity("hashing", 500, display=display) as activity:
        passes(clock, display, 1)
        assert lines(capsys) == []
        activity.advance(10)
        passes(clock, display, 10)
        assert lines(capsys) == ["hashing: 10/500 images"]
        activity.advance(90)  # 90 images in 10 s leave 44 s for 400; the next line comes 21 s later
        passes(clock, display, 50)
        assert lines(capsys) == ["hashing: 100/500 images, 0:00:23 left"]
    passes(clock, display, 100)
    assert lines(capsys) == []


def test_work_of_unknown_length_shows_elapsed_time(clock, display, capsys):
    with Activity("compiling", display=display):
        passes(clock, display, 33)
    assert lines(capsys) == ["compiling, for 0:00:02", "compiling, for 0:00:32"]


def test_short_work_prints_nothing(clock, display, capsys):
    for _ in range(100):
        with Activity("reading", display=display):
            passes(clock, display, 1)
    assert lines(capsys) == []


def test_the_first_item_is_left_out_of_the_estimate(clock, display):
    """Takes 100 seconds for the first item, as compilation may, and 2 for each further item."""
    left = []
    with Activity("evaluating", 10, display=display) as activity:
        for number in range(10):
            clock.now += 100 if number == 0 else 2
            activity.advance()
            left.append(activity.seconds_left())
    assert left == [None, 16, 14, 12, 10, 8, 6, 4, 2, 0]


def test_the_innermost_activity_is_printed(clock, display, capsys):
    with Activity("training", display=display):
        passes(clock, display, 5)
        with Activity("evaluating", 8, display=display):
            passes(clock, display, 5)
        assert lines(capsys) == ["training, for 0:00:02", "evaluating: 0/8 images"]
        passes(clock, display, 27)
    assert lines(capsys) == ["training, for 0:00:37"]  # 30 seconds after the last line


def test_a_report_restarts_the_interval(clock, display, capsys):
    with Activity("training", display=display) as activity:
        passes(clock, display, 20)
        activity.report()
        passes(clock, display, 29)
        assert lines(capsys) == ["training, for 0:00:02", "training, for 0:00:20"]


def test_other_ranks_are_silent(clock, display, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with Activity("training", display=display) as activity:
        activity.report()
        passes(clock, display, 100)
    assert lines(capsys) == []


def test_track_counts_by_the_given_function(clock, capsys, monkeypatch):
    shown = []
    monkeypatch.setattr(Activity, "advance", lambda self, count=1: shown.append(count))
    assert list(track("ab", "x", 2, ord)) == ["a", "b"] and shown == [97, 98]


def test_close_ends_activities_left_open(clock, display, capsys):
    items = iter(Activity("left open", display=display).__enter__() for _ in range(2))
    next(items)
    display.close()
    passes(clock, display, 100)
    assert display.active == [] and lines(capsys) == []


def test_a_closed_stream_does_not_end_the_work(clock, display, monkeypatch):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stderr", Full())
    with Activity("training", display=display):
        passes(clock, display, 3)


def test_a_terminal_shows_a_bar_and_stdout_is_unchanged(clock, display, monkeypatch, capsys):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with Activity("evaluating", 8, display=display) as activity:
        activity.advance(4)
        print("a result")
        display.bar.refresh()
        display.say("a [line] above the bar")
        activity.report()
        passes(clock, display, 100)
    text = terminal.getvalue()
    assert "evaluating: 4/8 images" in text and "a [line] above the bar" in text
    assert text.count("\n") == 1 + text.count("a result")  # reports and ticks print no lines while the bar is shown
    assert capsys.readouterr().out == "a result\n" and display.bar is None


def test_watch_ticks_until_stopped(clock, monkeypatch):
    """Calls `watch` with a fake event that stops it at the fourth wait."""
    seen = []

    class Waits:
        def wait(self, seconds):
            seen.append(seconds)
            return len(seen) > 3

    display, ticks = Display(clock), []
    display.tick = lambda: ticks.append(None)
    display.watch(Waits())
    assert len(ticks) == 3 and len(seen) == 4
