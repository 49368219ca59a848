"""The transport of the blocking client: its coroutines never suspend, they block."""

import queue
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, Generic, ParamSpec, TypeVar

import grpc
from google.protobuf.message import Message

from gateway.client.errors import ClientError, from_rpc_error
from gateway.client.forks import refuse_after_aio
from gateway.client.rpc import Metadata, Reply, Rpc
from gateway.client.target import Target
from gateway.client.transport import STREAM_TIMEOUT_S, Upcoming, serialize, stream_ended
from gateway.wire import client_options

_CLOSE_TIMEOUT_S = 10.0

_P = ParamSpec("_P")
_T = TypeVar("_T")


class BlockingTransport:
    """A channel that threads may share."""

    def __init__(self, target: Target) -> None:
        """Prepare the channel; it connects with the first call.

        Raises:
            ClientError: FAILED_PRECONDITION, in a fork of a process that used an AsyncClient.
        """
        refuse_after_aio()
        self._endpoint = target.endpoint
        if target.credentials is None:
            self._channel = grpc.insecure_channel(target.address, client_options())
        else:
            self._channel = grpc.secure_channel(target.address, target.credentials, client_options())

    async def call(
        self, rpc: Rpc[Reply], request: Message, *, timeout_s: float, metadata: Metadata
    ) -> tuple[Reply, Metadata]:
        """As `Transport.call`."""
        method = self._channel.unary_unary(
            f"/{rpc.name}",
            request_serializer=serialize,
            response_deserializer=rpc.reply.FromString,
        )
        reply, call = method.with_call(request, timeout=timeout_s, metadata=metadata)
        return reply, tuple(call.trailing_metadata() or ())

    def open(
        self, rpc: Rpc[Reply], *, metadata: Metadata, on_end: Callable[[str | None], None]
    ) -> "BlockingStream[Reply]":
        """As `Transport.open`."""
        method = self._channel.stream_stream(
            f"/{rpc.name}",
            request_serializer=serialize,
            response_deserializer=rpc.reply.FromString,
        )

        def begin(requests: Any) -> Any:
            return method(requests, timeout=STREAM_TIMEOUT_S, metadata=metadata)

        return BlockingStream(begin, self._endpoint, on_end)

    def source(self, items: AsyncGenerator[_T]) -> "BlockingSource[_T]":
        """As `Transport.source`."""
        return BlockingSource(items)

    async def sleep(self, seconds: float) -> None:
        """As `Transport.sleep`."""
        time.sleep(seconds)  # noqa: ASYNC251 - this is the blocking one

    async def offload(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Do it here and now: who blocks holds up nobody but the caller."""
        return function(*args, **kwargs)

    async def close(self) -> None:
        """As `Transport.close`."""
        self._channel.close()


class BlockingSource(Generic[_T]):
    """Fetches an item when it is awaited, in the caller's thread: in another its generator might not work."""

    def __init__(self, items: AsyncGenerator[_T]) -> None:
        """Use `BlockingTransport.source`."""
        self._items = items

    def next(self) -> "_Fetching[_T]":
        """As `Source.next`."""
        return _Fetching(self._items)

    async def close(self) -> None:
        """As `Source.close`."""
        await self._items.aclose()


class _Fetching(Generic[_T]):
    def __init__(self, items: AsyncGenerator[_T]) -> None:
        self._items = items

    def done(self) -> bool:
        return True

    def __await__(self) -> Generator[Any, Any, _T | None]:
        return anext(self._items, None).__await__()


class BlockingStream(Generic[Reply]):
    """A thread of its own reads the replies; a thread of grpc reads the queue of requests."""

    def __init__(self, begin: Callable[[Any], Any], endpoint: str, on_end: Callable[[str | None], None]) -> None:
        """Use `BlockingTransport.open`."""
        self._endpoint = endpoint
        self._on_end = on_end
        self._outgoing: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._events: queue.SimpleQueue[Reply | ClientError] = queue.SimpleQueue()
        self._call = begin(iter(self._outgoing.get, None))
        self._reader = threading.Thread(target=self._read, name="duovec-replies", daemon=True)
        self._reader.start()

    async def send(self, request: Message) -> None:
        """As `Stream.send`."""
        self._outgoing.put(request)

    def has_event(self) -> bool:
        """As `Stream.has_event`."""
        return not self._events.empty()

    async def next_event(self, timeout_s: float, until: Upcoming[object] | None = None) -> Reply | ClientError | None:
        """As `Stream.next_event`."""
        try:
            return self._events.get(timeout=timeout_s)
        except queue.Empty:
            return None

    async def close(self, *, at_once: bool) -> None:
        """As `Stream.close`."""
        # None ends grpc's thread, which would otherwise wait on the queue for ever.
        self._outgoing.put(None)
        if not at_once:
            self._reader.join(_CLOSE_TIMEOUT_S)
        self._call.cancel()
        self._reader.join()

    def _read(self) -> None:
        try:
            for reply in self._call:
                self._events.put(reply)
        except grpc.RpcError as error:
            failure = from_rpc_error(error, self._endpoint)
        else:
            failure = stream_ended()
        # After a close nobody reads this.
        self._events.put(failure)
        self._on_end(self._call.code().name)
