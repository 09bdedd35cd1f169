"""`resdet serve` under load, against the same model in this process on the same number of files.

The server and the clients are separate processes that share the cores of the machine.
"""

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import torch

from resdet import hub
from resdet.bench.load import TIMEOUT
from resdet.bench.nets import NOT_INSTALLED, missing
from resdet.bench.process import Process, exit_on_sigterm
from resdet.errors import Error
from resdet.images.encode import write_image
from resdet.images.photographs import photograph
from resdet.timing import MEGABYTES, Case
from resdet.weights import save_weights

NETS = {
    "ResNet-20 on CIFAR": ("cifar10_resnet20.yaml", "model.num_classes=10"),
    "ResNet-50": ("imagenet_r50.yaml", "model.num_classes=1000"),
    "Faster R-CNN R50-FPN": ("coco_r50_fpn.yaml", "model.num_classes=80", "model.pretrained=null"),
}
REQUESTS = {"ResNet-20 on CIFAR": 4096, "ResNet-50": 512, "Faster R-CNN R50-FPN": 64}  # per round
CLIENTS = (1, 8, 64)
SIZE = (480, 640)  # height and width of the image
BATCH = 8  # the server's default
PACKAGES = ("starlette", "uvicorn", "python_multipart")


def cases(
    nets: dict[str, Sequence[str]] | None = None, requests: int | None = None, device: str = "cpu"
) -> Iterator[Case]:
    for name, words in (nets or NETS).items():
        yield from cases_of(name, words, requests or REQUESTS[name], device)


def cases_of(name: str, words: Sequence[str], requests: int, device: str) -> Iterator[Case]:
    title = f"{name}, {requests} images of {SIZE[1]} × {SIZE[0]}"
    if missing(*PACKAGES):
        yield Case(title, requests, {f"{clients} clients": NOT_INSTALLED for clients in CLIENTS})
        return
    with ExitStack() as stack:
        stack.enter_context(exit_on_sigterm())
        folder = Path(stack.enter_context(TemporaryDirectory()))
        weights, image = folder / "net.safetensors", folder / "image.jpg"
        write_image(image, cv2.resize(photograph(np.random.default_rng(0)), SIZE[::-1]))
        torch.manual_seed(0)
        save_weights.save(hub.build(*words), weights, "safetensors")
        model = hub.load(weights, mode="fast", device=device)
        notes: dict[str, str] = {}  # by side

        def alone() -> None:
            start = time.process_time()
            for _ in model.predict([image] * requests, batch=BATCH, stream=True):
                pass
            notes["model"] = f"model: CPU {ms((time.process_time() - start) / requests)} an image"

        server = stack.enter_context(Server(weights, device))
        clients = stack.enter_context(Clients(f"{server.url}/v1/predict", image))
        case = Case(title, requests, {f"model, batches of {BATCH}": alone}, warm=False)
        loads = {f"{n} clients": clients.side(case, notes, n, requests, server) for n in CLIENTS}
        case.sides = {**case.sides, **loads}
        model.predict([image] * BATCH)
        clients.load(BATCH, BATCH)
        before = server.memory()
        yield case
        sides = {"after the first request": lambda: before, "after all": server.memory}
        yield Case(f"{name}, memory of the server, {clients.requests} requests", 1, sides, unit=MEGABYTES)


class Server(Process):
    def __init__(self, weights: Path, device: str):
        words = ("resdet.cli", "serve", str(weights), "--port", "0", "--device", device, "--max-batch", str(BATCH))
        limit = ("--timeout", str(TIMEOUT))  # 64 clients of a detector wait longer than the default on a CPU
        super().__init__(*words, *limit, stderr=subprocess.PIPE)
        self.url = self.wait_for(r"listening at (\S+)")
        self.wait_for("(is ready)")

    def wait_for(self, pattern: str) -> str:
        lines = []
        for line in self.process.stderr or ():
            lines.append(line)
            if match := re.search(pattern, line):
                return match[1]
        raise Error(f"resdet serve ended: {' '.join(lines)}")

    def memory(self) -> float:
        """Resident memory in megabytes (Linux only)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        match = re.search(r"VmRSS:\s+(\d+) kB", status)
        return int(match[1]) / 1000 if match else float("nan")

    def cpu_seconds(self) -> float:
        """CPU time of all threads of the server; 0 except on Linux."""
        files = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(file.read_text(encoding="utf-8").split()[0]) for file in files) / 1e9


class Clients(Process):
    def __init__(self, url: str, image: Path):
        super().__init__("resdet.bench.load", url, str(image), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.requests = 0  # so far

    def load(self, clients: int, requests: int) -> list[float]:
        """Sends the requests; returns their latencies in seconds."""
        assert self.process.stdin and self.process.stdout
        print(clients, requests, file=self.process.stdin, flush=True)
        answer = json.loads(self.process.stdout.readline())
        if answer["failures"]:
            raise Error(f"resdet serve answered with other statuses than 200: {answer['failures']}.")
        self.requests += requests
        return answer["latencies"]

    def side(
        self, case: Case, notes: dict[str, str], clients: int, requests: int, server: Server
    ) -> Callable[[], None]:
        """Returns a function that runs one round with `clients` and adds latencies and CPU time to `notes`."""

        def run() -> None:
            before = server.cpu_seconds()
            percentiles = quantiles(self.load(clients, requests), n=100, method="inclusive")
            cpu = (server.cpu_seconds() - before) / requests
            latencies = f"p50 {ms(percentiles[49])}, p99 {ms(percentiles[98])}"
            notes[str(clients)] = f"{clients} clients: {latencies}, CPU of the server {ms(cpu)} a request"
            case.note = "last round: " + "; ".join(notes.values())

        return run


def ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"
