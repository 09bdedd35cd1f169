"""Progress of long work on stderr: a bar on a terminal, otherwise periodic lines; nothing on ranks above 0."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar

FIRST, INTERVAL = 2.0, 30.0  # seconds until the first line of an activity, and between lines
POLL = 1.0  # seconds between checks for a due line
T = TypeVar("T")
A = TypeVar("A", bound="Activity")


class Activity:
    """A context for long work; `advance` counts finished items, out of `total` if it is known.

    The remaining time is estimated from the rate since the first `advance`, because the first items may include
    compilation or the start of workers.
    """

    def __init__(
        self,
        title: str,
        total: int | None = None,
        unit: str = "images",
        done: int = 0,
        display: "Display | None" = None,
    ):
        self.title, self.total, self.unit, self.done = title, total, unit, done
        self.display = display or DISPLAY
        self.started = self.display.clock()
        self.base: tuple[float, int] | None = None  # time and `done` at the first advance
        self.latest = self.started  # time of the last advance
        self.shown = False

    def __enter__(self: A) -> A:
        self.display.begin(self)
        return self

    def __exit__(self, *_: Any) -> None:
        self.display.end(self)

    def advance(self, count: int = 1) -> None:
        self.done += count
        self.latest = self.display.clock()
        self.base = self.base or (self.latest, self.done)

    def seconds_left(self) -> float | None:
        """Returns the estimated remaining seconds; None if unknown."""
        if self.base is None or self.total is None or self.done <= self.base[1]:
            return None
        each = (self.latest - self.base[0]) / (self.done - self.base[1])
        return max((self.total - self.done) * each - (self.display.clock() - self.latest), 0.0)

    def report(self) -> None:
        """Prints a line now, unless a bar shows the activity."""
        self.display.report(self)

    def text(self) -> str:
        if self.total is None and not self.done:
            return f"{self.title}, for {duration(self.display.clock() - self.started)}"
        left = self.seconds_left()
        return f"{self.title}: {self.count()}{'' if left is None else f', {duration(left)} left'}"

    def count(self) -> str:
        if self.unit == "MB":  # `done` and `total` are in bytes
            total = "" if self.total is None else f" of {self.total / 1e6:.1f}"
            return f"{self.done / 1e6:.1f}{total} MB"
        return f"{self.done}{'' if self.total is None else f'/{self.total}'} {self.unit}"


def track(items: Iterable[T], title: str, total: int | None, count: Callable[[T], int] = lambda item: 1) -> Iterator[T]:
    """Yields the items within an activity; `count` returns the number of images in an item."""
    with Activity(title, total) as activity:
        for item in items:
            yield item
            activity.advance(count(item))


def duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


class Display:
    """Shows the running activities: all of them as bars, or the innermost one as lines."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self.clock = clock
        self.active: list[Activity] = []
        self.bar: Any = None  # rich's Progress
        self.tasks: dict[Activity, Any] = {}  # tasks of the bar
        self.last_line = -INTERVAL
        self.lock = threading.RLock()
        self.stopped = threading.Event()

    def begin(self, activity: Activity) -> None:
        if os.environ.get("RANK", "0") != "0":
            return
        with self.lock:
            self.active.append(activity)
            if len(self.active) == 1:
                self.start()
            if self.bar:
                self.tasks[activity] = self.bar.add_task("", activity=activity)

    def end(self, activity: Activity) -> None:
        with self.lock:
            if activity not in self.active:
                return
            self.active.remove(activity)
            if self.bar:
                self.bar.remove_task(self.tasks.pop(activity))
            if not self.active:
                self.stop()

    def close(self) -> None:
        """Ends all activities, including those of generators that an error left open."""
        for activity in list(self.active):
            self.end(activity)

    def start(self) -> None:
        if sys.stderr.isatty():
            self.bar = new_bar()
            self.bar.start()
            return
        self.stopped = threading.Event()
        threading.Thread(target=self.watch, args=(self.stopped,), daemon=True).start()

    def stop(self) -> None:
        self.stopped.set()
        if self.bar:
            with suppress(OSError):
                self.bar.stop()
            self.bar = None

    def watch(self, stopped: threading.Event) -> None:
        while not stopped.wait(POLL):
            self.tick()

    def tick(self) -> None:
        """Prints a line if one is due."""
        with self.lock:
            if not self.active:
                return
            activity = self.active[-1]
            since = self.last_line if activity.shown else activity.started + FIRST - INTERVAL
            if self.clock() - since >= INTERVAL:
                self.report(activity)

    def report(self, activity: Activity) -> None:
        with self.lock:
            if activity in self.active and not self.bar:
                activity.shown = True
                self.say(activity.text())

    def say(self, text: str) -> None:
        """Prints a line, above the bar if there is one."""
        with self.lock, suppress(OSError):  # the work continues with a closed terminal or a full disk behind 2>
            self.last_line = self.clock()
            if self.bar:
                self.bar.console.print(text, highlight=False, markup=False, soft_wrap=True)
            else:
                print(text, file=sys.stderr, flush=True)


def new_bar() -> Any:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn
    from rich.progress_bar import ProgressBar
    from rich.table import Column
    from rich.text import Text

    class Bar(ProgressColumn):
        def render(self, task: Any) -> ProgressBar:
            activity = task.fields["activity"]
            return ProgressBar(activity.total, activity.done, width=10, pulse=activity.total is None)

    class Words(ProgressColumn):
        def render(self, task: Any) -> Text:
            return Text(task.fields["activity"].text(), no_wrap=True, overflow="ellipsis")

    # The command's stdout appears above a bar on the same terminal, and is unchanged in a file or a pipe.
    columns = Bar(Column(width=10)), Words(Column(ratio=1, no_wrap=True, overflow="ellipsis"))
    console = Console(stderr=True)
    return Progress(*columns, console=console, expand=True, transient=True, redirect_stdout=sys.stdout.isatty())


DISPLAY = Display()
say = DISPLAY.say
