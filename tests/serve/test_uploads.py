"""Tests the reading of uploads: aborted, slow, chunked and invalid bodies."""

import asyncio
import gc
import weakref
from tempfile import SpooledTemporaryFile
from types import SimpleNamespace

import pytest
from serve.serving import form, picture
from starlette import formparsers
from starlette.requests import Request

from resdet.serve import uploads
from resdet.serve.limits import Limits, Refused
from resdet.serve.uploads import read_uploads


def test_a_disconnected_client():
    async def receive():
        return {"type": "http.disconnect"}

    request = Request({"type": "http", "headers": []}, receive)
    with pytest.raises(Refused, match="disconnected before the end") as refused:
        asyncio.run(read_uploads(request, Limits(), None))
    assert refused.value.status == 499


def test_an_aborted_upload_takes_no_memory(serve):
    """Checks that the body is freed without the garbage collector, which does not count the bytes of objects."""

    class Body(bytearray):  # can have weak references
        pass

    kept = []

    async def receive():
        if kept:
            return {"type": "http.disconnect"}
        body = Body(2**20)
        kept.append(weakref.ref(body))
        return {"type": "http.request", "body": body, "more_body": True}

    async def send(message):
        pass

    scope = {"type": "http", "method": "POST", "path": "/v1/predict", "query_string": b"", "headers": []}
    server = serve()
    gc.disable()
    try:
        asyncio.run(server.app(scope, receive, send))
        assert kept[0]() is None
    finally:
        gc.enable()


def test_the_body_timeout_limits_the_whole_body(serve, monkeypatch):
    """Simulates a clock that advances by a second with each chunk."""
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(uploads, "time", clock)

    async def trickle():
        for _ in range(20):
            clock.now += 1
            yield b"x"

    server = serve(Limits(body_timeout=10))
    assert asyncio.run(server.ask("POST", "/v1/predict", trickle())).status == 408
    assert clock.now <= 11


def test_a_form_in_chunks_of_one_byte(serve):
    body, kind = form([("a.png", picture())])

    async def bytewise():
        for place in range(len(body)):
            yield body[place : place + 1]

    assert asyncio.run(serve().ask("POST", "/v1/predict", bytewise(), {"content_type": kind})).status == 200


def test_an_invalid_form_closes_the_connection(serve):
    """Checks that the connection is closed, since the rest of the body is not read."""
    response = serve().post(b"garbage" * 99, content_type="multipart/form-data; boundary=x")
    assert response.status == 400 and response.headers["connection"] == "close"


@pytest.mark.parametrize("admitted, status", [(0, 200), (1, 503)])
def test_the_files_of_a_form_are_closed(serve, monkeypatch, admitted, status):
    """Tests an accepted and a refused form; large uploads are temporary files on disk."""
    made = []
    kept = lambda *given, **named: made.append(SpooledTemporaryFile(*given, **named)) or made[-1]
    monkeypatch.setattr(formparsers, "SpooledTemporaryFile", kept)
    body, kind = form([("a.png", picture()), ("b.png", picture())])
    server = serve(Limits(queue=2))
    server.models.get(None).worker.admitted = admitted
    assert server.post(body, content_type=kind).status == status
    assert [file.closed for file in made] == [True, True]
