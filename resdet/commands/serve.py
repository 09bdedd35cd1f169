"""`resdet serve`: answers prediction requests over HTTP."""

import os
from collections.abc import Sequence
from typing import Any

from resdet.engine import distributed
from resdet.errors import ConfigError
from resdet.optional import required
from resdet.serve.limits import Limits

TOKEN = "RESDET_SERVE_TOKEN"
PACKAGE = "'resdet[serve]'"


def serve(
    words: Sequence[str],
    limits: Limits,
    workers: int = 1,
    device: str = "auto",
    token: str | None = None,
    **options: Any,
) -> int:
    """Serves the models in `words`, NAME=PATH or PATH, until SIGTERM or SIGINT; returns the exit status.

    `options`: further fields of `Settings`.
    """
    for module in ("starlette", "uvicorn", "python_multipart"):
        required(module, PACKAGE, "resdet serve")
    from resdet.serve.models import named
    from resdet.serve.processes import serve_in_processes, visible_gpus
    from resdet.serve.server import Settings
    from resdet.serve.server import serve as serve_here

    distributed.device_of(device, key="--device")
    token = os.environ.get(TOKEN) if token is None else token
    if token is not None and not (token and token.isascii() and token.isprintable()):
        raise ConfigError("The token is empty or has characters other than printable ASCII: give another one.")
    kind, _, number = device.partition(":")
    settings = Settings(named(words), device=kind, token=token, limits=limits, **options)
    if workers > 1 and not settings.port:
        raise ConfigError("--port is 0, and --workers need ports of their own: give the first of them by --port.")
    if workers > 1 or number:
        gpus = visible_gpus()
        return serve_in_processes(settings, workers, [gpus[int(number)]] if number else gpus)
    serve_here(settings)
    return 0
