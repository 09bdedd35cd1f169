"""uvicorn's HTTP/1.1 protocol with a timeout for request headers."""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class Connection(H11Protocol):
    header_timeout = 10.0  # seconds from the connection or the previous response to the end of the headers
    timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.restart_timer()

    def _unsupported_upgrade_warning(self) -> None:
        """Does nothing: Java's client requests HTTP/2 each time, but accepts HTTP/1.1."""

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
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()
