"""uvicorn's HTTP/1.1 on httptools, with limits on the size of headers and on the time until they are complete."""

import asyncio
from typing import Any

from httptools import HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LONGEST_HEADERS = 2**16  # bytes; headers that arrive in one read may be longer


class Parser(HttpRequestParser):
    """httptools' parser, which skips the body of a request with Upgrade, as Java's client sends them, for a connection
    that stays with HTTP/1.1."""

    def __init__(self, connection: "Connection"):
        super().__init__(connection)
        self.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn
        self.connection = connection

    def feed_data(self, data: Any) -> None:
        rest = memoryview(data)
        while rest:
            rest = self.connection.parser.feed_to_upgrade(rest)

    def feed_to_upgrade(self, data: memoryview) -> memoryview:
        """Parses up to headers with Upgrade, which are parsed again without it; returns the bytes that follow them."""
        try:
            super().feed_data(data)
        except HttpParserUpgrade as upgrade:
            self.connection.parse_without_upgrade()
            return data[upgrade.args[0] :]
        return data[:0]


class Connection(HttpToolsProtocol):
    parser: Parser
    header_timeout = 10.0  # seconds, from the connection or the former response to the end of the headers
    timer: asyncio.TimerHandle | None = None
    incomplete = 0  # bytes received of headers, chunk headers or trailers that have not ended

    def __init__(self, *given: Any, **named: Any):
        super().__init__(*given, **named)
        self.parser = Parser(self)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.restart_timer()

    def data_received(self, data: bytes) -> None:
        self.incomplete += len(data)
        super().data_received(data)
        if self.incomplete > LONGEST_HEADERS and not self.transport.is_closing():
            self.send_400_response(f"The headers exceed {LONGEST_HEADERS} bytes.")

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self.incomplete = 0

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self.incomplete = 0

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self.incomplete = 0

    def _should_upgrade(self) -> bool:
        """Has uvicorn pass over a request that is parsed again."""
        return b"upgrade" in dict(self.headers)

    def parse_without_upgrade(self) -> None:
        """Parses the latest headers again, without Upgrade."""
        first = b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        headers = [b"%s: %s" % (name, value) for name, value in self.headers if name != b"upgrade"]
        self.parser = Parser(self)  # the former one ignores what follows Connection: close
        self.parser.feed_data(b"\r\n".join([first, *headers, b"", b""]))

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.restart_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.timer:
            self.timer.cancel()

    def restart_timer(self) -> None:
        if self.timer:
            self.timer.cancel()
        self.timer = self.loop.call_later(self.header_timeout, self.close_if_waiting)

    def close_if_waiting(self) -> None:
        if (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing():
            self.transport.close()
