"""Lines and remaining times by a clock of the test; the bar on a terminal."""

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
    """Without its thread: tests call `tick` themselves."""
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr(Display, "watch", lambda self, stopped: None)
    return Display(clock)


def lines(capsys):
    output, errors = capsys.readouterr()
    assert output == ""
    return errors.splitlines()


def passes(clock, display, seconds):
    """Seconds pass, and the display looks each of them."""
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
        activity.advance(90)  # in 10 seconds, so 44 for the rest, and the line comes 21 later
        passes(clock, display, 50)
        assert lines(capsys) == ["hashing: 100/500 images, 0:00:23 left"]
    passes(clock, display, 100)
    assert lines(capsys) == []


def test_work_of_unknown_length_says_how_long_it_takes(clock, display, capsys):
    with Activity("compiling", display=display):
        passes(clock, display, 33)
    assert lines(capsys) == ["compiling, for 0:00:02", "compiling, for 0:00:32"]


def test_short_work_prints_nothing(clock, display, capsys):
    for _ in range(100):
        with Activity("reading", display=display):
            passes(clock, display, 1)
    assert lines(capsys) == []


def test_the_first_item_does_not_count_for_the_rest(clock, display):
    """It takes 100 seconds, since it compiles, and each further one takes 2."""
    left = []
    with Activity("evaluating", 10, display=display) as activity:
        for number in range(10):
            clock.now += 100 if number == 0 else 2
            activity.advance()
            left.append(activity.seconds_left())
    assert left == [None, 16, 14, 12, 10, 8, 6, 4, 2, 0]


def test_the_innermost_activity_is_told(clock, display, capsys):
    with Activity("training", display=display):
        passes(clock, display, 5)
        with Activity("evaluating", 8, display=display):
            passes(clock, display, 5)
        assert lines(capsys) == ["training, for 0:00:02", "evaluating: 0/8 images"]
        passes(clock, display, 27)
    assert lines(capsys) == ["training, for 0:00:37"]  # half a minute after the last line


def test_another_line_counts_as_news(clock, display, capsys):
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


def test_tracking_counts_what_an_item_holds(clock, capsys, monkeypatch):
    shown = []
    monkeypatch.setattr(Activity, "advance", lambda self, count=1: shown.append(count))
    assert list(track("ab", "x", 2, ord)) == ["a", "b"] and shown == [97, 98]


def test_an_error_that_leaves_a_generator_open_is_mended_at_the_end(clock, display, capsys):
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


def test_a_terminal_shows_a_bar_and_stdout_keeps_its_lines(clock, display, monkeypatch, capsys):
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
    assert text.count("\n") == 1 + text.count("a result")  # a report and the time print no lines beside the bar
    assert capsys.readouterr().out == "a result\n" and display.bar is None


def test_the_thread_looks_and_ends(clock, monkeypatch):
    """`watch` with an event that counts its waits."""
    seen = []

    class Waits:
        def wait(self, seconds):
            seen.append(seconds)
            return len(seen) > 3

    display, ticks = Display(clock), []
    display.tick = lambda: ticks.append(None)
    display.watch(Waits())
    assert len(ticks) == 3 and len(seen) == 4
