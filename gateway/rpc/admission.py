"""How much work the server takes at once, in tokens of both encoders.

Whoever waits for one answer is refused at the door when there is too much, and told when there will be room. What comes
in streams is never refused: its batches stand in line, and HTTP/2 flow control slows their senders down.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from typing import TypeVar

from gateway.embedding.meter import TokenMeter
from gateway.errors import Overloaded, StreamIdle
from gateway.rpc.room import Held, Room
from gateway.telemetry.stages import Stage, stage

SEARCH_TOKENS = 100
"""What a search costs beside its query, so that searches without a text are bounded, too: in the 5 ms that the database
takes for one, two cores encode about 100 tokens."""

_SMALL_CALL_TOKENS = 512
"""A search has 100 beside its query, which in both encoders may have some hundreds."""

BULK_TOKENS = 65_536
"""Of the batches of all streams that are embedded and stored at once: four full ones, so that the encoders work while
others are read and stored."""

IDLE_S = 10.0
"""For how long a stream has nothing in work before its place may be given away. Who has more to send reads its next
file, or sits out the slowest round trip, in far less; who is refused meanwhile comes back for longer."""

Request = TypeVar("Request")


class OpenStream:
    """A stream that holds a place."""

    def __init__(self) -> None:
        self._unanswered_count = 0
        self._idle_since = time.monotonic()
        self._end = asyncio.timeout(None)

    @property
    def idle_s(self) -> float:
        """For how long nothing of it has been in work, seconds; 0 while something is."""
        return 0.0 if self._unanswered_count else time.monotonic() - self._idle_since

    async def reading(self, requests: AsyncIterator[Request]) -> AsyncIterator[Request]:
        """The items of the stream, each of which is in work from now until it is `answered`."""
        async for request in requests:
            self._unanswered_count += 1
            yield request

    def answered(self) -> None:
        """Its caller has taken the reply to one item."""
        self._unanswered_count -= 1
        self._idle_since = time.monotonic()

    def end(self) -> None:
        """Have it raise StreamIdle."""
        self._end.reschedule(asyncio.get_running_loop().time())

    @asynccontextmanager
    async def until_ended(self) -> AsyncIterator[None]:
        """Let the block work until `end`.

        Raises:
            StreamIdle: It came to that.
        """
        try:
            async with self._end:
                yield
        except TimeoutError as exc:
            if not self._end.expired():
                raise
            raise StreamIdle(
                f"nothing came for {IDLE_S:g} s or longer, and another stream needed the place; "
                "open a new one when there is more to send"
            ) from exc


class Admission:
    """Counts what is in work, and keeps out what exceeds the limits.

    Attributes:
        calls: Room for the tokens of unary calls.
        max_streams: Streams that may be open.
        refused_stream_count: Streams that were refused so far.
    """

    def __init__(self, meter: TokenMeter, *, max_pending_tokens: int, max_streams: int) -> None:
        """Nothing is admitted yet.

        Args:
            meter: Says how fast the encoders are, which is all that is known before the first rush.
            max_pending_tokens: Tokens of unary calls in work at once. A call that has more of its own goes alone.
            max_streams: Streams open at once.
        """
        self._meter = meter
        self.calls = Room(
            max_pending_tokens,
            "tokens",
            small=max(max_pending_tokens // 64, _SMALL_CALL_TOKENS),
            guess_rate=lambda: meter.tokens_per_s,
        )
        self.max_streams = max_streams
        self.refused_stream_count = 0
        self._streams: set[OpenStream] = set()
        self._free_bulk_tokens = BULK_TOKENS
        self._line: deque[tuple[int, asyncio.Future[None]]] = deque()

    def __repr__(self) -> str:
        return (
            f"<Admission tokens={self.calls.pending}/{self.calls.limit} "
            f"streams={self.stream_count}/{self.max_streams} bulk_tokens={self.bulk_tokens}>"
        )

    @property
    def stream_count(self) -> int:
        """Streams that hold a place."""
        return len(self._streams)

    @property
    def bulk_tokens(self) -> int:
        """Tokens of the batches of streams that are in work, of `BULK_TOKENS`."""
        return BULK_TOKENS - self._free_bulk_tokens

    @property
    def waiting_batch_count(self) -> int:
        """Batches of streams that stand in line."""
        return len(self._line)

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens that the encoders finish in a second of work, lately; None before the first."""
        return self._meter.tokens_per_s

    def tokens(self, count: int) -> AbstractContextManager[Held]:
        """Hold room for the tokens of one call, or for a guess of them that is corrected when they are counted.

        Raises:
            Overloaded: There is no room; says when there will be.
        """
        return self.calls.hold(count)

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[OpenStream]:
        """Hold room for one stream; where all is taken, that of the one that has been idle longest.

        Raises:
            Overloaded: As many streams are open as the server takes, and all have something in work, or had within
                `IDLE_S`. When one ends is up to its caller, so that the time to come back is no promise here.
            StreamIdle: This one was idle when another needed its place.
        """
        if self.stream_count >= self.max_streams:
            self._end_one()
        stream = OpenStream()
        self._streams.add(stream)
        try:
            async with stream.until_ended():
                yield stream
        finally:
            self._streams.discard(stream)

    def _end_one(self) -> None:
        longest = max(self._streams, key=lambda stream: stream.idle_s)
        if longest.idle_s < IDLE_S:
            self.refused_stream_count += 1
            raise Overloaded(
                f"{self.stream_count} streams are open, the limit is {self.max_streams}; retry in 1 s",
                retry_after_s=1.0,
            )
        self._streams.remove(longest)
        longest.end()

    @asynccontextmanager
    async def turn(self, count: int) -> AsyncIterator[None]:
        """Wait in line with the batches of all streams, first come first served, then hold room for one of `count`."""
        # A batch beyond all room goes alone.
        count = min(count, BULK_TOKENS)
        if self._line or count > self._free_bulk_tokens:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._line.append((count, waiter))
            try:
                with stage(Stage.QUEUE, "wait in line"):
                    await waiter
            except asyncio.CancelledError:
                if not waiter.cancelled():  # its turn came in the same moment
                    self._free_bulk_tokens += count
                self._call_next()
                raise
        else:
            self._free_bulk_tokens -= count
        try:
            yield
        finally:
            self._free_bulk_tokens += count
            self._call_next()

    def _call_next(self) -> None:
        while self._line and (self._line[0][1].cancelled() or self._line[0][0] <= self._free_bulk_tokens):
            count, waiter = self._line.popleft()
            if not waiter.cancelled():
                self._free_bulk_tokens -= count
                waiter.set_result(None)
