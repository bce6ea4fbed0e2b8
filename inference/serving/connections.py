"""Connections of the HTTP server: those that send their headers too slowly, or are too many, are closed."""

import asyncio
from http import HTTPStatus
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from inference.serving.limits import request_seconds

#: Connections that have not shown a key, of one address and of all.
MAX_KEYLESS_OF_ADDRESS, MAX_KEYLESS = 100, 500
#: The largest headers of a request, in bytes.
MAX_HEADER_BYTES = 65_536
#: Requests of one connection that wait while another one is answered.
MAX_PIPELINED = 20


class Connection(HttpToolsProtocol):
    """uvicorn's connection with a time limit for headers, of which uvicorn has none, and a place among the keyless.

    A new connection beyond the limits takes the place of the oldest one without a key: those who ask at once, as
    clients with a key do, get in, and those who hold connections open lose them.
    """

    #: Connections that have not shown a key yet, and their addresses; the oldest first.
    keyless: ClassVar[dict["Connection", str]] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the headers of the first request."""
        super().connection_made(transport)
        self._seconds, self._header_bytes, self._in_headers = request_seconds(), 0, True
        self._deadline: asyncio.TimerHandle | None = None
        self._await_headers()
        address = self.client[0] if self.client else "local"
        same = [connection for connection, own in self.keyless.items() if own == address]
        if len(same) >= MAX_KEYLESS_OF_ADDRESS:
            same[0].refuse(HTTPStatus.SERVICE_UNAVAILABLE)
        elif len(self.keyless) >= MAX_KEYLESS:
            next(iter(self.keyless)).refuse(HTTPStatus.SERVICE_UNAVAILABLE)
        self.keyless[self] = address

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.trust()
        self._stop_waiting()
        super().connection_lost(exc)

    def trust(self) -> None:
        """Take the connection out of the keyless: it showed a key."""
        self.keyless.pop(self, None)

    def data_received(self, data: bytes) -> None:
        """Read bytes of a request; headers must be complete in time, and so must a body that was refused unread."""
        in_headers = self._in_headers
        if self._deadline is None and (in_headers or self.cycle.response_complete):
            self._await_headers()
        super().data_received(data)
        if in_headers and self._deadline is not None:  # the headers are still incomplete
            self._header_bytes += len(data)
            if self._header_bytes > MAX_HEADER_BYTES:
                self.refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def on_message_begin(self) -> None:
        """Name the connection to the application."""
        super().on_message_begin()
        self.scope["state"]["connection"] = self

    def on_headers_complete(self) -> None:
        """Stop waiting for headers."""
        self._stop_waiting()
        self._header_bytes, self._in_headers = 0, False
        if len(self.pipeline) >= MAX_PIPELINED:
            raise ValueError("too many requests wait")  # uvicorn answers 400 and closes
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Take what follows as the headers of the next request."""
        self._in_headers = True
        super().on_message_complete()

    def refuse(self, status: HTTPStatus = HTTPStatus.REQUEST_TIMEOUT) -> None:
        """Answer without a request, and close."""
        self.trust()
        if not self.transport.is_closing():
            answer = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-length: 0\r\nretry-after: 1\r\n"
            self.transport.write(f"{answer}connection: close\r\n\r\n".encode())
            self.transport.close()

    def _await_headers(self) -> None:
        self._deadline = self.loop.call_later(self._seconds, self.refuse)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
