"""Tests limits of connections: the size of headers and the time until they are complete."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import h11
import pytest
from serve.serving import PATIENCE, exchange, listening, picture

from resdet.serve.connection import Connection, H11Protocol
from resdet.serve.limits import Limits
from resdet.serve.server import configuration

GET = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
POST = b"POST /v1/predict HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
LINE = b"X: " + b"x" * 1000 + b"\r\n"
ENDLESS = 2 * 2**20  # bytes, more than the buffers of both sockets hold
HUGE = {
    "header": GET + b"X: " + b"x" * ENDLESS,
    "headers": GET + LINE * (ENDLESS // len(LINE)),
    "name": GET + b"x" * ENDLESS,
    "address": b"GET /" + b"x" * ENDLESS,
    "trailers": POST + b"1\r\nx\r\n0\r\n" + LINE * (ENDLESS // len(LINE)),
    "chunk header": POST + b"1;" + b"x" * ENDLESS,
}


@pytest.mark.parametrize("kind", HUGE)
def test_huge_headers_are_rejected(serve, kind):
    with listening(serve().app) as url:
        assert exchange(url, HUGE[kind]).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("words", [b"garbage\r\n\r\n", b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n"])
def test_invalid_requests_are_rejected(serve, words):
    with listening(serve().app) as url:
        assert exchange(url, words).startswith(b"HTTP/1.1 4")


def test_a_request_for_another_protocol_stays_with_this_one(serve, caplog):
    """Requests HTTP/2 like Java's client; the log must not mention it."""
    body = picture()
    lines = b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: %d\r\n\r\n" % len(body)
    request = b"POST /v1/predict HTTP/1.1\r\nHost: a\r\n" + lines + body
    with listening(serve().app) as url:
        assert exchange(url, request + GET + b"\r\n").count(b"HTTP/1.1 200") == 2
    assert not [record for record in caplog.records if "upgrade" in record.getMessage()]


def test_each_request_of_a_connection_may_have_long_headers(serve):
    first = GET.replace(b"close", b"keep-alive") + LINE * 10 + b"\r\n"
    with listening(serve().app) as url:
        answer = exchange(url, first * 3 + GET + LINE * 10 + b"\r\n")
    assert answer.count(b"HTTP/1.1 200") == 4


def test_chunks_of_one_byte_do_not_count_as_headers(serve):
    body = picture(100, 100, ".bmp")
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    with listening(serve().app) as url:
        assert exchange(url, POST + chunks + b"0\r\nX-After: 1\r\n\r\n").startswith(b"HTTP/1.1 200")


def test_the_header_timeout_is_the_body_timeout():
    assert configuration(None, Limits(body_timeout=3)).http.header_timeout == 3


def test_the_header_timeout_closes_the_connection(serve, monkeypatch):
    """Checks connections without a header, with an incomplete one, and with an incomplete one after a full request."""
    quick = lambda app, limits: configuration(app, Limits(body_timeout=2))
    monkeypatch.setattr("serve.serving.configuration", quick)
    whole = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
    with listening(serve().app) as url, ThreadPoolExecutor(3) as pool:
        answers = pool.map(lambda words: exchange(url, words), (b"", whole[:15], whole + whole[:15]))
        nothing, cut, once = answers
    assert nothing == cut == b""
    assert once.startswith(b"HTTP/1.1 200") and once.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("state, closing, closed", [(h11.IDLE, False, 1), (h11.IDLE, True, 0), (h11.DONE, False, 0)])
def test_idle_connections_are_closed(state, closing, closed):
    """Checks that a connection is closed while idle, but not during a request or when it is already closing."""
    calls = []
    transport = SimpleNamespace(is_closing=lambda: closing, close=lambda: calls.append(1))
    Connection.close_if_waiting(SimpleNamespace(conn=SimpleNamespace(their_state=state), transport=transport))
    assert len(calls) == closed


def test_the_header_timeout_restarts_after_a_response(monkeypatch):
    monkeypatch.setattr(H11Protocol, "on_response_complete", lambda self: None)
    connection, calls = Connection.__new__(Connection), []
    connection.restart_timer = lambda: calls.append(1)
    connection.on_response_complete()
    assert calls == [1]


def test_the_previous_header_timeout_ends_when_it_restarts():
    """Checks that a timer from before a response does not close the connection before the next request."""
    connection, loop = Connection.__new__(Connection), asyncio.new_event_loop()
    connection.loop = loop
    connection.restart_timer()
    former = connection.timer
    connection.restart_timer()
    loop.close()
    assert former.cancelled() and not connection.timer.cancelled()


def test_the_timer_of_a_lost_connection_is_canceled(monkeypatch):
    """Checks that `connection_lost` cancels the timer, which would keep the connection in memory."""
    monkeypatch.setattr(H11Protocol, "connection_lost", lambda self, error: None)
    connection, loop = Connection.__new__(Connection), asyncio.new_event_loop()
    connection.timer = timer = loop.call_later(PATIENCE, print)
    connection.connection_lost(None)
    loop.close()
    assert timer.cancelled()
