"""Runs cases in a child process and watches its CPU time, memory and crashes; one child runs many cases.

    for outcome in run("images", range(1000)):
        print(outcome.seed, outcome.status, outcome.what, outcome.where)

A hang is measured in CPU seconds of the child, so that a busy machine causes no false hang.
"""

import json
import os
import queue
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzz.child import PACKAGE, place_of

GOOD = ("ok", "skipped", "error")
BAD = ("traceback", "sentence", "hang", "memory", "crash")
TESTS = Path(__file__).parents[1]
FRAME = re.compile(r'File "([^"]+)", line \d+ in (\S+)')
POLL = 0.05  # seconds
STARTING = 600.0  # seconds for the imports of a child
RENEWED = 1000  # cases before a child is replaced
SWOLLEN = 1500  # peak in MB after which a child is replaced


@dataclass(frozen=True)
class Limits:
    """The limits of a case."""

    cpu: float = 10.0  # seconds
    idle: float = 60.0  # seconds without CPU use
    memory: int = 4096  # MB, resident


DEFAULT = Limits()


@dataclass
class Outcome:
    """The outcome of a case."""

    kind: str
    seed: int
    status: str  # one of GOOD or BAD
    what: str = ""  # the type of the exception, or the signal
    where: str = ""  # the innermost frame of resdet
    message: str = ""
    trace: str = ""
    peak: int = 0  # MB
    cpu: float = 0.0

    @property
    def bad(self) -> bool:
        return self.status in BAD


class Child:
    """A process that runs one case after another; it is forked after all imports, so that a restart is cheap."""

    def __init__(self, kinds: Iterable[str], limits: Limits = DEFAULT):
        self.kinds, self.limits = list(kinds), limits
        shared = Path("/dev/shm")
        home = str(shared) if os.access(shared, os.W_OK) else None  # the cases write many small files
        self.scratch = Path(tempfile.mkdtemp(prefix="fuzz-", dir=home))
        self.pid, self.served = 0, 0

    def __enter__(self) -> "Child":
        here = {
            "PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), str(TESTS)]),
            "PYTHONHASHSEED": "0",
            "PYTHONWARNINGS": "ignore",
            "PYTHONIOENCODING": "utf-8",
            "OMP_NUM_THREADS": "1",
            "OPENCV_LOG_LEVEL": "SILENT",
            "HF_HUB_OFFLINE": "1",
            "HOME": str(self.scratch / "home"),
            "XDG_CACHE_HOME": str(self.scratch / "home"),
        }
        with (self.scratch / "stderr").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fuzz.child", *self.kinds],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **here},
                bufsize=0,  # select() does not see data in a buffer
                start_new_session=True,
            )
        self.welcome()
        return self

    def __exit__(self, *_: Any) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def welcome(self) -> None:
        """Waits until a new fork reports its process id, skipping the report of the previous one's death."""
        reply = {}
        while "pid" not in reply:
            reply = self.reply(time.monotonic() + STARTING)
            if not reply:
                raise RuntimeError(f"the child did not start:\n{self.said(0)}")
        self.pid, self.served = reply["pid"], 0

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.welcome()

    def run(self, kind: str, seed: int) -> Outcome:
        if self.served >= RENEWED:
            self.kill()
        folder = self.scratch / "case"
        shutil.rmtree(folder, ignore_errors=True)
        said, cpu = (self.scratch / "stderr").stat().st_size, self.usage()[0]
        request = {"kind": kind, "seed": seed, "folder": str(folder)}
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()
        self.served += 1
        outcome = Outcome(kind, seed, **self.watch(said, cpu))
        if outcome.peak > SWOLLEN and self.served:
            self.kill()
        return outcome

    def watch(self, said: int, cpu: float) -> dict[str, Any]:
        """Returns the child's reply, or the reason why there is none."""
        idle, before = 0.0, cpu
        while True:
            reply = self.reply(time.monotonic() + POLL)
            if reply is None:
                now, waits = self.usage()
                # Counted in polls, since a clock also runs while a busy machine runs neither process.
                idle = idle + POLL if waits and now == before else 0.0
                spent, peak, before = now - cpu, self.memory(), now
                known = {"peak": peak, "cpu": round(spent, 3)}
                if peak > self.limits.memory:
                    return self.stopped("memory", f"{peak} MB", said) | known
                if spent > self.limits.cpu or idle > self.limits.idle:
                    return self.stopped("hang", f"{spent:.0f} s of work, {idle:.0f} s of waiting", said) | known
            elif "died" in reply:
                return self.buried(reply["died"], said)
            elif reply:
                return reply | {"cpu": round(self.usage()[0] - cpu, 3)}
            else:
                raise RuntimeError(f"the child is gone:\n{self.said(said)}")

    def reply(self, until: float) -> dict[str, Any] | None:
        """Returns the next line of the child, None if there is none in time, or {} at the end of the output."""
        if not select.select([self.process.stdout], [], [], max(0, until - time.monotonic()))[0]:
            return None
        line = self.process.stdout.readline()
        return json.loads(line) if line.endswith(b"\n") else {}

    def stopped(self, status: str, message: str, said: int) -> dict[str, Any]:
        """Requests the stack of the child and kills the child."""
        os.kill(self.pid, signal.SIGUSR1)
        time.sleep(0.2)
        trace = self.said(said)
        self.kill()
        return {"status": status, "what": status, "where": place(trace), "message": message, "trace": trace}

    def buried(self, code: int, said: int) -> dict[str, Any]:
        """Returns the outcome for a child that died."""
        name = signal.Signals(-code).name if code < 0 else f"exit {code}"
        trace = self.said(said)
        self.welcome()
        return {"status": "crash", "what": name, "where": place(trace), "message": name, "trace": trace}

    def said(self, start: int) -> str:
        with (self.scratch / "stderr").open("rb") as file:
            file.seek(start)
            return file.read(20000).decode("utf-8", "replace")

    def usage(self) -> tuple[float, bool]:
        """Returns the CPU seconds of the child and whether it sleeps."""
        try:
            state, *fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return time.monotonic(), False  # not Linux
        return (int(fields[10]) + int(fields[11])) / os.sysconf("SC_CLK_TCK"), state in "SD"

    def memory(self) -> int:
        """Returns the child's peak memory in the current case, in MB."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return 0
        found = re.search(r"VmHWM:\s+(\d+)", status)
        return int(found[1]) >> 10 if found else 0


def place(trace: str) -> str:
    """Returns the innermost resdet frame of a stack printed by faulthandler."""
    return place_of([(file, name) for file, name in FRAME.findall(trace)])


def run(kind: str, seeds: Iterable[int], limits: Limits = DEFAULT) -> Iterator[Outcome]:
    """Yields the outcomes of the seeds, one after another."""
    with Child([kind], limits) as child:
        for seed in seeds:
            yield child.run(kind, seed)


def run_side_by_side(kind: str, seeds: range, jobs: int, limits: Limits = DEFAULT) -> Iterator[Outcome]:
    """Yields the outcomes of the seeds from several children, in order of completion."""
    done: queue.SimpleQueue = queue.SimpleQueue()
    stopping = threading.Event()

    def work(share: range) -> None:
        try:
            for outcome in run(kind, share, limits):
                done.put(outcome)
                if stopping.is_set():
                    return
        except BaseException as error:
            done.put(error)

    threads = [threading.Thread(target=work, args=(seeds[start::jobs],)) for start in range(min(jobs, len(seeds)))]
    for thread in threads:
        thread.start()
    try:
        for _ in seeds:
            outcome = done.get()
            if isinstance(outcome, BaseException):
                raise outcome
            yield outcome
    finally:
        stopping.set()
        for thread in threads:
            thread.join()
