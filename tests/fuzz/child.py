"""The process that runs the cases, with a line of JSON per request and reply; `runner` starts, watches and kills it."""

import ctypes
import faulthandler
import json
import os
import random
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import resdet

PACKAGE = Path(resdet.__file__).parent
LONGEST = 3600  # CPU seconds of a forked process
PR_SET_PDEATHSIG = 1
HARD_STOP = 8 << 30  # bytes of address space that a case may use in addition to the imports
REFUSED = ("allocate memory", "Unable to allocate", "bad allocation", "Insufficient memory", "bad_alloc")
TRACE = 6000  # characters kept of a traceback


def main(kinds: list[str]) -> None:
    """Imports everything once, then forks a process that serves the cases, and forks another one after each death."""
    die_with_parent()
    requests, replies = os.fdopen(os.dup(0), "r"), os.fdopen(os.dup(1), "w")
    # Output of the tested code is dropped, but still encoded like output to a terminal.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    faulthandler.enable(all_threads=False)
    faulthandler.register(signal.SIGUSR1, all_threads=False)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for kind in kinds:
        warm(kind)
    while True:
        pid = os.fork()
        if pid == 0:
            serve(requests, replies)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        if status == 0:
            return  # no more requests
        send(replies, {"died": os.waitstatus_to_exitcode(status)})


def warm(kind: str) -> None:
    """Imports the modules of a kind and builds its base data, so that no case is charged for them."""
    from fuzz.cases import make_case

    make_case(kind, 0)


def die_with_parent() -> None:
    """Makes Linux kill this process when its parent dies, since a hanging case would not notice it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def serve(requests: Any, replies: Any) -> None:
    die_with_parent()
    limit_resources()
    send(replies, {"pid": os.getpid()})
    for line in requests:
        request = json.loads(line)
        send(replies, answer(request["kind"], request["seed"], Path(request["folder"])))


def send(replies: Any, content: dict) -> None:
    replies.write(json.dumps(content) + "\n")
    replies.flush()


def limit_resources() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (LONGEST, LONGEST))
    if Path("/proc/self/statm").exists():
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + HARD_STOP
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def answer(kind: str, seed: int, folder: Path) -> dict[str, Any]:
    """Runs a case in a new folder, removes the folder, and returns the outcome."""
    from fuzz.cases import make_case

    case = make_case(kind, seed)
    folder.mkdir(parents=True)
    before = os.getcwd()
    os.chdir(folder)
    random.seed(seed)
    reset_peak()
    try:
        found = judged(kind, case, folder)
    finally:
        os.chdir(before)
        shutil.rmtree(folder, ignore_errors=True)
    return found | {"peak": peak()}


def judged(kind: str, case: Any, folder: Path) -> dict[str, Any]:
    from fuzz.cases import flaw_of, run_case

    try:
        trial = run_case(kind, case, folder)
    except BaseException as error:  # includes Rust panics and SystemExit, which no input may cause
        return failure("memory" if is_memory(error) else "traceback", error)
    for error in trial.errors:
        if is_memory(error):
            return failure("memory", error)
        if flaw := flaw_of(error):
            return failure("sentence", error) | {"message": f"{flaw}: {str(error)[:300]!r}"}
    if trial.errors:
        return {"status": "error", "message": str(trial.errors[0])}
    return {"status": "skipped" if trial.skipped else "ok"}


def failure(status: str, error: BaseException) -> dict[str, Any]:
    text = "".join(traceback.format_exception(error))
    return {
        "status": status,
        "what": type(error).__name__,
        "where": innermost(error),
        "message": str(error)[:300],
        "trace": text if len(text) <= TRACE else f"{text[: TRACE // 2]}\n…\n{text[-TRACE // 2 :]}",
    }


def is_memory(error: BaseException) -> bool:
    """Tells whether an allocation failed, also where the failure was converted to a resdet.Error."""
    return any(isinstance(e, MemoryError) or any(text in str(e) for text in REFUSED) for e in chain(error))


def chain(error: BaseException) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def innermost(error: BaseException) -> str:
    """Returns the innermost resdet frame of the traceback, without line number: `data/coco.py _classes`."""
    frames = [(frame.filename, frame.name) for frame in traceback.extract_tb(error.__traceback__)]
    return place_of(frames[::-1])


def place_of(frames: list[tuple[str, str]]) -> str:
    """Returns the first resdet frame of a list of (file, function), innermost first."""
    for file, name in frames:
        if Path(file).is_relative_to(PACKAGE):
            return f"{Path(file).relative_to(PACKAGE)} {name}"
    return f"{Path(frames[0][0]).name} {frames[0][1]}" if frames else ""


def reset_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass  # not Linux: the peak covers all cases so far


def peak() -> int:
    """Returns the peak memory in MB."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    return int(status.split("VmHWM:")[1].split()[0]) >> 10


if __name__ == "__main__":
    main(sys.argv[1:])
