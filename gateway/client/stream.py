"""A pipelined call of many items that survives a broken connection."""

import itertools
import math
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Generic, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc import status_pb2

from gateway.client.backoff import backoff_s
from gateway.client.connection import Connection
from gateway.client.errors import ClientError
from gateway.client.rpc import Reply, Rpc
from gateway.client.transport import Stream
from gateway.wire import MAX_REQUEST_BYTES

_WINDOW_BYTES = 8 * 1024 * 1024
"""Of unanswered items, unless a single one has more: ten windows of ordinary chunks, or a few of the largest."""
# Items that failed because the service was overloaded or lost a dependency for a moment.
_TRANSIENT_CODES = frozenset({grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], grpc.StatusCode.UNAVAILABLE.value[0]})
_MAX_REPEATS = 3


RequestT = TypeVar("RequestT", bound=Message)
_T = TypeVar("_T")


class ItemStream(Generic[RequestT, Reply]):
    """Sends items ahead of their replies, up to a window, and resends what was not answered when the call breaks.

    An item that is refused for now (RESOURCE_EXHAUSTED, UNAVAILABLE) is sent again up to three times. One may be
    answered twice by the server; the caller sees one reply an item, and the server takes a repeated item for what it
    is.
    """

    def __init__(
        self,
        connection: Connection,
        rpc: Rpc[Reply],
        on_reply: Callable[[RequestT, Reply], Awaitable[None]],
        *,
        window: int = 512,
        stall_timeout_s: float = 600.0,
        max_reconnects: int = 8,
    ) -> None:
        """Prepare; the call begins with the first item.

        Args:
            connection: Where to send.
            rpc: Its requests have `item_id`, its replies that and `error`.
            on_reply: Called with each item and its reply.
            window: Items at most that are sent and not answered; fewer where they have more than 8 MiB together.
            stall_timeout_s: How long to wait for any reply before giving up, seconds. Beside many other indexers a
                batch waits minutes for its turn; a service that is gone is noticed sooner, by gRPC.
            max_reconnects: New calls in a row without a single reply, before giving up; eight take 16 s at least, as
                long as a gateway that drains and comes back.
        """
        self._connection = connection
        self._rpc = rpc
        self._on_reply = on_reply
        self._window = window
        self._stall_timeout_s = stall_timeout_s
        self._max_reconnects = max_reconnects
        self._unanswered: dict[str, RequestT] = {}
        self._unanswered_bytes = 0
        self._call: Stream[Reply] | None = None
        self._numbers = itertools.count()
        self._failures = 0
        self._repeats: Counter[str] = Counter()
        self._paused_at = -math.inf

    async def send(self, request: RequestT) -> None:
        """Send an item, after waiting for room in the window.

        Args:
            request: Its `item_id` is set here.

        Raises:
            ClientError: The call failed for good.
        """
        item_id = str(next(self._numbers))
        request.item_id = item_id  # type: ignore[attr-defined]
        size_bytes = request.ByteSize()
        if size_bytes > MAX_REQUEST_BYTES:
            # gRPC would end the call, and with it that of all others.
            message = f"the item has {size_bytes:,} bytes, more than {MAX_REQUEST_BYTES:,}; send less at once"
            error = status_pb2.Status(code=grpc.StatusCode.INVALID_ARGUMENT.value[0], message=message)
            await self._on_reply(request, self._rpc.reply(item_id=item_id, error=error))
            return
        while self._is_full(size_bytes) or (self._call and self._call.has_event()):
            await self.receive()
        if self._call is None:
            self._call = self._connection.open(self._rpc)
        self._unanswered[item_id] = request
        self._unanswered_bytes += size_bytes
        await self._call.send(request)

    @property
    def is_waiting(self) -> bool:
        """Whether an item is not answered yet."""
        return bool(self._unanswered)

    async def drain(self) -> None:
        """Wait until every item is answered; raises ClientError as `send` does."""
        while self.is_waiting:
            await self.receive()

    async def close(self) -> None:
        """End the call; what is unanswered is given up."""
        if self._call is not None:
            call, self._call = self._call, None
            await call.close(at_once=bool(self._unanswered))

    def _is_full(self, size_bytes: int) -> bool:
        if not self._unanswered:
            return False
        return len(self._unanswered) >= self._window or self._unanswered_bytes + size_bytes > _WINDOW_BYTES

    async def receive(self) -> None:
        """Wait until something happens; raises ClientError as `send` does."""
        assert self._call is not None  # noqa: S101 - for mypy: something was sent, so there is a call
        event: Any = await self._call.next_event(self._stall_timeout_s)
        if isinstance(event, ClientError):
            await self._reconnect(event)
            return
        request = self._unanswered.pop(event.item_id, None)
        if request is None:
            return
        self._failures = 0
        if event.error.code in _TRANSIENT_CODES and self._repeats[event.item_id] < _MAX_REPEATS:
            await self._repeat(event.item_id, request)
            return
        self._repeats.pop(event.item_id, None)
        self._unanswered_bytes -= request.ByteSize()
        await self._on_reply(request, event)

    async def _repeat(self, item_id: str, request: RequestT) -> None:
        """Send an item again that was refused for now, after a pause that is shared by all refused at once."""
        self._repeats[item_id] += 1
        pause_s = backoff_s(self._repeats[item_id] + 1, None)
        if time.monotonic() - self._paused_at > pause_s:
            await self._connection.transport.sleep(pause_s)
            self._paused_at = time.monotonic()
        self._unanswered[item_id] = request
        assert self._call is not None  # noqa: S101 - for mypy: its reply came through it
        await self._call.send(request)

    async def _reconnect(self, error: ClientError) -> None:
        self._failures += 1
        if not error.may_pass or self._failures > self._max_reconnects:
            raise error
        await self.close()
        await self._connection.transport.sleep(backoff_s(self._failures, error.retry_delay_s))
        self._call = self._connection.open(self._rpc)
        for request in self._unanswered.values():
            await self._call.send(request)


async def exchange(
    connection: Connection, rpc: Rpc[Reply], requests: AsyncIterator[RequestT], *, window: int, stall_timeout_s: float
) -> AsyncGenerator[tuple[RequestT, Reply]]:
    """Give each item with its reply, in the order of the replies; arguments and errors as of `ItemStream`."""
    answered: deque[tuple[RequestT, Reply]] = deque()

    async def on_reply(request: RequestT, reply: Reply) -> None:
        answered.append((request, reply))

    stream = ItemStream(connection, rpc, on_reply, window=window, stall_timeout_s=stall_timeout_s)
    try:
        async for request in requests:
            await stream.send(request)
            while answered:
                yield answered.popleft()
        while stream.is_waiting:
            await stream.receive()
            while answered:
                yield answered.popleft()
    finally:
        await stream.close()


async def each(items: Iterable[_T] | AsyncIterable[_T]) -> AsyncGenerator[_T]:
    """Give items that come either way."""
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
