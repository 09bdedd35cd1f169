"""uvicorn's HTTP/1.1 on httptools, with limits on the size of headers and on the time until they are complete."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LONGEST_HEADERS = 2**16  # bytes; headers that arrive in one read may be longer


class Connection(HttpToolsProtocol):
    header_timeout = 10.0  # seconds, from the connection or the former response to the end of the headers
    timer: asyncio.TimerHandle | None = None
    incomplete = 0  # bytes received of headers, chunk headers or trailers that have not ended

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
