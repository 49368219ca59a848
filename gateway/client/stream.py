"""A pipelined IndexChunks call that survives a broken connection."""

import math
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable

import grpc

from duovec.v1 import index_service_pb2 as index_pb
from gateway.client.backoff import backoff_s
from gateway.client.client import Client
from gateway.client.errors import ClientError

OnReply = Callable[[index_pb.IndexChunksRequest, index_pb.IndexChunksResponse], None]

_CLOSE_TIMEOUT_S = 10.0
_WINDOW_BYTES = 8 * 1024 * 1024
"""Of unanswered chunks, unless a single one has more: ten windows of ordinary chunks, or a few of the largest."""
# Items that failed because the service was overloaded or lost a dependency for a moment.
_TRANSIENT_CODES = frozenset({grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], grpc.StatusCode.UNAVAILABLE.value[0]})
_MAX_REPEATS = 3


class ChunkStream:
    """Sends chunks ahead of their replies, up to a window, and resends what was not answered when the call breaks.

    A chunk that is refused for now (RESOURCE_EXHAUSTED, UNAVAILABLE) is sent again up to three times.
    All methods belong to one thread, and `on_reply` runs in it. Chunks are resent, so that one may be answered twice
    by the server; the caller sees one reply a chunk, and the server takes a repeated chunk for what it is.
    """

    def __init__(
        self,
        client: Client,
        on_reply: OnReply,
        *,
        window: int = 512,
        stall_timeout_s: float = 600.0,
        max_reconnects: int = 8,
    ) -> None:
        """Prepare; the call begins with the first chunk.

        Args:
            client: Where to send.
            on_reply: Called with each chunk and its reply.
            window: Chunks at most that are sent and not answered; fewer where they have more than 8 MiB together.
            stall_timeout_s: How long to wait for any reply before giving up, seconds. Beside many other indexers a
                batch waits minutes for its turn; a service that is gone is noticed sooner, by gRPC.
            max_reconnects: New calls in a row without a single reply, before giving up; eight take 16 s at least, as
                long as a gateway that drains and comes back.
        """
        self._client = client
        self._on_reply = on_reply
        self._window = window
        self._stall_timeout_s = stall_timeout_s
        self._max_reconnects = max_reconnects
        self._unanswered: dict[str, index_pb.IndexChunksRequest] = {}
        self._unanswered_bytes = 0
        self._connection: _Connection | None = None
        self._failures = 0
        self._repeats: Counter[str] = Counter()
        self._paused_at = -math.inf

    def send(self, request: index_pb.IndexChunksRequest) -> None:
        """Send a chunk, after waiting for room in the window.

        Args:
            request: Its item_id must differ from those of all unanswered chunks.

        Raises:
            ClientError: The call failed for good.
        """
        size_bytes = request.ByteSize()
        while self._is_full(size_bytes) or (self._connection and self._connection.has_event()):
            self._receive()
        if self._connection is None:
            self._connection = _Connection(self._client)
        self._unanswered[request.item_id] = request
        self._unanswered_bytes += size_bytes
        self._connection.send(request)

    def drain(self) -> None:
        """Wait until every chunk is answered; raises ClientError as `send` does."""
        while self._unanswered:
            self._receive()

    def close(self) -> None:
        """End the call and its threads; what is unanswered is given up."""
        if self._connection is not None:
            self._connection.close(at_once=bool(self._unanswered))
            self._connection = None

    def _is_full(self, size_bytes: int) -> bool:
        if not self._unanswered:
            return False
        return len(self._unanswered) >= self._window or self._unanswered_bytes + size_bytes > _WINDOW_BYTES

    def _receive(self) -> None:
        assert self._connection is not None  # noqa: S101 - for mypy: something was sent, so there is a call
        event = self._connection.next_event(self._stall_timeout_s)
        if isinstance(event, ClientError):
            self._reconnect(event)
            return
        request = self._unanswered.pop(event.item_id, None)
        if request is None:
            return
        self._failures = 0
        if event.error.code in _TRANSIENT_CODES and self._repeats[request.item_id] < _MAX_REPEATS:
            self._repeat(request)
            return
        self._repeats.pop(request.item_id, None)
        self._unanswered_bytes -= request.ByteSize()
        self._on_reply(request, event)

    def _repeat(self, request: index_pb.IndexChunksRequest) -> None:
        """Send a chunk again that was refused for now, after a pause that is shared by all refused at once."""
        self._repeats[request.item_id] += 1
        pause_s = backoff_s(self._repeats[request.item_id] + 1, None)
        if time.monotonic() - self._paused_at > pause_s:
            time.sleep(pause_s)
            self._paused_at = time.monotonic()
        self._unanswered[request.item_id] = request
        assert self._connection is not None  # noqa: S101 - for mypy: its reply came through it
        self._connection.send(request)

    def _reconnect(self, error: ClientError) -> None:
        self._failures += 1
        if not error.may_pass or self._failures > self._max_reconnects:
            raise error
        self.close()
        time.sleep(backoff_s(self._failures, error.retry_delay_s))
        self._connection = _Connection(self._client)
        for request in self._unanswered.values():
            self._connection.send(request)


class _Connection:
    """One call. A thread of its own reads the replies; a thread of grpc reads the queue of requests."""

    def __init__(self, client: Client) -> None:
        self._outgoing: queue.SimpleQueue[index_pb.IndexChunksRequest | None] = queue.SimpleQueue()
        self._events: queue.SimpleQueue[index_pb.IndexChunksResponse | ClientError] = queue.SimpleQueue()
        self._replies = client.index_chunks(iter(self._next_request, None))
        self._reader = threading.Thread(target=self._read, name="duovec-replies", daemon=True)
        self._reader.start()

    def send(self, request: index_pb.IndexChunksRequest) -> None:
        self._outgoing.put(request)

    def has_event(self) -> bool:
        return not self._events.empty()

    def next_event(self, timeout_s: float) -> index_pb.IndexChunksResponse | ClientError:
        try:
            return self._events.get(timeout=timeout_s)
        except queue.Empty:
            return ClientError(
                f"no chunk was answered in {timeout_s:g} s: the service hangs or is overloaded",
                code=grpc.StatusCode.DEADLINE_EXCEEDED,
            )

    def close(self, *, at_once: bool) -> None:
        # None ends grpc's thread, which would otherwise wait on the queue for ever.
        self._outgoing.put(None)
        if not at_once:
            self._reader.join(_CLOSE_TIMEOUT_S)
        self._replies.cancel()
        self._reader.join()

    def _next_request(self) -> index_pb.IndexChunksRequest | None:
        return self._outgoing.get()

    def _read(self) -> None:
        try:
            for reply in self._replies:
                self._events.put(reply)
        except ClientError as error:
            self._events.put(error)
        else:
            # After a close nobody reads this. Before one, the server has ended a call that it should not.
            self._events.put(ClientError("the service ended the stream", code=grpc.StatusCode.UNAVAILABLE))
