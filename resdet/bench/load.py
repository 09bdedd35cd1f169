"""A load generator: clients in a separate process, each with one persistent connection.

`python -m resdet.bench.load URL IMAGE` reads lines "CLIENTS REQUESTS" and answers each with a line of JSON.
"""

import asyncio
import json
import sys
import time
from itertools import count, takewhile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

TIMEOUT = 600.0  # seconds per request


async def load(url: str, body: bytes, clients: int, requests: int) -> dict[str, Any]:
    """Sends `requests`, `clients` at a time; returns {"seconds", "latencies", "failures": counts by status}."""
    parts = urlsplit(url)
    head = f"POST {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {len(body)}\r\n\r\n"
    request = head.encode() + body
    numbers = count()  # shared
    latencies: list[float] = []
    failures: list[int] = []

    async def client() -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        for _ in takewhile(lambda number: number < requests, numbers):
            start = time.perf_counter()
            writer.write(request)
            status = await asyncio.wait_for(respond(reader), TIMEOUT)
            latencies.append(time.perf_counter() - start)
            if status != 200:
                failures.append(status)
        writer.close()

    start = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "latencies": latencies,
        "failures": {status: failures.count(status) for status in set(failures)},
    }


async def respond(reader: asyncio.StreamReader) -> int:
    """Reads a response with a Content-Length; returns its status."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = head.partition(b"content-length:")[2].split(maxsplit=1)[0]
    await reader.readexactly(int(length))
    return int(head.split(maxsplit=2)[1])


def main(url: str, image: str) -> None:
    body = Path(image).read_bytes()
    for line in sys.stdin:
        clients, requests = map(int, line.split())
        print(json.dumps(asyncio.run(load(url, body, clients, requests))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
