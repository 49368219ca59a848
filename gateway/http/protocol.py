"""HTTP/1.1 on one connection, with an end to the patience with slow clients; uvicorn has none of its own.

Slow bodies are the door's to end, which can answer them: see `gateway.http.door`.
"""

import asyncio
import logging
from typing import Any

import h11
from starlette.exceptions import HTTPException
from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway.http.failures import Failure
from gateway.telemetry.line_budget import LineBudget

logger = logging.getLogger(__name__)

HEADER_TIMEOUT_S = 10.0
"""From the connection, and from the first byte of any later request, to the end of its headers."""
MAX_HEADER_BYTES = 16 * 1024
MAX_CONNECTIONS = 1024
"""Of one process, where it may have so many files; more are closed as they come."""


class PatientProtocol(H11Protocol):
    """Closes connections whose headers do not come, or whose reply is not taken."""

    read_timeout_s: float
    """How long a reply may wait for its reader to take any of it, seconds; subclasses set it."""
    max_connections: int
    """How many connections there may be at once; subclasses set it."""
    lines_of_refusals: LineBudget
    """Of all connections of a server; subclasses set it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As uvicorn makes one for each connection."""
        super().__init__(*args, **kwargs)
        self._headers_timer: asyncio.TimerHandle | None = None
        self._reader_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for the headers."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for mypy
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            if (left_out := self.lines_of_refusals.take()) is not None:
                logger.warning("%d HTTP connections are open, another one is closed%s", self.max_connections, left_out)
            transport.abort()
            return
        self._await_headers()

    def data_received(self, data: bytes) -> None:
        """Stop waiting once a request has begun; wait again for one that has begun only."""
        cycle = self.cycle
        super().data_received(data)
        if self.cycle is not cycle:
            self._stop_headers_timer()
        elif self._headers_timer is None and (cycle is None or cycle.response_complete):
            self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        self._stop_headers_timer()
        self._stop_reader_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The reader is behind."""
        super().pause_writing()
        self._reader_timer = self.loop.call_later(self.read_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """It has caught up."""
        super().resume_writing()
        self._stop_reader_timer()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is told so in the form that every other failure has."""
        body = Failure.of(HTTPException(400, msg)).response().body
        headers = [("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close")]
        for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=bytes(body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event))
        self.transport.close()

    def _await_headers(self) -> None:
        self._headers_timer = self.loop.call_later(HEADER_TIMEOUT_S, self.transport.abort)

    def _stop_headers_timer(self) -> None:
        if self._headers_timer is not None:
            self._headers_timer.cancel()
            self._headers_timer = None

    def _stop_reader_timer(self) -> None:
        if self._reader_timer is not None:
            self._reader_timer.cancel()
            self._reader_timer = None
