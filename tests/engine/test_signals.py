"""Checks which signals stop a run and how the stop is reported."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from threading import Thread

import pytest
import torch
from running import COMMAND, LOADED, REPOSITORY, TINY, fork

from resdet.engine import signals
from resdet.engine.log import Log
from resdet.engine.signals import StopRequested, defer_signals
from resdet.engine.trainer import Trainer

pytest.importorskip("fcntl", reason="needs the signals of POSIX")

ALL = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def send(*numbers):
    for number in numbers:
        signal.raise_signal(number)


@pytest.mark.parametrize("number", ALL)
def test_the_first_of_repeated_signals_is_recorded(number):
    before = [signal.getsignal(each) for each in ALL]
    with defer_signals() as deferred:
        assert deferred.received is None
        send(number, signal.SIGTERM, number, signal.SIGINT, signal.SIGHUP)
        assert deferred.received == number
    assert [signal.getsignal(each) for each in ALL] == before


def test_a_second_interrupt_after_the_grace_period_raises(monkeypatch):
    with defer_signals() as deferred:
        send(signal.SIGTERM)
        deferred.since -= signals.GRACE + 1
        send(signal.SIGTERM, signal.SIGHUP)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_other_threads_leave_signals_alone():
    before, seen = [signal.getsignal(each) for each in ALL], []

    def use():
        with defer_signals() as deferred:
            seen.append((deferred.received, [signal.getsignal(each) for each in ALL]))

    thread = Thread(target=use)
    thread.start()
    thread.join()
    assert seen == [(None, before)]


@pytest.mark.parametrize("number", ALL)
def test_a_signal_interrupts_work_that_may_be_abandoned(number):
    with defer_signals() as deferred:
        with pytest.raises(StopRequested), deferred.abandon():
            send(number)
            time.sleep(10)
        send(number)
        with pytest.raises(StopRequested), deferred.abandon():  # the signal came before the block
            raise AssertionError


def test_an_ignored_hangup_stays_ignored():
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with defer_signals() as deferred:
            send(signal.SIGHUP)
            assert deferred.received is None
    finally:
        signal.signal(signal.SIGHUP, former)


def test_logging_to_a_closed_terminal_does_not_raise(tmp_path, monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    broken = os.fdopen(writer, "w", buffering=1)
    monkeypatch.setattr(sys, "stderr", broken)
    Log(tmp_path).info("stopped")
    Log(None).warn("an image is damaged")
    monkeypatch.undo()
    with pytest.raises(BrokenPipeError):  # the messages are still in its buffer
        broken.close()


INTERRUPTED = """
import os, signal, sys, time
from types import SimpleNamespace
from resdet import cli
from resdet.cli import process

def interrupt():
    signal.raise_signal(signal.SIGINT)
    time.sleep(30)

def work(parsed):
    try:
        interrupt()
    finally:
        {cleaning}

cli.parse = lambda words: SimpleNamespace(run=work)
status = process.main([])
{after}
sys.exit(status)
"""


@pytest.mark.parametrize("cleaning, after", [("pass", "pass"), ("interrupt()", "pass"), ("pass", "interrupt()")])
def test_interrupts_print_no_traceback(cleaning, after):
    """Interrupts the command once, and again during its cleanup or its exit."""
    script = INTERRUPTED.format(cleaning=cleaning, after=after)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 130 and "Traceback" not in done.stderr


def wait_for(condition, process):
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        if condition():
            return
        time.sleep(0.05)
    process.kill()
    raise AssertionError(process.communicate()[1])


def launch(folder, words, launcher=COMMAND):
    """Starts the command in a new process group."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    words = [sys.executable, *launcher, *map(str, words)]
    return subprocess.Popen(words, cwd=folder, env=environment, start_new_session=True, **pipes)


PHOTOGRAPHS = [
    *LOADED,
    "data.val_images=8",
    "train.length=100000",
    "train.evaluate_every=100000",
    "train.checkpoint_every=100000",
    "train.log_every=1",
]


def test_a_signal_to_the_group_with_loader_workers(tmp_path):
    """Signals the process group repeatedly, as `timeout`, systemd and a closed terminal do."""
    run = launch(tmp_path, ["train", *PHOTOGRAPHS, "--out", "run"])
    log = tmp_path / "run/metrics.jsonl"
    wait_for(lambda: log.exists() and log.read_text().count("\n") > 2, run)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGTERM):
        os.killpg(run.pid, number)
    _, said = run.communicate(timeout=120)
    assert run.returncode == 0 and "continue with --resume" in said and "Traceback" not in said, said
    assert torch.load(tmp_path / "run/last.pth", weights_only=True)["trainer"]["step"] > 2


def get_a_signal(after):
    """Sends SIGTERM to each process after the step given for its rank."""
    take_step = Trainer.take_step

    def watched(self, batch):
        take_step(self, batch)
        if self.step == after[self.world.rank]:
            send(signal.SIGTERM)

    Trainer.take_step = watched


@pytest.mark.parametrize("after, first", [((3, 5), 3), ((None, 4), 4)])
def test_processes_stop_at_the_same_step(tmp_path, after, first):
    """Sends SIGTERM to two processes in different steps, far from the next line of the log."""
    rarely = [f"train.{key}=1000" for key in ("log_every", "evaluate_every", "checkpoint_every")]
    words = ["train", *TINY, *rarely, "train.length=20", "--out", "run"]
    done = fork(tmp_path, *words, ranks=2, first=partial(get_a_signal, after))
    assert done.returncode == 0 and "continue with --resume" in done.stderr, done.stderr
    step = torch.load(tmp_path / "run/last.pth", weights_only=True)["trainer"]["step"]
    assert first <= step <= first + 1 and done.stderr.count(f"stopped at step {step};") == 1


@pytest.mark.slow
def test_a_signal_to_torchrun(tmp_path):
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *COMMAND)
    words = ["train", *PHOTOGRAPHS, "train.log_every=100000", "data.workers=0", "train.checkpoint_every=3"]
    run = launch(tmp_path, [*words, "--out", "run"], torchrun)
    last = tmp_path / "run/last.pth"
    wait_for(last.exists, run)
    run.send_signal(signal.SIGTERM)
    _, errors = run.communicate(timeout=120)
    assert "stopped at step" in errors and "continue with --resume" in errors, errors
    assert torch.load(last, weights_only=True)["trainer"]["step"] < 100000
