"""Trains on several simulated machines, each a network namespace, and removes or adds machines during the run.

    unshare -n -m python tests/engine/namespaces.py [--case NAME …] [--folder DIR] [--timeout 20]

Needs root and iproute2. Prints a table: the event, the seconds from it to the next step, the last step, the largest
difference of a training loss from the first case's (until 20 steps after the event, and overall), the exit statuses of
torchrun, and the messages of one process.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from running import TINY  # noqa: E402

REPOSITORY = Path(__file__).parents[2]
RUN = [*TINY, "model.backbone.norm=gn", "train.batch=12", "train.unit=steps", "train.length=400", "train.log_every=5"]
RUN += ["train.evaluate_every=200", "train.checkpoint_every=20", "train.deterministic=true"]
EVENT = 60  # the step after which the event happens
LIMIT = 240  # seconds until a case is given up


def ip(*words):
    subprocess.run(["ip", *map(str, words)], check=True)


class Machine:
    """A network namespace with an address, in which torchrun is started."""

    def __init__(self, number):
        self.number, self.link = number, f"port{number}"
        self.holder = subprocess.Popen(["unshare", "-n", "sleep", "100000"])
        time.sleep(0.3)
        ip("link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", self.holder.pid)
        ip("link", "set", self.link, "master", "switch", "up")
        for words in (["addr", "add", f"10.9.0.{number}/24", "dev", "eth0"], ["link", "set", "eth0", "up"]):
            self.inside("ip", *words)
        self.inside("ip", "link", "set", "lo", "up")

    def enter(self, *words):
        return ["nsenter", "-t", str(self.holder.pid), "-n", *map(str, words)]

    def inside(self, *words):
        subprocess.run(self.enter(*words), check=True)

    def start(self, folder, name, machines, timeout):
        conf = f"is_host={int(self.number == 1)},last_call_timeout=3"
        words = ["torchrun", "--nnodes", f"1:{machines}", "--nproc-per-node", 1, "--max-restarts", 5]
        words += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "10.9.0.1:29400", "--rdzv-id", name]
        words += ["--rdzv-conf", conf, "--local-addr", f"10.9.0.{self.number}", "-m", "resdet.cli", "train", *RUN]
        words += [f"train.ddp.timeout={timeout}", "--out", folder / name]
        more = {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "eth0"}
        more["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
        command = [sys.executable, "-m", "torch.distributed.run", *map(str, words[1:])]
        self.log = folder / f"{name}-{self.number}.log"
        with self.log.open("w") as log:
            pipes = {"stdout": log, "stderr": subprocess.STDOUT, "start_new_session": True}
            self.torchrun = subprocess.Popen(self.enter(*command), env={**os.environ, **more}, **pipes)

    def signal(self, number):
        """Sends a signal to torchrun and to its child processes, which run in separate sessions."""
        children = Path(f"/proc/{self.torchrun.pid}/task/{self.torchrun.pid}/children").read_text().split()
        for process in (self.torchrun.pid, *map(int, children)):
            os.kill(process, number)

    def end(self):
        if self.torchrun.poll() is None:
            self.signal(signal.SIGKILL)
        self.torchrun.wait()
        self.holder.kill()
        self.holder.wait()
        subprocess.run(["ip", "link", "del", self.link], stderr=subprocess.DEVNULL)  # removed later otherwise


def steps(folder):
    log = folder / "metrics.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")] if log.exists() else []
    return {line["step"]: line["cross_entropy"] for line in lines if line["kind"] == "train"}


def wait(condition, machines, start):
    while not condition():
        if time.monotonic() - start > LIMIT or all(one.torchrun.poll() is not None for one in machines):
            return
        time.sleep(0.1)


def case(name, home, count, event, timeout):
    """Runs with `count` machines until the event and then to the end."""
    folder, start = home / name, time.monotonic()
    machines = [Machine(number + 1) for number in range(count)]
    for one in machines:
        one.start(home, name, count + (event == "join"), timeout)
    wait(lambda: max(steps(folder), default=0) >= EVENT, machines, start)
    before, hit, last = max(steps(folder), default=0), time.monotonic(), machines[-1]
    if event == "kill":
        last.signal(signal.SIGKILL)
    elif event == "cut":
        ip("link", "set", last.link, "down")
    elif event == "pause":
        last.signal(signal.SIGSTOP)
    elif event == "join":
        machines.append(Machine(count + 1))
        machines[-1].start(home, name, count + 1, timeout)
    size = lambda: json.loads((folder / "run.json").read_text())["processes"] if (folder / "run.json").exists() else 0
    seconds = 0.0
    if event:
        wait(lambda: size() not in (0, count), machines, start)
        wait(lambda: max(steps(folder), default=0) > before or size() == count, machines, start)
        seconds = time.monotonic() - hit
    wait(lambda: all(one.torchrun.poll() is not None for one in machines[: count - (event not in (None, "join"))]),
         machines, start)  # fmt: skip
    statuses = [one.torchrun.poll() for one in machines]
    text = "\n".join(one.log.read_text() for one in machines)
    for one in machines:
        one.end()
    said = re.findall(r"resdet: (Process .*?\))", text)
    resumed = re.findall(r"(resuming from step \d+|processes were \d+ and are \d+)", text)
    return seconds, steps(folder), statuses, [*said[:1], *resumed[:2]]


CASES = {
    "whole-2": (2, None),
    "whole-4": (4, None),
    "kill-2": (2, "kill"),
    "cut-2": (2, "cut"),
    "pause-2": (2, "pause"),
    "join-2": (2, "join"),
    "kill-4": (4, "kill"),
    "cut-4": (4, "cut"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--folder", type=Path, default=Path(tempfile.mkdtemp()))
    parser.add_argument("--timeout", type=int, default=20, help="train.ddp.timeout")
    given = parser.parse_args()
    ip("link", "add", "switch", "type", "bridge")
    ip("link", "set", "switch", "up")
    whole = {}
    print("| case | seconds to the next step | steps | difference soon after | in all | statuses | printed |")
    for name in given.case:
        seconds, found, statuses, said = case(name, given.folder, *CASES[name], given.timeout)
        whole = whole or found
        near, far = (
            max((abs(found[step] - whole[step]) for step in found if step in whole and step <= last), default=1)
            for last in (EVENT + 20, max(whole))
        )
        row = [name, f"{seconds:.0f}", max(found, default=0), f"{near:.1e}", f"{far:.1e}", statuses, said]
        print("|", " | ".join(map(str, row)), "|", flush=True)


if __name__ == "__main__":
    main()
