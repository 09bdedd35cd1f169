"""A load generator: clients in threads of a process of its own, each with one connection that it keeps.

`python -m resdet.bench.load URL IMAGE` reads lines "CLIENTS REQUESTS" and answers each with a line of JSON.
"""

import json
import sys
import time
from http.client import HTTPConnection
from itertools import count, takewhile
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

TIMEOUT = 600.0  # seconds
TYPE = {"Content-Type": "application/octet-stream"}


def load(url: str, body: bytes, clients: int, requests: int) -> dict[str, Any]:
    """Sends `requests`, `clients` at a time: {"seconds", "latencies", "failures": the number of each other status}."""
    numbers = count()  # shared: `next` is atomic
    latencies: list[float] = []
    failures: list[int] = []

    def client() -> None:
        parts = urlsplit(url)
        connection = HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT)
        for _ in takewhile(lambda number: number < requests, numbers):
            start = time.perf_counter()
            connection.request("POST", f"{parts.path}?{parts.query}", body, TYPE)
            response = connection.getresponse()
            response.read()
            latencies.append(time.perf_counter() - start)
            if response.status != 200:
                failures.append(response.status)
        connection.close()

    threads = [Thread(target=client) for _ in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "latencies": latencies,
        "failures": {status: failures.count(status) for status in set(failures)},
    }


def main(url: str, image: str) -> None:
    body = Path(image).read_bytes()
    for line in sys.stdin:
        clients, requests = map(int, line.split())
        print(json.dumps(load(url, body, clients, requests)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
