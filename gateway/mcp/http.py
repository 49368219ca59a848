"""The MCP server over streamable HTTP: whoever calls acts by the API key that the request carries."""

import ipaddress
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import uvicorn
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.transport_security import TransportSecuritySettings
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.client.client import Client
from gateway.client.errors import ClientError

PATH = "/mcp"
_MAX_CLIENTS = 64


class ClientPool:
    """Clients by the API key of the request, the longest unused of which is closed when there are too many."""

    def __init__(self, connect: Callable[[str], Client]) -> None:
        """Args: connect: Makes a client that acts by a key."""
        self._connect = connect
        self._clients: OrderedDict[str, Client] = OrderedDict()
        self._lock = threading.Lock()

    def client_of(self, context: Context[Any]) -> Client:
        """Give the client of whoever sent the request.

        Raises:
            ClientError: The request carries no key.
        """
        request = context.request_context.request
        scheme, _, key = (request.headers.get("authorization", "") if request is not None else "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise ClientError(
                "the request carries no API key", code=grpc.StatusCode.UNAUTHENTICATED, reason="API_KEY_MISSING"
            )
        key = key.strip()
        with self._lock:
            client = self._clients.pop(key, None) or self._connect(key)
            self._clients[key] = client
            stale = self._clients.popitem(last=False)[1] if len(self._clients) > _MAX_CLIENTS else None
        if stale is not None:
            stale.close()
        return client

    def close(self) -> None:
        """Close all clients."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()


def http_app(server: MCPServer[Any], *, allowed_hosts: Sequence[str] = ()) -> ASGIApp:
    """Make the ASGI application.

    Args:
        server: What is served at `/mcp`.
        allowed_hosts: `Host` headers that are taken beside those of this machine, such as a proxy's name.
    """
    hosts = [form for host in ("127.0.0.1", "localhost", "[::1]", *allowed_hosts) for form in (host, f"{host}:*")]
    # Against pages of others in a browser on this machine, which may send anything to it (DNS rebinding).
    security = TransportSecuritySettings(
        allowed_hosts=hosts, allowed_origins=[f"{scheme}://{host}" for scheme in ("http", "https") for host in hosts]
    )
    app = server.streamable_http_app(streamable_http_path=PATH, transport_security=security)
    return _RefusesWithoutKey(app)


def check_loopback(host: str) -> None:
    """Refuse to listen where others could listen in.

    Raises:
        ClientError: The host is not of this machine.
    """
    try:
        is_loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise ClientError(
            f"{host} is not this machine, and API keys would go over the wire in the open; listen on 127.0.0.1, and "
            "put a proxy in front of it that speaks HTTPS (--allowed-host is its name)",
            code=grpc.StatusCode.INVALID_ARGUMENT,
        )


def serve(app: ASGIApp, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM."""
    # Its access log would go to stdout, and has nothing that the gateway's has not.
    uvicorn.Server(uvicorn.Config(app, host=host, port=port, log_level="warning", access_log=False)).run()


class _RefusesWithoutKey:
    """Answers 401 to what carries no bearer token; whether it is a key is the gateway's to say, at every call."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            if not headers.get(b"authorization", b"").lower().startswith(b"bearer "):
                await _refuse(send)
                return
        await self._app(scope, receive, send)


async def _refuse(send: Send) -> None:
    body = json.dumps({"error": "send your duovec API key: authorization: Bearer KEY"}).encode()
    headers = [(b"content-type", b"application/json"), (b"www-authenticate", b'Bearer realm="duovec"')]
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": body})
