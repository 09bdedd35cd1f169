"""`resdet bench gpu`: measures resdet and torchvision on a GPU, in one run of less than ten minutes.

A stage is a module of `gpu_stages` and runs in a separate process with a timeout. Its rows are saved as they are
measured, and the run continues when a stage fails. Requires only torch, torchvision and Triton. The output folder
contains

- gpu.json: the rows of all stages, with the errors of those that failed;
- log.txt: the output of the stages;
- profile.txt: the kernels of a training step.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from resdet.errors import ConfigError
from resdet.files.atomic import make_folder, write_json
from resdet.system import kill_group

LIMIT = 560  # seconds for all stages together
TIMEOUTS = {  # seconds; compilation comes last, so that it delays nothing and gets the remaining time
    "machine": 25,
    "kernels": 70,
    "detector": 95,
    "captured": 60,
    "inference": 75,
    "cifar": 60,
    "classifier": 60,
    "compiled": 300,
}
PROFILE = "profile.txt"
LAST_LINES = 15  # lines to show of a failed stage's output
COLUMNS = ("ms", "enqueue_ms", "peak_gb")
WIDTH = 62


def bench_gpu(
    out: str | Path, stages: Sequence[str] = (), device: str = "cuda", tiny: bool = False, limit: float = LIMIT
) -> dict[str, Any]:
    """Runs the given stages, or all, and prints a table; returns the content of gpu.json.

    `tiny`: small nets and images, to test the stages without a GPU; the timings mean nothing.
    """
    names = chosen(stages)
    folder = Path(out)
    make_folder(folder)
    (folder / PROFILE).unlink(missing_ok=True)  # stages append to it
    command = ["resdet", *sys.argv[1:]]
    content: dict[str, Any] = {"date": time.strftime("%Y-%m-%d %H:%M:%S %z"), "command": command, "stages": {}}
    started = time.monotonic()
    with open(folder / "log.txt", "w", encoding="utf-8") as log:
        for name in names:
            left = limit - (time.monotonic() - started)
            content["stages"][name] = run_stage(name, device, tiny, folder, log, min(TIMEOUTS[name], left))
            write_json(folder / "gpu.json", content)
    print_table(content["stages"])
    return content


def chosen(stages: Sequence[str]) -> list[str]:
    for name in stages:
        if name not in TIMEOUTS:
            raise ConfigError(f"There is no stage named {name!r}: use some of {', '.join(TIMEOUTS)}.")
    return [name for name in TIMEOUTS if name in stages or not stages]


def run_stage(name: str, device: str, tiny: bool, folder: Path, log: TextIO, timeout: float) -> dict[str, Any]:
    """Runs a stage; returns its rows, its duration in seconds, and the reason if it failed."""
    rows = folder / f"{name}.json"
    write_json(rows, {})
    words = [sys.executable, "-m", "resdet.bench.gpu_stages", name, device, str(rows), *(["--tiny"] if tiny else [])]
    print(f"{name} …", file=sys.stderr, flush=True)
    print(f"== {name}", file=log, flush=True)
    before, started = log.tell(), time.monotonic()
    failure = "there was no time left" if timeout < 1 else failure_of(words, log, timeout)
    result: dict[str, Any] = {"seconds": round(time.monotonic() - started, 1)}
    if failure:
        result["error"] = [failure, *last_lines(Path(log.name), before)]
    result["rows"] = json.loads(rows.read_text(encoding="utf-8"))
    rows.unlink()
    return result


def failure_of(words: Sequence[str], log: TextIO, timeout: float) -> str | None:
    """Runs a process in a new process group, which is killed at its end; returns the reason if it failed."""
    process = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        status = process.wait(timeout)
    except subprocess.TimeoutExpired:
        return f"stopped after {timeout:.0f} s"
    finally:
        kill_group(process)  # includes its child processes, such as compilers
    return f"exit status {status}" if status else None


def last_lines(file: Path, start: int) -> list[str]:
    """Returns the last lines of the file after position `start`."""
    return file.read_bytes()[start:].decode("utf-8", "replace").splitlines()[-LAST_LINES:]


def print_table(stages: dict[str, dict[str, Any]]) -> None:
    print(f"{'':<{WIDTH}}" + "".join(f"{column:>11}" for column in COLUMNS))
    for name, stage in stages.items():
        print(f"\n{name}, {stage['seconds']} s")
        for row, values in stage["rows"].items():
            print(line_of(row, values))
        for line in stage.get("error", [])[:1] + stage.get("error", [])[-2:]:
            print(f"  ! {line[:150]}")
    sys.stdout.flush()


def line_of(row: str, values: dict[str, Any]) -> str:
    """Formats a row: the columns first, then the other values by name."""
    cells = "".join(f"{cell(values[column]) if column in values else '':>11}" for column in COLUMNS)
    others = [f"{key} {cell(value)}" for key, value in values.items() if key not in COLUMNS and key != "rounds"]
    return f"{row:<{WIDTH}}{cells}  {', '.join(others)}".rstrip()


def cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)[:150]
