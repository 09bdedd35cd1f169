"""Runs the application with uvicorn until SIGTERM or Ctrl-C, and finishes accepted requests before it stops."""

import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.server import HANDLED_SIGNALS

from resdet.errors import ConfigError
from resdet.fast import Compile
from resdet.hub import Mode
from resdet.serve.app import build_app
from resdet.serve.connection import Connection
from resdet.serve.limits import Limits
from resdet.serve.metrics import Metrics
from resdet.serve.models import Models, ServedModel, loader
from resdet.system import INTERRUPTED, keep_freed_memory, shares_ports, usable_cores

DECODERS = 8  # maximum number of threads
LAST_WORD = 5.0  # seconds for threads to end
log = logging.getLogger("resdet")


@dataclass(frozen=True)
class Settings:
    """The options of `resdet serve`."""

    models: dict[str, str]  # paths by name
    host: str = "127.0.0.1"
    port: int = 8000
    device: str = "auto"
    mode: Mode = "fast"
    compile: Compile = "auto"
    classifiers: Sequence[str] = ()
    token: str | None = None
    poll: float = 2.0  # seconds between checks of the files
    log_requests: bool = False
    limits: Limits = field(default_factory=Limits)


def serve(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT; raises the error of a model that cannot be loaded."""
    log_to_stderr()
    keep_freed_memory()
    listening = bind(settings.host, settings.port)
    limits, metrics, failures = settings.limits, Metrics(), list[Exception]()

    def fail(error: Exception) -> None:
        failures.append(error)
        server.should_exit = True

    load = loader(settings.device, settings.mode, settings.compile, settings.classifiers)
    models = Models(
        [ServedModel(name, path, load, limits, metrics) for name, path in settings.models.items()], settings.poll, fail
    )
    with ThreadPoolExecutor(min(DECODERS, usable_cores()), "resdet-images") as pool:
        app = build_app(models, limits, metrics, pool, settings.token, settings.log_requests)
        server = Server(configuration(app, limits))
        with stopped_by_signals(server):
            models.start()
            log.info("listening at %s", url_of(settings.host, listening.getsockname()[1]))
            server.run(sockets=[listening])
        models.stop()
    for model in models.served.values():
        if model.worker.is_alive():
            model.worker.join(LAST_WORD)
    if failures:
        raise failures[0]
    log.info("stopped")


class Server(uvicorn.Server):
    """uvicorn's server; a second Ctrl-C ends the process immediately, without printing canceled requests."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit and sig == signal.SIGINT:
            os._exit(INTERRUPTED)
        super().handle_exit(sig, frame)


def configuration(app: Any, limits: Limits) -> uvicorn.Config:
    protocol = type("TimedConnection", (Connection,), {"header_timeout": limits.body_timeout})
    return uvicorn.Config(
        app, http=protocol, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False
    )


def bind(host: str, port: int) -> socket.socket:
    """Returns a socket bound to the address; port 0: any free port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio disables Nagle's algorithm, which delays responses by 40 ms, only for sockets with an explicit protocol.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if not shares_ports():
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        listening.close()
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"Cannot listen at {host}:{port} ({reason}): give another --host or --port.") from None
    return listening


def url_of(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def stopped_by_signals(server: uvicorn.Server) -> Iterator[None]:
    """Context in which signals stop the server with exit status 0: uvicorn raises them again after it has stopped.

    Signals that arrive before uvicorn installs its handlers also stop it.
    """

    def stop(number: int, frame: Any) -> None:
        server.should_exit = True

    former = {number: signal.signal(number, stop) for number in HANDLED_SIGNALS}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    for name, level in (("resdet", logging.INFO), ("uvicorn.error", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.handlers = [handler]
