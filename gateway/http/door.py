"""Every request of ours comes through here: it is watched, proves its key, has a time, and its failure has a status."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from gateway.http.failures import Failure
from gateway.rpc.authentication import api_key_of
from gateway.rpc.intake import Intake
from gateway.rpc.quotas import Quotas
from gateway.store.caller import set_api_key
from gateway.store.principals import PrincipalStore
from gateway.telemetry import stages
from gateway.telemetry.observer import REQUEST_ID_KEY, Observer
from gateway.telemetry.stages import Recorder
from gateway.wire import MAX_REQUEST_BYTES

BODY_TIMEOUT_S = 30.0
"""How long the body of a request may take to come, seconds."""
_MAX_BODY_OF_ANYBODY = 64 * 1024
"""Bytes of a request without a key: what needs none reads no body."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request whose caller is known.

    Attributes:
        request: Its path, query and headers.
        body: All of it.
    """

    request: Request
    body: bytes


Handler = Callable[[Call], Awaitable[Response]]


class ClientGone(Exception):
    """The client hung up: nobody waits for a reply."""


class Door:
    """Makes the routes of the application."""

    def __init__(
        self,
        principals: PrincipalStore,
        quotas: Quotas,
        observer: Observer,
        intake: Intake,
        *,
        timeout_s: float,
        max_body_bytes: int = MAX_REQUEST_BYTES,
    ) -> None:
        """Args: intake: Of both doors. timeout_s: Budget of the key's look-up, and of a request's work, seconds."""
        self._intake = intake
        self._principals = principals
        self._quotas = quotas
        self._observer = observer
        self._timeout_s = timeout_s
        self._max_body_bytes = max_body_bytes

    def route(
        self, path: str, handle: Handler, *, verb: Literal["GET", "POST"] = "GET", needs_key: bool = True
    ) -> Route:
        """A route.

        Args:
            path: In Starlette's form, such as `/v1/models/{model}`; it is the route's name in metrics, too.
            handle: Answers; raises DuovecError, or Starlette's HTTPException where HTTP alone has a status for it.
            verb: GET answers HEAD, too.
            needs_key: Whether the caller proves an API key, which the store then acts with, and is counted.
        """
        endpoint = _Endpoint(self, f"{verb} {path}", handle, needs_key=needs_key)
        return Route(path, endpoint, methods=[verb])

    async def refuse(self, request: Request, exc: Exception) -> Response:
        """The reply where there is no such route, or not for this verb."""
        method = "HTTP without a route"
        recorder = self._begin(method, request.scope)
        failure = Failure.of(exc)
        recorder.reason = failure.reason
        self._observer.end(method, recorder, failure.code)
        return _told(failure.response(), recorder)

    async def answer(self, handle: Handler, request: Request, *, needs_key: bool) -> Response:
        """Do all that stands before a handler, and the handler.

        Raises:
            ClientGone: The client hung up; what was done for it has ended.
        """
        async with AsyncExitStack() as stack:
            if needs_key:
                async with asyncio.timeout(self._timeout_s):
                    await self._authenticate(request)
                    await stack.enter_async_context(self._intake.receiving())
            limit = self._max_body_bytes if needs_key else min(self._max_body_bytes, _MAX_BODY_OF_ANYBODY)
            body = await self._body(request, limit)
        with self._intake.hold(len(body)):
            async with asyncio.timeout(self._timeout_s), _until_the_client_is_gone(request.receive):
                return await handle(Call(request, body))

    async def serve(
        self, method: str, handle: Handler, scope: Scope, receive: Receive, send: Send, *, needs_key: bool
    ) -> None:
        """Answer one request of a route."""
        recorder = self._begin(method, scope)
        code = "CANCELLED"
        try:
            try:
                response = await self.answer(handle, Request(scope, receive), needs_key=needs_key)
                code = "OK"
            except ClientGone:
                return
            except asyncio.CancelledError:
                # The time to drain is over. The task is uvicorn's, and ends with this reply.
                stopping = HTTPException(503, "the gateway stops; send the request again")
                response = Failure.of(stopping).response()
            except Exception as exc:  # noqa: BLE001 - the outermost edge
                failure = Failure.of(exc)
                code, recorder.reason = failure.code, failure.reason
                response = failure.response()
            await _told(response, recorder)(scope, receive, send)
        finally:
            self._observer.end(method, recorder, code)

    def _begin(self, method: str, scope: Scope) -> Recorder:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        return self._observer.begin(method, headers, span=lambda tracing: tracing.begin_http(method, headers))

    async def _authenticate(self, request: Request) -> None:
        values = (("authorization", value) for value in request.headers.getlist("authorization"))
        client = request.client
        family = "ipv6" if client and ":" in client.host else "ipv4"
        set_api_key(api_key_of(values), peer=f"{family}:{client.host}:{client.port}" if client else "")
        await self._principals.check_key(timeout_s=self._timeout_s)
        self._quotas.admit()

    async def _body(self, request: Request, limit: int) -> bytes:
        declared = request.headers.get("content-length", "0")
        too_large = HTTPException(413, f"the body has more than {limit:,} bytes, the limit; send it in parts")
        if declared.isdigit() and int(declared) > limit:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                while True:
                    message = await request.receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    body += message.get("body", b"")
                    if len(body) > limit:
                        raise too_large
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError as exc:
            raise HTTPException(
                408, f"the body did not come within {BODY_TIMEOUT_S:g} s", {"connection": "close"}
            ) from exc


class _Endpoint:
    """One route, as an ASGI application."""

    def __init__(self, door: Door, method: str, handle: Handler, *, needs_key: bool) -> None:
        self._door = door
        self._method = method
        self._handle = handle
        self._needs_key = needs_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._door.serve(self._method, self._handle, scope, receive, send, needs_key=self._needs_key)


@asynccontextmanager
async def _until_the_client_is_gone(receive: Receive) -> AsyncIterator[None]:
    """End the block when the client hangs up: nobody waits for what it works at."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - for mypy
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not gone:
            raise
        task.uncancel()
        raise ClientGone from None
    finally:
        watcher.cancel()


def _told(response: Response, recorder: Recorder) -> Response:
    """The reply with what its caller may cite, and the times where they were asked for."""
    response.headers[REQUEST_ID_KEY] = recorder.request_id
    for name, value in stages.trailing_timing():
        response.headers[name] = value
    return response
