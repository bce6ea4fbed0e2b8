"""Connections of the HTTP server: those that send their headers too slowly, or are too many, are closed."""

import asyncio
import random
from http import HTTPStatus
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from inference.serving.limits import KEYLESS_DELAY, request_seconds

#: Connections that have not shown a key, of one address and of all. With those of key holders, and files, they are
#: fewer than the 1,024 that a process may have open by default.
MAX_KEYLESS_OF_ADDRESS, MAX_KEYLESS = 100, 700
#: Seconds for showing a key before connections of the same address are too many: pools connect all at once.
KEY_SECONDS = 0.2
#: The largest headers of a request, in bytes.
MAX_HEADER_BYTES = 65_536
#: Requests of one connection that wait while another one is answered.
MAX_PIPELINED = 20


class Connection(HttpToolsProtocol):
    """uvicorn's connection with a time limit for headers, of which uvicorn has none, and a place among the keyless.

    A new connection beyond the limits takes the place of the oldest one without a key: those who ask at once, as
    clients with a key do, get in, and those who hold connections open lose them. One of too many of an address is
    answered seconds late, as long as there is room, so that it does not come back at once.
    """

    #: Connections that have not shown a key yet, and by address those that are not refused; the oldest first.
    keyless: ClassVar[dict["Connection", None]] = {}
    of_address: ClassVar[dict[str, dict["Connection", None]]] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the headers of the first request."""
        super().connection_made(transport)
        self._seconds, self._header_bytes, self._in_headers = request_seconds(), 0, True
        self._deadline: asyncio.TimerHandle | None = None
        self._close_after(self._seconds)
        self.is_refused = False
        self._address = self.client[0] if self.client else "local"
        if len(self.keyless) >= MAX_KEYLESS:
            next(iter(self.keyless)).refuse(HTTPStatus.SERVICE_UNAVAILABLE)
        same = self.of_address.setdefault(self._address, {})
        self.keyless[self] = same[self] = None
        if len(same) > MAX_KEYLESS_OF_ADDRESS:
            self.loop.call_later(KEY_SECONDS, self._refuse_oldest)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.trust()
        self._stop_waiting()
        super().connection_lost(exc)

    def trust(self) -> None:
        """Take the connection out of the keyless: it showed a key."""
        if self in self.keyless:
            del self.keyless[self]
            self._leave_address()
            if self.is_refused:
                self.is_refused = False
                self._stop_waiting()

    def data_received(self, data: bytes) -> None:
        """Read bytes of a request; headers must be complete in time, and so must a body that was refused unread."""
        in_headers = self._in_headers
        if self._deadline is None and (in_headers or self.cycle.response_complete):
            self._close_after(self._seconds)
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

    def refuse(self, status: HTTPStatus) -> None:
        """Answer without a request, and close."""
        self.trust()
        if not self.transport.is_closing():
            answer = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-length: 0\r\nretry-after: 1\r\n"
            self.transport.write(f"{answer}connection: close\r\n\r\n".encode())
            self.transport.close()

    def refuse_late(self) -> None:
        """Read no more, and close in some seconds."""
        self.is_refused = True
        self._leave_address()
        self.flow.pause_reading()
        self._stop_waiting()
        self._close_after(random.uniform(*KEYLESS_DELAY), HTTPStatus.SERVICE_UNAVAILABLE)

    def _refuse_oldest(self) -> None:
        same = self.of_address.get(self._address, {})
        if len(same) > MAX_KEYLESS_OF_ADDRESS:
            next(iter(same)).refuse_late()

    def _leave_address(self) -> None:
        same = self.of_address.get(self._address, {})
        same.pop(self, None)
        if not same:
            self.of_address.pop(self._address, None)

    def _close_after(self, seconds: float, status: HTTPStatus = HTTPStatus.REQUEST_TIMEOUT) -> None:
        self._deadline = self.loop.call_later(seconds, self.refuse, status)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
