"""Tests several server processes: their ports, GPUs, threads and common shutdown."""

import multiprocessing
import os
import signal
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from serve.serving import PATIENCE

from resdet.cli import main
from resdet.errors import ConfigError
from resdet.serve import processes
from resdet.serve.server import Settings

SETTINGS = Settings({"net": "best.pth"}, port=9000)


@pytest.fixture
def one(monkeypatch):
    """Runs `serve_one` in the test's process; returns settings, visible GPUs, number of threads and SIGINT handler."""
    former, threads = signal.getsignal(signal.SIGINT), torch.get_num_threads()
    monkeypatch.setenv(processes.VISIBLE, "all")

    def run(rank: int, count: int, gpus: list[str], serve=lambda settings: None):
        seen = []
        monkeypatch.setattr(processes, "serve", lambda settings: (seen.append(settings), serve(settings)))
        processes.serve_one(SETTINGS, rank, count, gpus)
        return seen[0], os.environ[processes.VISIBLE], torch.get_num_threads(), signal.getsignal(signal.SIGINT)

    yield run
    signal.signal(signal.SIGINT, former)
    torch.set_num_threads(threads)


def test_each_process_has_a_port_a_gpu_and_a_share_of_the_cpus(one):
    torch.set_num_threads(4)
    settings, gpu, threads, interrupt = one(3, 2, ["5", "GPU-a"])
    assert settings.port == 9003 and settings.models == SETTINGS.models
    assert gpu == "GPU-a" and threads == 2 and interrupt == signal.SIG_IGN  # the parent handles SIGINT
    assert one(0, 8, [])[1:3] == ("GPU-a", 1)  # without GPUs, the variable is unchanged


def test_a_user_error_of_a_process_has_no_traceback(one, capsys):
    def refuse(settings):
        raise ConfigError("the port is taken.")

    with pytest.raises(SystemExit) as ended:
        one(0, 1, [], refuse)
    assert ended.value.code == 2 and capsys.readouterr().err == "resdet: the port is taken.\n"


def wait_or_end(settings: Settings, rank: int, count: int, gpus: list[str]) -> None:
    """Process 1 exits with the port as its status, or sends the host as a signal to its parent; the others sleep."""
    if rank == 1 and settings.port:
        sys.exit(settings.port)
    if rank == 1:
        os.kill(os.getppid(), int(settings.host))
    time.sleep(PATIENCE)


class Forked(getattr(multiprocessing.context, "ForkProcess", multiprocessing.Process)):
    """A forked process, ended by SIGKILL: it starts with its parent's handlers and could miss a SIGTERM."""

    def terminate(self) -> None:
        self.kill()


@pytest.fixture
def forked(monkeypatch):
    """Replaces the interpreters by forked processes that run `wait_or_end`."""
    monkeypatch.setattr(processes.multiprocessing, "get_context", lambda kind: SimpleNamespace(Process=Forked))
    monkeypatch.setattr(processes, "serve_one", wait_or_end)
    return lambda port, host="": processes.serve_in_processes(Settings({}, host, port), 3, [])


posix = pytest.mark.skipif(sys.platform == "win32", reason="forks")


@posix
@pytest.mark.parametrize("status, expected", [(2, 2), (7, 1)])
def test_the_exit_of_one_process_ends_all(forked, status, expected, capsys):
    others = {*multiprocessing.active_children()}  # of other tests
    assert forked(status) == expected
    assert "a process of the server ended" in capsys.readouterr().err
    assert {*multiprocessing.active_children()} == others


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_processes(forked, number, capsys):
    former, others = signal.getsignal(number), {*multiprocessing.active_children()}
    assert forked(0, str(int(number))) == 0 and capsys.readouterr().err == ""
    assert {*multiprocessing.active_children()} == others and signal.getsignal(number) is former


class Stubborn(Forked):
    """A process that receives a second interrupt while the first is being forwarded."""

    def terminate(self) -> None:
        signal.raise_signal(signal.SIGINT)


@posix
def test_a_second_interrupt_ends_all_processes_immediately(forked, monkeypatch):
    """Sends SIGINT once all processes run, and checks that none holds the pipe open."""
    monkeypatch.setattr(processes, "wait", lambda sentinels: signal.raise_signal(signal.SIGINT))
    monkeypatch.setattr(processes.multiprocessing, "get_context", lambda kind: SimpleNamespace(Process=Stubborn))
    reader, writer = os.pipe()
    server = Forked(target=forked, args=(0, "0"))
    server.start()
    os.close(writer)
    with open(reader, "rb") as pipe:
        assert pipe.read() == b""
    server.join()
    assert server.exitcode == 128 + signal.SIGINT


@posix
def test_a_signal_before_the_start_ends_all_processes(forked, monkeypatch):
    """Sends SIGINT as soon as the handler is installed, before any process is started."""

    def at_once(number, handler):
        former = install(number, handler)
        if number == signal.SIGINT and callable(handler) and handler.__name__ == "stop":
            handler()
        return former

    install = signal.signal
    monkeypatch.setattr(processes.signal, "signal", at_once)
    assert forked(0, str(int(signal.SIGTERM))) == 0


@pytest.mark.parametrize(
    "words, expected",
    [
        ([], None),
        (["--device", "cuda"], None),
        (["--device", "cuda:1"], ("cuda", 1, ["GPU-a"])),
        (["--workers", "2"], ("auto", 2, ["5", "GPU-a"])),
        (["--workers", "2", "--device", "cuda:0"], ("cuda", 2, ["5"])),
    ],
)
def test_a_numbered_gpu_is_the_only_one_that_processes_see(monkeypatch, words, expected):
    """cuda:N counts the visible GPUs; without a number and with one process, the command itself serves."""
    calls = []
    monkeypatch.setenv(processes.VISIBLE, "5,GPU-a")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(processes, "serve_in_processes", lambda *call: calls.append(call) or 0)
    monkeypatch.setattr("resdet.serve.server.serve", lambda settings: None)
    assert main(["serve", "best.pth", *words]) == 0
    assert [(settings.device, count, gpus) for settings, count, gpus in calls] == [expected] * (expected is not None)


def test_a_missing_gpu_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert main(["serve", "best.pth", "--device", "cuda:1"]) == 2
    assert "--device is cuda:1: GPU 1 does not exist, the last one is 0" in capsys.readouterr().err
