"""Receives requests: no more at once than memory is meant for, and none before its caller is known.

A request may have 8 MB, and anybody may send hundreds: gRPC by itself receives all of them before it calls anything.
Here a call waits for its turn to be received, with only what HTTP/2 sends ahead, and is then refused, before it is
parsed, where too many bytes are in work.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any

import grpc

from gateway.errors import InvalidInput
from gateway.rpc.handlers import Stream, Unary, is_own, parsed
from gateway.rpc.places import PlacesByOwner
from gateway.rpc.room import Held, Room
from gateway.store.caller import current_principal_key

Context = grpc.aio.ServicerContext[Any, Any]

RECEIVED_AT_ONCE = 32
"""Requests: with the most that one may have 256 MB."""
RECEIVED_AT_ONCE_OF_ONE = 16
"""Of a single principal, who may send them slowly: the other half is for others."""
RECEIVED_WITHIN_S = 30.0
"""One request, from its turn on."""
BYTES_IN_WORK = 128 * 1024 * 1024
"""Of all unary requests; parsed, each takes as much once more."""


class Intake:
    """Room for requests that are being received, and for those in work.

    Attributes:
        in_work: Room for the bytes of those in work.
    """

    def __init__(
        self,
        *,
        bytes_in_work: int = BYTES_IN_WORK,
        at_once: int = RECEIVED_AT_ONCE,
        at_once_of_one: int = RECEIVED_AT_ONCE_OF_ONE,
    ) -> None:
        """Args: bytes_in_work: Of all. at_once, at_once_of_one: Requests being received, of all and of one caller."""
        self.in_work = Room(bytes_in_work, "bytes of requests", small=bytes_in_work // 64)
        self._places = asyncio.Semaphore(at_once)
        self._places_of_callers = PlacesByOwner(at_once_of_one)

    @asynccontextmanager
    async def receiving(self) -> AsyncIterator[None]:
        """Receive one request of the caller in the block, in its turn."""
        async with self._places_of_callers.one(current_principal_key()), self._places:
            yield

    def hold(self, byte_count: int) -> AbstractContextManager[Held]:
        """Hold room for one request that was received.

        Raises:
            Overloaded: There is none.
        """
        return self.in_work.hold(byte_count)


class IntakeInterceptor(grpc.aio.ServerInterceptor):
    """Receives and parses what the methods of duovec's own services are called with; stands inside all others."""

    def __init__(self, intake: Intake) -> None:
        """Args: intake: Bounds what is received."""
        self._intake = intake

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler of a call of duovec's own services in one that gRPC gives a stream of unparsed requests."""
        handler = await continuation(handler_call_details)
        if handler is None or not is_own(handler_call_details.method):
            return handler
        parse = handler.request_deserializer
        if handler.unary_unary:
            return grpc.stream_unary_rpc_method_handler(
                self._unary(handler.unary_unary, parse), response_serializer=handler.response_serializer
            )
        return grpc.stream_stream_rpc_method_handler(
            self._stream(handler.stream_stream, parse), response_serializer=handler.response_serializer
        )

    def _unary(self, method: Unary, parse: Callable[[bytes], Any]) -> Unary:
        async def call(requests: AsyncIterator[bytes], context: Context) -> Any:
            async with self._intake.receiving(), asyncio.timeout(RECEIVED_WITHIN_S):
                # The iterator would keep it until the call's objects are collected.
                data: Any = await context.read()
            if data is grpc.aio.EOF:
                raise InvalidInput("request", "is missing; send one")
            with self._intake.hold(len(data)):
                request = parsed(parse, data)
                del data
                return await method(request, context)

        return call

    def _stream(self, method: Stream, parse: Callable[[bytes], Any]) -> Stream:
        async def read(requests: AsyncIterator[bytes]) -> AsyncIterator[Any]:
            async for data in requests:
                yield parsed(parse, data)

        async def call(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
            async for response in method(read(requests), context):
                yield response

        return call
