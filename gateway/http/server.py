"""The HTTP server: uvicorn, in the gateway's own event loop, under the gateway's own signals."""

import asyncio
import logging
import ssl
from contextlib import suppress

import uvicorn
from starlette.types import ASGIApp

from gateway.http.listening import HttpListener
from gateway.http.protocol import MAX_CONNECTIONS, MAX_HEADER_BYTES, PatientProtocol
from gateway.telemetry.line_budget import LineBudget

logger = logging.getLogger(__name__)

_KEEP_ALIVE_S = 75
"""How long a connection may be idle between requests: longer than what proxies keep one for."""


class HttpServer:
    """Serves an application from `start` to `stop`.

    Attributes:
        port: That it listens on.
    """

    def __init__(
        self,
        app: ASGIApp,
        listener: HttpListener,
        *,
        timeout_s: float,
        drain_s: float,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        """Open the socket; nobody is accepted yet.

        Args:
            app: What is served.
            listener: Where.
            timeout_s: How long a reply may wait for its reader to take any of it, seconds.
            drain_s: How long requests in flight may go on after `stop`, seconds.
            max_connections: How many there may be at once; `MAX_CONNECTIONS` at most.

        Raises:
            StartupError: The address cannot be listened on.
        """
        self._socket = listener.bind()
        tls = listener.tls
        max_connections = min(max_connections, MAX_CONNECTIONS)
        attributes = {
            "read_timeout_s": timeout_s,
            "max_connections": max_connections,
            "lines_of_refusals": LineBudget(1),
        }

        def context(config: uvicorn.Config, default: object) -> ssl.SSLContext:
            assert tls is not None  # noqa: S101 - for mypy
            return tls.ssl_context()

        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                # Logging and the environment are the gateway's; what a proxy says of its client, nobody proves.
                http=type("Protocol", (PatientProtocol,), attributes),
                # asyncio accepts so many at once before it looks at the first of them.
                backlog=max_connections,
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                log_level="error",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                workers=1,
                h11_max_incomplete_event_size=MAX_HEADER_BYTES,
                timeout_keep_alive=_KEEP_ALIVE_S,
                ssl_context_factory=context if tls else None,
                # Else a pipelined request begins with the key of the one before.
                reset_contextvars=True,
            )
        )
        self._drain_s = drain_s
        self._ticking: asyncio.Task[None] | None = None
        self.port: int = self._socket.getsockname()[1]

    async def start(self) -> None:
        """Accept connections."""
        server = self._server
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        # In three steps of its own, since `serve` takes the process's signals.
        await server.startup(sockets=[self._socket])
        self._ticking = asyncio.create_task(server.main_loop())

    async def stop(self) -> None:
        """Accept nobody any more, and let requests in flight finish, for `drain_s` at most."""
        ticking, self._ticking = self._ticking, None
        if ticking is None:
            self._socket.close()
            return
        ticking.cancel()
        with suppress(asyncio.CancelledError):
            await ticking
        server = self._server
        server.config.timeout_graceful_shutdown = self._drain_s  # type: ignore[assignment]  # it takes fractions
        await server.shutdown(sockets=[self._socket])
        # What it cancelled answers 503.
        if tasks := list(server.server_state.tasks):
            await asyncio.wait(tasks, timeout=1.0)
        for connection in list(server.server_state.connections):
            connection.transport.abort()
