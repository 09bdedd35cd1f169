"""The ASGI application: routes, authentication, JSON errors and request counts."""

import hmac
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resdet.serve import openapi, pages
from resdet.serve.limits import Limits, Refused
from resdet.serve.metrics import Gauges, Metrics
from resdet.serve.models import Models
from resdet.serve.prediction import Predictions

PROTECTED = ("/v1/", "/metrics")
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
log = logging.getLogger("resdet")


class Server:
    """The handlers of the routes."""

    def __init__(self, models: Models, limits: Limits, metrics: Metrics, pool: ThreadPoolExecutor):
        self.models, self.limits, self.metrics = models, limits, metrics
        self.predictions = Predictions(models, limits, metrics, pool)
        self.document = openapi.document(limits, models.served)
        self.in_flight = 0

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/v1/predict", self.predictions.respond, methods=["POST"]),
            Route("/v1/models", self.list_models),
            Route("/healthz", self.alive),
            Route("/readyz", self.ready),
            Route("/metrics", self.show_metrics),
            Route("/openapi.json", self.describe),
            *pages.routes(),
        ]

    async def list_models(self, request: Request) -> Response:
        described = [model.describe() for model in self.models.served.values()]
        return JSONResponse({"models": described, "max_bytes": self.limits.max_bytes})

    async def alive(self, request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def ready(self, request: Request) -> Response:
        if not self.models.ready:
            waiting = ", ".join(name for name, model in self.models.served.items() if not model.ready)
            raise Refused(503, f"Not ready: {waiting}.", Retry_After="1")
        return JSONResponse({"status": "ready"})

    async def show_metrics(self, request: Request) -> Response:
        return PlainTextResponse(self.metrics.text(self.gauges()), media_type=METRICS_TYPE)

    async def describe(self, request: Request) -> Response:
        return JSONResponse(self.document)

    def gauges(self) -> Gauges:
        served = {(("model", name),): model for name, model in self.models.served.items()}
        return {
            "resdet_queue_images": {labels: model.worker.admitted for labels, model in served.items()},
            "resdet_waiting_images": {labels: len(model.worker.items) for labels, model in served.items()},
            "resdet_model_ready": {labels: int(model.ready) for labels, model in served.items()},
            "resdet_in_flight_requests": {(): self.in_flight},
        }


def build_app(
    models: Models,
    limits: Limits,
    metrics: Metrics,
    pool: ThreadPoolExecutor,
    token: str | None = None,
    log_requests: bool = False,
) -> ASGIApp:
    """Builds the app; `token`: required for requests to /v1 and /metrics; `log_requests`: logs one line per request."""
    server = Server(models, limits, metrics, pool)
    handlers: Any = {Refused: refuse, HTTPException: refuse_http, Exception: fail}
    app = Starlette(routes=server.routes(), exception_handlers=handlers)
    return Counted(Guarded(app, token) if token else app, server, log_requests)


async def refuse(request: Request, error: Refused) -> Response:
    return JSONResponse({"error": str(error)}, error.status, error.headers)


async def refuse_http(request: Request, error: HTTPException) -> Response:
    """Handles unknown paths and methods."""
    sentence = f"{request.method} {request.url.path} does not exist: see /docs."
    return JSONResponse({"error": sentence}, error.status_code, error.headers)


async def fail(request: Request, error: Exception) -> Response:
    """Handles bugs and files that fail in their runtime; Starlette raises the error again for the log."""
    return JSONResponse({"error": "The server failed at this request: see its log."}, 500)


class Guarded:
    """Middleware that requires `Authorization: Bearer TOKEN` for protected paths."""

    def __init__(self, app: ASGIApp, token: str):
        self.app, self.expected = app, f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not scope["path"].startswith(PROTECTED):
            return await self.app(scope, receive, send)
        given = dict(scope["headers"]).get(b"authorization", b"")
        if hmac.compare_digest(given, self.expected):
            return await self.app(scope, receive, send)
        headers = {"WWW-Authenticate": "Bearer", "Connection": "close"}
        content = {"error": "The token is missing or wrong: send the header Authorization: Bearer TOKEN."}
        await JSONResponse(content, 401, headers)(scope, receive, send)


class Counted:
    """Middleware that counts requests by route and status."""

    def __init__(self, app: ASGIApp, server: Server, log_requests: bool):
        self.app, self.server, self.log_requests = app, server, log_requests
        self.known = {route.path for route in server.routes() if isinstance(route, Route)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start, status = time.monotonic(), "500"

        async def watch(message: Message) -> None:
            nonlocal status
            status = str(message.get("status", status))
            await send(message)

        self.server.in_flight += 1
        try:
            await self.app(scope, receive, watch)
        finally:
            self.server.in_flight -= 1
            route = scope["path"] if scope["path"] in self.known else "other"
            self.server.metrics.count("resdet_requests_total", route=route, status=status)
            if self.log_requests:
                milliseconds = 1000 * (time.monotonic() - start)
                log.info("%s %s %s %.1f ms", scope["method"], scope["path"], status, milliseconds)
