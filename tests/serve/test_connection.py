"""Tests limits of connections: the size of headers and the time until they are complete."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from serve.serving import PATIENCE, exchange, listening, picture
from uvicorn.server import ServerState

from resdet.serve.connection import LONGEST_HEADERS, Connection, HttpToolsProtocol
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


class Transport:
    """A connection without a socket; records what is sent."""

    def __init__(self):
        self.sent, self.closed = b"", False

    def write(self, data: bytes) -> None:
        self.sent += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str) -> None:
        return None

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Unanswered(Connection):
    def _start_asgi_task(self, cycle, app) -> None: ...


def after(*reads: bytes) -> Connection:
    """Returns a connection that has received these bytes, read by read, and answers no request."""
    loop = asyncio.new_event_loop()
    connection = Unanswered(configuration(print, Limits()), ServerState(), {}, loop)
    connection.connection_made(Transport())
    for read in reads:
        connection.data_received(read)
    loop.close()
    return connection


def cut(words: bytes, size: int) -> list[bytes]:
    return [words[start : start + size] for start in range(0, len(words), size)]


@pytest.mark.parametrize("kind", HUGE)
def test_huge_headers_are_rejected(serve, kind):
    with listening(serve().app) as url:
        assert exchange(url, HUGE[kind]).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("words", [b"garbage\r\n\r\n", b"GET http://a HTTP/1.1\r\n\r\n", b"GET /\xff HTTP/1.1\r\n\r\n"])
def test_invalid_requests_are_rejected(serve, words):
    with listening(serve().app) as url:
        assert exchange(url, words).startswith(b"HTTP/1.1 4")


def test_headers_within_the_limit_are_accepted(serve):
    lines = LINE * (LONGEST_HEADERS // len(LINE) - 1)
    with listening(serve().app) as url:
        assert exchange(url, GET + lines + b"\r\n").startswith(b"HTTP/1.1 200")


def test_headers_of_several_reads_are_counted():
    words = GET + b"X: " + b"x" * LONGEST_HEADERS
    assert after(*cut(words[:LONGEST_HEADERS], 1000)).transport.sent == b""
    assert after(*cut(words[: LONGEST_HEADERS + 1], 1000)).transport.sent.startswith(b"HTTP/1.1 400")


def test_bodies_of_several_reads_do_not_count_as_headers():
    body = bytes(3 * LONGEST_HEADERS)
    connection = after(
        POST.replace(b"Transfer-Encoding: chunked", b"Content-Length: %d" % len(body)), *cut(body, 2**15)
    )
    assert connection.transport.sent == b"" and connection.cycle.body == body


def test_long_invalid_requests_are_answered_once():
    assert after(b"garbage" * LONGEST_HEADERS).transport.sent.count(b"HTTP/1.1 400") == 1


@pytest.mark.parametrize("size", [1, 50, 1000])
@pytest.mark.parametrize("version, also", [(b"1.1", b""), (b"1.1", b"close, "), (b"1.0", b"")])
def test_requests_for_another_protocol_stay_with_this_one(version, also, size):
    """Checks the requests of Java's client, which asks for HTTP/2, by their body and headers."""
    asked = b"POST /v1/predict?top=2 HTTP/%s\r\nHost: a\r\nConnection: %sUpgrade\r\nUpgrade: h2c\r\n" % (version, also)
    cycle = after(*cut(asked + b"Content-Length: 6\r\n\r\nGET / ", size)).cycle
    assert cycle.body == b"GET / " and not cycle.more_body
    assert cycle.keep_alive == (version == b"1.1" and not also)
    assert cycle.scope["method"] == "POST" and cycle.scope["path"] == "/v1/predict"
    assert cycle.scope["query_string"] == b"top=2" and cycle.scope["http_version"] == version.decode()
    expected = [(b"host", b"a"), (b"connection", also + b"Upgrade"), (b"content-length", b"6")]
    assert cycle.scope["headers"] == expected


@pytest.mark.parametrize("also", [b"", b"Connection: upgrade\r\nUpgrade: h2c\r\n"])
def test_bytes_after_the_last_request_are_ignored(also):
    connection = after(GET + also + b"\r\n" + b"garbage\r\n\r\n", b"garbage\r\n\r\n")
    assert connection.transport.sent == b"" and connection.cycle.scope["path"] == "/healthz"


def test_each_request_for_another_protocol_is_answered(serve):
    """Sends requests with and without Upgrade in one read, more of them than Python's calls can be nested."""
    both = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    once = GET.replace(b"Connection: close\r\n", both) + b"\r\n"
    with listening(serve().app) as url:
        assert exchange(url, once * 1000 + GET + b"\r\n").count(b"HTTP/1.1 200") == 1001


def test_each_request_of_a_connection_may_have_as_long_headers(serve):
    first = GET.replace(b"close", b"keep-alive") + LINE * 40 + b"\r\n"
    with listening(serve().app) as url:
        answer = exchange(url, first * 3 + GET + LINE * 40 + b"\r\n")
    assert answer.count(b"HTTP/1.1 200") == 4


def test_chunks_of_one_byte_do_not_count_as_headers(serve):
    body = picture(100, 100, ".bmp")
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    assert len(chunks) > 2 * LONGEST_HEADERS
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


@pytest.mark.parametrize(
    "complete, closing, closed", [(None, False, 1), (True, False, 1), (True, True, 0), (False, False, 0)]
)
def test_idle_connections_are_closed(complete, closing, closed):
    """Checks that a connection is closed before its first request and after a response, and not during a request or
    when it is closing already."""
    calls = []
    transport = SimpleNamespace(is_closing=lambda: closing, close=lambda: calls.append(1))
    cycle = None if complete is None else SimpleNamespace(response_complete=complete)
    Connection.close_if_waiting(SimpleNamespace(cycle=cycle, transport=transport))
    assert len(calls) == closed


def test_the_header_timeout_restarts_after_a_response(monkeypatch):
    monkeypatch.setattr(HttpToolsProtocol, "on_response_complete", lambda self: None)
    connection, calls = Connection.__new__(Connection), []
    connection.restart_timer = lambda: calls.append(1)
    connection.on_response_complete()
    assert calls == [1]


def test_the_former_header_timeout_ends_when_it_restarts():
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
    monkeypatch.setattr(HttpToolsProtocol, "connection_lost", lambda self, error: None)
    connection, loop = Connection.__new__(Connection), asyncio.new_event_loop()
    connection.timer = timer = loop.call_later(PATIENCE, print)
    connection.connection_lost(None)
    loop.close()
    assert timer.cancelled()
