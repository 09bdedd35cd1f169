"""Tests details of the server that mutation testing found: exact limits, headers and model states."""

import asyncio
import itertools
import logging
import os
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from serve.serving import CLASSES, PATIENCE, StandIn, form, picture

from resdet.errors import Error
from resdet.images import decode
from resdet.images.header import read_header
from resdet.model import Prepared
from resdet.results.result import Result
from resdet.serve import app, prediction, worker
from resdet.serve.app import Counted, build_app, fail
from resdet.serve.limits import Limits, Refused
from resdet.serve.metrics import Metrics
from resdet.serve.models import Models, ServedModel, stamp_of
from resdet.serve.pages import FILES
from resdet.serve.prediction import Predictions, all_of, server_timing
from resdet.serve.worker import Item, select


class Classes(StandIn):
    """Returns the first `top` of ten classes, and records the requested numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.tops: list[int | None] = []

    def predict_prepared(self, images, score=None, top=None):
        self.tops.append(top)
        return [result.select(range(min(top or 10, 10))) for result in super().predict_prepared(images)]

    def result(self, size):
        scores = np.linspace(0.9, 0.1, 10, dtype=np.float32)
        boxes = np.tile(np.array([0, 0, size[1], size[0]], np.float32), (10, 1))
        return Result.of(boxes, scores, np.arange(10), [str(number) for number in range(10)], size)


def test_invalid_tokens_are_rejected(serve):
    """Checks the WWW-Authenticate header and that the connection is closed, also for a token with a valid prefix."""
    server = serve(token="secret")
    for given in ("Bearer secrets", "Bearer secret ", "secret", "bearer"):
        response = server.get("/v1/models", authorization=given)
        assert response.status == 401 and response.headers["www-authenticate"] == "Bearer"
        assert response.headers["connection"] == "close"
    refused = (("route", "/v1/models"), ("status", "401"))
    assert server.metrics.counts["resdet_requests_total", refused] > 0


def test_the_allow_header_lists_the_methods_of_a_path(serve):
    response = asyncio.run(serve().ask("GET", "/v1/predict"))
    assert response.status == 405 and response.headers["allow"] == "POST"


def test_unexpected_errors_hide_the_traceback(serve):
    """Checks that the response omits the exception, that it is raised again for the log, and that it is counted."""
    server = serve()
    response = asyncio.run(fail(None, ZeroDivisionError("x")))
    assert response.status_code == 500 and b"see its log" in response.body and b"x" not in response.body
    server.models.get(None).describe = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):  # for uvicorn's log
        server.get("/v1/models")
    shown = server.get("/metrics").body.decode()
    assert 'resdet_requests_total{route="/v1/models",status="500"} 1' in shown
    assert "resdet_in_flight_requests 1" in shown


def test_unexpected_errors_are_sent_as_json(serve):
    """Checks that the error handler responds before the exception is raised again."""
    server, sent = serve(), []
    server.models.get(None).describe = lambda: 1 / 0
    scope = {"type": "http", "method": "GET", "path": "/v1/models", "query_string": b"", "headers": []}

    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(message):
        sent.append(message)

    with pytest.raises(ZeroDivisionError):
        asyncio.run(server.app(scope, receive, send))
    assert sent[0]["status"] == 500 and b'{"error":' in sent[1]["body"]


def test_a_request_without_a_response_counts_as_status_500(serve):
    """Checks a request whose handler sends no response, as if canceled after the client disconnected."""

    async def silent(scope, receive, send):
        pass

    server = SimpleNamespace(routes=list, in_flight=0, metrics=Metrics())
    asyncio.run(Counted(silent, server, False)({"type": "http", "path": "/"}, None, None))
    assert server.metrics.counts["resdet_requests_total", (("route", "other"), ("status", "500"))] == 1


@pytest.mark.parametrize("wanted", [True, False])
def test_requests_are_logged_if_enabled(wanted, serve, caplog, monkeypatch):
    """Simulates a clock that advances by a quarter of a second between two readings."""
    monkeypatch.setattr(app, "time", SimpleNamespace(monotonic=itertools.count(step=0.25).__next__))
    server = serve()
    server.app = build_app(server.models, Limits(), server.metrics, ThreadPoolExecutor(1), log_requests=wanted)
    with caplog.at_level(logging.INFO, "resdet"):
        server.get("/healthz")
    lines = [line for line in caplog.messages if "/healthz" in line]
    assert lines == ["GET /healthz 200 250.0 ms"] * wanted


def test_the_waiting_metric_excludes_the_running_batch(serve):
    stand_in = StandIn()
    server = serve(Limits(max_wait=0), boxes=stand_in.loaded())
    stand_in.started.clear()
    stand_in.go_on.clear()
    items = [Item(stand_in, Prepared(None, None, (9, 9)), None, None) for _ in range(3)]
    queue = server.models.get(None).worker
    queue.submit(items[0])
    assert stand_in.started.wait(PATIENCE)
    for item in items[1:]:
        queue.submit(item)
    shown = server.get("/metrics").body.decode()
    stand_in.go_on.set()
    assert 'resdet_waiting_images{model="boxes"} 2' in shown and 'resdet_queue_images{model="boxes"} 0' in shown
    assert all(item.result.result(PATIENCE) for item in items)


def test_security_headers_of_the_pages(serve):
    server = serve()
    for path in FILES:
        headers = server.get(path).headers
        assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-cache"
        assert headers["referrer-policy"] == "no-referrer"
        for rule in ("frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'", "connect-src 'self'"):
            assert rule in headers["content-security-policy"]


def test_the_image_format_takes_a_single_image(serve):
    body, kind = form([("a.png", picture())] * 2)
    response = serve().post(body, query={"format": "image"}, content_type=kind)
    assert response.status == 422 and "takes one image, and the request has 2" in response.json["error"]


def test_drawings_too_long_for_jpeg_are_rejected(serve):
    response = serve().post(picture(1, 65_536), query={"format": "image"})
    assert response.status == 422 and "too long for a JPEG file" in response.json["error"]


def test_limits_are_inclusive(serve):
    """Checks that a request at the limits is accepted and that one more byte, pixel or image is rejected."""
    data = picture(20, 30)
    limits = Limits(max_bytes=len(data), max_pixels=600)
    for headers in ({}, {"content_length": str(len(data))}, {"content_type": "Image/PNG"}):
        assert serve(limits).post(data, **headers).status == 200
    for fewer in (Limits(max_bytes=len(data) - 1), Limits(max_pixels=599)):
        assert serve(fewer).post(data).status == 413
    body, kind = form([("a.png", data)] * 2)
    assert serve(Limits(queue=2, max_images=2)).post(body, content_type=kind).status == 200
    assert serve(Limits(queue=1)).post(body, content_type=kind).status == 400  # not 503, since no retry is accepted


@pytest.mark.parametrize("name", ["max_batch", "queue", "timeout", "body_timeout", "max_bytes", "max_pixels"])
def test_limits_of_zero_are_rejected(name):
    with pytest.raises(Error, match=name):
        Limits(**{name: 0})
    assert Limits(max_wait=0).max_wait == 0


@pytest.mark.parametrize("score, count", [("0", 3), ("0.25", 3), ("1", 0)])
def test_scores_of_zero_and_one_are_accepted(serve, score, count):
    assert len(serve().post(picture(), query={"score": score}).json["results"][0]["detections"]) == count


def test_selection_includes_the_score_threshold():
    result = SimpleNamespace(scores=np.array([0.75, 0.5, 0.25]), select=list)
    assert select(result, 0.5, None) == [0, 1] and select(result, None, 2) == [0, 1] and select(result, 0.5, 1) == [0]


def test_top_limits_the_classes_per_request(serve):
    """Checks the default of five, and that a batch is predicted with its largest `top` and cut to each request's."""
    stand_in = Classes()
    server = serve(Limits(max_batch=3, max_wait=60), classes=stand_in.loaded("top"))
    for query, count in (({}, 5), ({"top": 10}, 10), ({"top": 100_000}, 10)):
        assert len(server.post(picture(), query=query).json["results"][0]["detections"]) == count

    async def together():
        ask = lambda top: server.ask("POST", f"/v1/predict?top={top}", picture())
        return await asyncio.gather(*map(ask, (2, 7, 4)))

    counts = [len(response.json["results"][0]["detections"]) for response in asyncio.run(together())]
    assert counts == [2, 7, 4] and stand_in.tops[-1] == 7


def test_models_run_one_at_a_time(serve):
    """Checks that the lock is held, since Dynamo cannot trace a model while another one runs."""
    held = []

    class Watched(StandIn):
        def predict_prepared(self, images, score=None, top=None):
            held.append(worker.DEVICE.locked())
            return super().predict_prepared(images, score, top)

    assert serve(boxes=Watched().loaded()).post(picture()).status == 200
    assert held == [True, True]  # including the warmup


def test_errors_of_the_model_are_logged(serve, caplog):
    stand_in = StandIn()
    server = serve(boxes=stand_in.loaded())
    stand_in.failing = {(5, 6)}
    assert server.post(picture(5, 6)).status == 500
    assert "boxes failed" in caplog.text and "out of memory" in caplog.text


def test_the_header_of_an_image_is_read_once(serve, monkeypatch):
    calls = []
    monkeypatch.setattr(decode, "read_header", lambda data: calls.append(data) or read_header(data))
    assert serve().post(picture()).status == 200
    assert calls == [picture()]


def test_stage_times_are_the_maxima_over_images():
    items = [SimpleNamespace(decoded=seconds, queued=2 * seconds, predicted=0.5) for seconds in (1.0, 3.0, 2.0)]
    seconds = Predictions(None, Limits(), Metrics(), None).observe("boxes", items, 0.25)
    assert seconds == {"decode": 3, "queue": 6, "net": 0.5, "encode": 0.25}


def test_stage_times_exclude_the_wait_for_a_thread(serve, monkeypatch):
    """Simulates a pool whose threads are busy for an hour before each call."""
    server, clock = serve(), SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(prediction, "time", clock)

    class Busy(ThreadPoolExecutor):
        def submit(self, *given):
            clock.now += 3600
            return super().submit(*given)

    with Busy(1) as pool:
        server.app = build_app(server.models, Limits(), server.metrics, pool)
        timing = server.post(picture()).headers["server-timing"]
    assert "decode;dur=0.0" in timing and "encode;dur=0.0" in timing
    assert server.metrics.sums["resdet_request_seconds", (("model", "boxes"),)] == 2 * 3600


def test_server_timing_is_in_milliseconds():
    assert server_timing({"decode": 0.25, "net": 0.0015}) == "decode;dur=250.0, net;dur=1.5"


def test_times_in_the_queue_and_in_the_net(monkeypatch):
    """Simulates a clock: an image arrives at 1 s, is taken from the queue at 3 s, and the net takes 5 s."""
    clock = SimpleNamespace(now=1.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(worker, "time", clock)

    class Slow(StandIn):
        def predict_prepared(self, images, score=None, top=None):
            clock.now += 5
            return super().predict_prepared(images)

    item = Item(Slow(), Prepared(None, None, (9, 9)), None, None)
    queue = worker.Worker("boxes", Limits(), Metrics())
    queue.submit(item)
    clock.now = 3.0
    queue.predict([item])
    assert (item.arrived, item.queued, item.predicted) == (1, 2, 5)


def test_a_failure_cancels_the_other_images_of_the_request():
    failed, waiting = Future(), Future()
    failed.set_exception(Refused(422, "no image"))

    async def both():
        with pytest.raises(Refused):
            await all_of(map(asyncio.wrap_future, (waiting, failed)))
        await asyncio.sleep(0)

    asyncio.run(both())
    assert waiting.cancelled()


@pytest.fixture
def served(tmp_path):
    (tmp_path / "best.pth").write_text("first")
    served = ServedModel("best", str(tmp_path / "best.pth"), lambda path: StandIn().loaded(), Limits(), Metrics())
    yield served
    if served.worker.is_alive():
        served.worker.stop()
        served.worker.join(PATIENCE)


def test_the_description_of_a_model(served):
    """Checks that the file is given without its folder, and that the model is ready while its thread runs."""
    assert served.describe()["loaded_at"] is None and not served.ready
    served.worker.start()
    served.load()
    described = served.describe()
    assert described["file"] == "best.pth" and described["ready"] and described["classes"] == CLASSES
    assert described["loaded_at"] > os.stat(served.path).st_mtime - 60
    served.worker.stop()
    served.worker.join(PATIENCE)
    assert not served.ready and not served.describe()["ready"] and not Models([served]).ready


def test_a_model_replaces_the_previous_one_once_it_has_predicted(served):
    """Checks that a model whose first prediction fails never gets a request."""
    served.load()
    first = served.current

    class Failing(StandIn):
        def predict_prepared(self, images, score=None, top=None):
            assert served.current is first
            raise RuntimeError("out of memory")

    served.load_file = lambda path: Failing().loaded()
    with pytest.raises(RuntimeError):
        served.load()
    assert served.current is first


def test_the_stamp_depends_on_the_file_size(served):
    before, state = stamp_of(served.path), os.stat(served.path)
    with open(served.path, "a") as file:
        file.write("and more")
    os.utime(served.path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert stamp_of(served.path) != before


def test_a_model_that_fails_to_load_is_not_polled(served):
    """Checks that the failure is passed on, which ends the server, and that the polling thread ends."""
    failures = []
    served.load_file = lambda path: 1 / 0
    models = Models([served], poll=PATIENCE, failed=failures.append)
    models.start()
    models.join(PATIENCE)
    assert isinstance(failures[0], ZeroDivisionError) and not models.is_alive()


def test_a_batch_is_predicted_with_its_lowest_score_and_largest_top():
    asked = []
    predictor = SimpleNamespace(predict_prepared=lambda images, **given: asked.append(given) or [])
    worker.run([Item(predictor, None, score, top) for score, top in ((0.5, None), (0.2, 3), (None, 2))])
    assert asked == [{"score": 0.2, "top": 3}]
