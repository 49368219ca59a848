"""What a client asks of gRPC and of the clock; `blocking` and `suspending` do it, each in its way."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Generic, ParamSpec, Protocol, TypeVar

import grpc
from google.protobuf.message import Message

from gateway.client.errors import ClientError
from gateway.client.rpc import Metadata, Reply, Rpc

STREAM_TIMEOUT_S = 24 * 3600.0
"""Deadline of a call of many messages; what it leaves unanswered goes on in another."""

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Reply_co = TypeVar("_Reply_co", bound=Message, covariant=True)
_T_co = TypeVar("_T_co", covariant=True)


class Upcoming(Awaitable[_T_co], Protocol[_T_co]):
    """Something that is awaited once it is done, or before."""

    def done(self) -> bool:
        """Whether to await it takes no time; or there is nothing that could be done meanwhile."""


class Source(Protocol[_T_co]):
    """Items that are fetched one by one."""

    def next(self) -> Upcoming[_T_co | None]:
        """Begin to fetch the next one; None after the last. It is called when the one before is there."""

    async def close(self) -> None:
        """Fetch no more, and wait until what gives the items is closed."""


class Stream(Protocol, Generic[_Reply_co]):
    """A call that sends and receives many messages."""

    async def send(self, request: Message) -> None:
        """Send a message, or keep it until the service takes it; errors come as events."""

    def has_event(self) -> bool:
        """Whether `next_event` would give something at once."""

    async def next_event(
        self, timeout_s: float, until: Upcoming[object] | None = None
    ) -> _Reply_co | ClientError | None:
        """Wait for a reply, or for the error that ended the call; None where `until` or the time is over first."""

    async def close(self, *, at_once: bool) -> None:
        """End the call: now, or after the replies to what was sent."""


class Transport(Protocol):
    """Nothing of it raises but `call`, which gives grpc.RpcError, and what was handed in."""

    async def call(
        self, rpc: Rpc[Reply], request: Message, *, timeout_s: float, metadata: Metadata
    ) -> tuple[Reply, Metadata]:
        """Send a message and wait for its reply; gives it with the trailing metadata."""

    def open(self, rpc: Rpc[Reply], *, metadata: Metadata, on_end: Callable[[str | None], None]) -> Stream[Reply]:
        """Begin a call of many messages; `on_end` is told the name of its code, once, from any thread."""

    def source(self, items: AsyncGenerator[_T]) -> Source[_T]:
        """Fetch items, while something else is waited for where that can be; the source closes what gives them."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""

    async def offload(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Do what takes a while without holding up others."""

    async def close(self) -> None:
        """End all calls."""


def silence(timeout_s: float) -> ClientError:
    """Nothing came in so many seconds."""
    return ClientError(
        f"nothing was answered in {timeout_s:g} s: the service hangs or is overloaded",
        code=grpc.StatusCode.DEADLINE_EXCEEDED,
    )


def closed() -> ClientError:
    """The client was closed before or during a call."""
    return ClientError("the client is closed", code=grpc.StatusCode.FAILED_PRECONDITION)


def stream_ended() -> ClientError:
    """The event that the service has ended a call that it should not have ended."""
    return ClientError("the service ended the stream", code=grpc.StatusCode.UNAVAILABLE)


def serialize(message: Message) -> bytes:
    """A message as it travels."""
    return message.SerializeToString()
