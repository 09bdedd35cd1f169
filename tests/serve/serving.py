"""Provides an in-process server, stand-ins for models, and an ASGI client that sends arbitrary bodies."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import cv2
import numpy as np
import uvicorn

from resdet.images.decode import as_image
from resdet.model import Prepared
from resdet.results.result import Result
from resdet.serve.app import build_app
from resdet.serve.limits import Limits
from resdet.serve.metrics import Metrics
from resdet.serve.models import Loaded, Models, ServedModel
from resdet.serve.server import bind, configuration

CLASSES = ["disc", "square", "bar"]
PATIENCE = 300  # seconds after which a test counts as hanging


class StandIn:
    """Detects the whole image once per class, with scores 0.9, 0.6 and 0.3; records the image sizes of its batches."""

    def __init__(self) -> None:
        self.batches: list[list[tuple[int, int]]] = []
        self.started, self.go_on = Event(), Event()
        self.go_on.set()
        self.failing: set[tuple[int, int]] = set()  # sizes of images that make it fail

    def prepare_image(self, image: Any) -> Prepared:
        pixels = as_image(image).decode()
        return Prepared(None, pixels, pixels.shape[:2])

    def predict_prepared(self, images: Sequence[Prepared], score: float | None = None, top: int | None = None) -> list:
        self.batches.append([image.size for image in images])
        self.started.set()
        assert self.go_on.wait(PATIENCE)
        if self.failing.intersection(self.batches[-1]):
            raise RuntimeError("out of memory")
        return [self.result(image.size) for image in images]

    def result(self, size: tuple[int, int]) -> Result:
        boxes = np.array([[0, 0, size[1], size[0]]] * 3, np.float32)
        return Result.of(boxes, np.array([0.9, 0.6, 0.3], np.float32), np.arange(3), CLASSES, size)

    def loaded(self, *options: str) -> Loaded:
        model = SimpleNamespace(task="detection", classes=CLASSES)
        return Loaded(model, self, frozenset(options or ("score", "draw")))


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Serving:
    """The application and its loaded models."""

    app: Any
    models: Models
    metrics: Metrics

    def get(self, path: str, **headers: str) -> Response:
        return asyncio.run(self.ask("GET", path, headers=headers))

    def post(self, body: bytes, path: str = "/v1/predict", query: Any = (), **headers: str) -> Response:
        return asyncio.run(self.ask("POST", f"{path}?{urlencode(query)}", body=body, headers=headers))

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes | AsyncIterator[bytes] = b"",
        headers: dict[str, str] | None = None,
        left: asyncio.Event | None = None,
    ) -> Response:
        """Sends a request; an iterator sends chunks without Content-Length; `left`: set when the client disconnects."""
        path, _, query = path.partition("?")
        given = [(name.replace("_", "-").lower().encode(), text.encode()) for name, text in (headers or {}).items()]
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
            "headers": given, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
        }  # fmt: skip
        chunks, sent = pieces(body, left or asyncio.Event()), []
        await self.app(scope, lambda: anext(chunks), lambda message: keep(sent, message))
        start, content = sent[0], b"".join(message.get("body", b"") for message in sent[1:])
        return Response(start["status"], {k.decode(): v.decode() for k, v in start["headers"]}, content)


async def pieces(body: bytes | AsyncIterator[bytes], left: asyncio.Event) -> AsyncIterator[dict[str, Any]]:
    if not isinstance(body, bytes):
        async for chunk in body:
            yield {"type": "http.request", "body": chunk, "more_body": True}
        body = b""
    yield {"type": "http.request", "body": body, "more_body": False}
    await left.wait()
    yield {"type": "http.disconnect"}


async def keep(sent: list, message: Any) -> None:
    sent.append(message)


@dataclass
class Servers:
    """Starts servers and stops their threads."""

    started: list[Models] = field(default_factory=list)
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(2))

    def __call__(self, limits: Limits | None = None, token: str | None = None, **loaded: Loaded) -> Serving:
        """Starts a server of these models by name, by default of one stand-in."""
        limits, metrics = limits or Limits(), Metrics()
        loaded = loaded or {"boxes": StandIn().loaded()}
        models = Models([ServedModel(name, name, loaded.get, limits, metrics) for name in loaded])
        self.started.append(models)
        for model in models.served.values():
            model.worker.start()
            model.load()
        return Serving(build_app(models, limits, metrics, self.pool, token), models, metrics)

    def stop(self) -> None:
        for models in self.started:
            models.stop()
            for model in models.served.values():
                model.worker.join(PATIENCE)
        self.pool.shutdown()


def picture(height: int = 20, width: int = 30, suffix: str = ".png") -> bytes:
    """Returns an encoded image with a gradient."""
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([rows * 255 // height, columns * 255 // width, rows * 0 + 99], 2).astype(np.uint8)
    return cv2.imencode(suffix, pixels)[1].tobytes()


def form(files: Iterable[tuple[str, bytes]], boundary: str = "x" * 20) -> tuple[bytes, str]:
    """Returns the body and the content type of a form with files (name, content)."""
    body = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'.encode()
        + content
        + b"\r\n"
        for name, content in files
    )
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def until(reached: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.01)


@contextmanager
def listening(app: Any) -> Iterator[str]:
    """Runs a server in a thread and yields its address."""
    listener = bind("127.0.0.1", 0)
    server = uvicorn.Server(configuration(app, Limits()))
    thread = Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    listener.listen()  # connections wait until the server is up
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(PATIENCE)


def exchange(url: str, words: bytes) -> bytes:
    """Returns the server's response up to the end of the connection."""
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        try:
            connection.sendall(words)
            return b"".join(iter(lambda: connection.recv(2**16), b""))
        except (BrokenPipeError, ConnectionResetError):  # closed before all bytes were read
            return b"HTTP/1.1 400"
