"""A pipelined call of many items that survives a broken connection."""

import itertools
import math
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from typing import Any, Generic, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc import status_pb2

from gateway.client.backoff import backoff_s
from gateway.client.connection import Connection, is_passing
from gateway.client.errors import ClientError, from_status
from gateway.client.rpc import Reply, Rpc
from gateway.client.transport import Stream, Upcoming, silence
from gateway.wire import MAX_REQUEST_BYTES

_WINDOW_BYTES = 8 * 1024 * 1024
"""Of unanswered items, unless a single one has more: ten windows of ordinary chunks, or a few of the largest."""
_PATIENCE_S = 120.0
"""How long nothing may come through before a stream is given up, and an item that alone is refused: twice what a server
takes at most for a batch, and longer than Triton, PostgreSQL or the gateway need to be started again."""
_FIRST_PATIENCE_S = 20.0
"""The same before anything was answered: most likely nobody is there."""
# Items that failed because the service was overloaded, lost a dependency for a moment, or did not end a batch in time.
_TRANSIENT_CODES = frozenset(
    code.value[0]
    for code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
)

RequestT = TypeVar("RequestT", bound=Message)
_T = TypeVar("_T")


class ItemStream(Generic[RequestT, Reply]):
    """Sends items ahead of their replies, up to a window, and resends what was not answered when the call breaks.

    An item that is refused for now (RESOURCE_EXHAUSTED, UNAVAILABLE, DEADLINE_EXCEEDED) is sent again, after a pause of
    the whole stream: as long as the service asks for, and longer each time while nothing succeeds. Where an item is
    refused for two minutes, it fails by that if others succeeded meanwhile; else the stream does. For a quota of tokens
    it waits as long as it takes. One may be answered twice by the server; the caller sees one reply an item, and the
    server takes a repeated item for what it is.
    """

    def __init__(
        self,
        connection: Connection,
        rpc: Rpc[Reply],
        on_reply: Callable[[RequestT, Reply], Awaitable[None]],
        *,
        window: int = 512,
        stall_timeout_s: float = 600.0,
        on_pause: Callable[[ClientError, float], None] | None = None,
    ) -> None:
        """Prepare; the call begins with the first item.

        Args:
            connection: Where to send.
            rpc: Its requests have `item_id`, its replies that and `error`.
            on_reply: Called with each item and its reply.
            window: Items at most that are sent and not answered; fewer where they have more than 8 MiB together.
            stall_timeout_s: How long to wait for any reply before giving up, seconds. Beside many other indexers a
                batch waits minutes for its turn; a service that is gone is noticed sooner, by gRPC. A service that
                refuses and says when to come back is asked again as long.
            on_pause: Told why nothing is sent, and for how many seconds.
        """
        self._connection = connection
        self._rpc = rpc
        self._on_reply = on_reply
        self._window = window
        self._stall_timeout_s = stall_timeout_s
        self._on_pause = on_pause
        self._unanswered: dict[str, RequestT] = {}
        self._unanswered_bytes = 0
        self._to_send: deque[str] = deque()
        """Of the unanswered, those that are not on their way."""
        self._call: Stream[Reply] | None = None
        self._numbers = itertools.count()
        self._resume_at = -math.inf
        self._pauses = 0
        """Since an item was answered for good."""
        self._lost_since: float | None = None
        """When a call broke, while no other has brought a reply since."""
        self._was_answered = False
        self._refused_since: dict[str, float] = {}
        self._succeeded_at = -math.inf

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
        self._unanswered[item_id] = request
        self._unanswered_bytes += size_bytes
        self._to_send.append(item_id)
        await self._send_due()

    @property
    def is_waiting(self) -> bool:
        """Whether an item is not answered yet."""
        return bool(self._unanswered)

    def patience_s(self, refusal: ClientError) -> float:
        """How long to bear it: who says when to come back is there, and means it."""
        return _PATIENCE_S if refusal.retry_delay_s is None else max(_PATIENCE_S, self._stall_timeout_s)

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

    async def receive(self, until: Upcoming[object] | None = None) -> None:
        """Wait until something happens, or `until` is done; raises ClientError as `send` does."""
        while self._call is None:
            await self._connection.transport.sleep(max(0.0, self._resume_at - time.monotonic()))
            await self._send_due()
        await self._send_due()
        pause_s = max(0.0, self._resume_at - time.monotonic()) if self._to_send else math.inf
        event: Any = await self._call.next_event(min(pause_s, self._stall_timeout_s), until)
        if event is None:
            if not self._to_send and (until is None or not until.done()):
                raise silence(self._stall_timeout_s)
        elif isinstance(event, ClientError):
            await self._lose(event)
        else:
            await self._take(event)

    async def _send_due(self) -> None:
        """Send what is to be sent, through a new call where there is none; during a pause do nothing."""
        if not self._to_send or time.monotonic() < self._resume_at:
            return
        if self._call is None:
            self._call = self._connection.open(self._rpc)
        while self._to_send:
            request = self._unanswered.get(self._to_send.popleft())
            if request is not None:
                await self._call.send(request)

    async def _take(self, reply: Any) -> None:
        item_id, now = reply.item_id, time.monotonic()
        request = self._unanswered.get(item_id)
        if request is None:
            return
        self._lost_since = None
        self._was_answered = True
        if reply.error.code in _TRANSIENT_CODES:
            refusal = from_status(reply.error)
            if refusal.reason == "QUOTA_EXCEEDED":
                # Nothing failed: it is slowed, and will have its turn however long that takes.
                self._refused_since.pop(item_id, None)
                since = now
            else:
                since = self._refused_since.setdefault(item_id, now)
            if now - since <= self.patience_s(refusal):
                self._pause(refusal)
                self._to_send.append(item_id)
                return
            if self._succeeded_at < since:
                raise refusal
        else:
            self._pauses = 0
            if not reply.error.code:
                self._succeeded_at = now
        self._refused_since.pop(item_id, None)
        del self._unanswered[item_id]
        self._unanswered_bytes -= request.ByteSize()
        await self._on_reply(request, reply)

    async def _lose(self, error: ClientError) -> None:
        """Have a new call opened for what the broken one left unanswered."""
        await self.close()
        if not self._unanswered:
            # Such as an idle one, whose place the service gave to another.
            return
        now = time.monotonic()
        if self._lost_since is None:
            self._lost_since = now
        patience_s = self.patience_s(error)
        if not self._was_answered and error.retry_delay_s is None:
            patience_s = _FIRST_PATIENCE_S
        if not is_passing(error) or now - self._lost_since > patience_s:
            raise error
        self._pause(error)
        self._to_send = deque(self._unanswered)

    def _pause(self, refusal: ClientError) -> None:
        """Send nothing for as long as the service asks for, and for longer each time while nothing succeeds."""
        now, before = time.monotonic(), self._resume_at
        if now >= self._resume_at:
            self._pauses += 1
            self._resume_at = now + backoff_s(self._pauses, None)
        asked_s = refusal.retry_delay_s
        # Of many that ask for the same the first has its jitter; the longest of as many jitters would be none.
        if asked_s is not None and now + asked_s > self._resume_at:
            self._resume_at = now + backoff_s(self._pauses, asked_s)
        if self._on_pause is not None and self._resume_at != before:
            self._on_pause(refusal, self._resume_at - now)


async def exchange(
    connection: Connection, rpc: Rpc[Reply], requests: AsyncGenerator[RequestT], *, window: int, stall_timeout_s: float
) -> AsyncGenerator[tuple[RequestT, Reply]]:
    """Give each item with its reply, in the order of the replies; arguments and errors as of `ItemStream`.

    Where the transport suspends, replies are given while the next item is waited for. At last the requests are closed.
    """
    answered: deque[tuple[RequestT, Reply]] = deque()

    async def on_reply(request: RequestT, reply: Reply) -> None:
        answered.append((request, reply))

    stream = ItemStream(connection, rpc, on_reply, window=window, stall_timeout_s=stall_timeout_s)
    source = connection.transport.source(requests)
    try:
        while True:
            upcoming = source.next()
            while stream.is_waiting and not upcoming.done():
                await stream.receive(upcoming)
                while answered:
                    yield answered.popleft()
            request = await upcoming
            if request is None:
                break
            await stream.send(request)
            while answered:
                yield answered.popleft()
        while stream.is_waiting:
            await stream.receive()
            while answered:
                yield answered.popleft()
    finally:
        try:
            await source.close()
        finally:
            await stream.close()


async def each(items: Iterable[_T] | AsyncIterable[_T]) -> AsyncGenerator[_T]:
    """Give items that come either way; an asynchronous generator is closed in the end.

    Nothing else would do that in the task that it runs in: one that is dropped is closed in another, some time later.
    """
    if isinstance(items, AsyncIterable):
        iterator = aiter(items)
        try:
            async for item in iterator:
                yield item
        finally:
            if isinstance(iterator, AsyncGenerator):
                await iterator.aclose()
    else:
        for item in items:
            yield item
