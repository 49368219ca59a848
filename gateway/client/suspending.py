"""The transport of the asynchronous client: it never blocks the event loop."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, Generic, ParamSpec, TypeVar

import grpc
from google.protobuf.message import Message

from gateway.client.errors import ClientError, from_rpc_error
from gateway.client.forks import note_aio, refuse_after_aio
from gateway.client.rpc import Metadata, Reply, Rpc
from gateway.client.target import Target
from gateway.client.transport import STREAM_TIMEOUT_S, Upcoming, closed, serialize, stream_ended
from gateway.wire import client_options

_CLOSE_TIMEOUT_S = 10.0

# What grpc.aio says, with the code INTERNAL, of a call that ended while it sent a message. How it ended is lost: the
# next call says so.
_BROKEN_SENDING = "Internal error from Core"

_P = ParamSpec("_P")
_T = TypeVar("_T")


class SuspendingTransport:
    """A channel of the event loop in which it is used first, so that a client may be made before any loop runs."""

    def __init__(self, target: Target) -> None:
        """Prepare; the channel is made with the first call."""
        self._target = target
        self._loop: asyncio.AbstractEventLoop | None = None
        self._made: grpc.aio.Channel | None = None

    async def call(
        self, rpc: Rpc[Reply], request: Message, *, timeout_s: float, metadata: Metadata
    ) -> tuple[Reply, Metadata]:
        """As `Transport.call`."""
        method: Any = self._channel().unary_unary(
            f"/{rpc.name}",
            request_serializer=serialize,
            response_deserializer=rpc.reply.FromString,
        )
        call = method(request, timeout=timeout_s, metadata=metadata)
        try:
            reply: Reply = await call
            return reply, tuple(await call.trailing_metadata() or ())
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            raise closed() from None

    def open(
        self, rpc: Rpc[Reply], *, metadata: Metadata, on_end: Callable[[str | None], None]
    ) -> "SuspendingStream[Reply]":
        """As `Transport.open`."""
        method: Any = self._channel().stream_stream(
            f"/{rpc.name}",
            request_serializer=serialize,
            response_deserializer=rpc.reply.FromString,
        )

        def begin(requests: AsyncIterator[Message]) -> Any:
            return method(requests, timeout=STREAM_TIMEOUT_S, metadata=metadata)

        return SuspendingStream(begin, self._target.endpoint, on_end)

    def source(self, items: AsyncGenerator[_T]) -> "SuspendingSource[_T]":
        """As `Transport.source`."""
        return SuspendingSource(items)

    async def sleep(self, seconds: float) -> None:
        """As `Transport.sleep`."""
        await asyncio.sleep(seconds)

    async def offload(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Do it in a thread; a task that is cancelled ends when the thread is through, which may use what it uses."""
        work = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait([work])
            raise

    async def close(self) -> None:
        """As `Transport.close`."""
        # The tasks of a channel ended with its loop.
        if self._made is not None and self._loop is asyncio.get_running_loop():
            await self._made.close()

    def _channel(self) -> grpc.aio.Channel:
        loop = asyncio.get_running_loop()
        refuse_after_aio()
        if self._made is None:
            note_aio()
            target, self._loop = self._target, loop
            if target.credentials is None:
                self._made = grpc.aio.insecure_channel(target.address, client_options())
            else:
                self._made = grpc.aio.secure_channel(target.address, target.credentials, client_options())
        elif self._loop is not loop:
            raise ClientError(
                "the client was used in another event loop before; make one in each",
                code=grpc.StatusCode.FAILED_PRECONDITION,
            )
        return self._made


class SuspendingSource(Generic[_T]):
    """A task of its own fetches the items, each when it is asked for, and closes what gives them.

    One for all of it, since generators may depend on that, by a timeout or a group of tasks.
    """

    def __init__(self, items: AsyncGenerator[_T]) -> None:
        """Use `SuspendingTransport.source`."""
        self._items = items
        self._asked: asyncio.Queue[asyncio.Future[_T | None]] = asyncio.Queue()
        self._task = asyncio.create_task(self._fetch(), name="duovec-source")
        self._task.add_done_callback(lambda _: self._give_up())

    def next(self) -> "asyncio.Future[_T | None]":
        """As `Source.next`."""
        upcoming: asyncio.Future[_T | None] = asyncio.get_running_loop().create_future()
        self._asked.put_nowait(upcoming)
        if self._task.done():
            self._give_up()
        return upcoming

    async def close(self) -> None:
        """As `Source.close`; what the items fail by now is told to the loop, for the caller has another end to tell."""
        self._task.cancel()
        await asyncio.wait([self._task])

    def _give_up(self) -> None:
        """Such as after a timeout around a `yield`, which ends the task while it waits to be asked."""
        while not self._asked.empty():
            self._asked.get_nowait().cancel()

    async def _fetch(self) -> None:
        async with contextlib.aclosing(self._items):
            # What the items come from may take a cancellation for its end, or give one more.
            while not _is_cancelled():
                upcoming = await self._asked.get()
                try:
                    item = await anext(self._items, None)
                except Exception as exc:
                    if _is_cancelled():
                        raise
                    # Who awaited it may have been cancelled meanwhile.
                    if not upcoming.done():
                        upcoming.set_exception(exc)
                else:
                    if not upcoming.done():
                        upcoming.set_result(item)
                finally:
                    # Where this task, or what the items come from, is cancelled; else it is done.
                    upcoming.cancel()


class SuspendingStream(Generic[Reply]):
    """A task of its own reads the replies; a task of grpc reads the queue of requests."""

    def __init__(
        self, begin: Callable[[AsyncIterator[Message]], Any], endpoint: str, on_end: Callable[[str | None], None]
    ) -> None:
        """Use `SuspendingTransport.open`."""
        self._endpoint = endpoint
        self._on_end = on_end
        self._outgoing: asyncio.Queue[Message | None] = asyncio.Queue()
        self._events: asyncio.Queue[Reply | ClientError] = asyncio.Queue()
        self._call = begin(self._requests())
        self._reader = asyncio.create_task(self._read(), name="duovec-replies")

    async def send(self, request: Message) -> None:
        """As `Stream.send`."""
        self._outgoing.put_nowait(request)

    def has_event(self) -> bool:
        """As `Stream.has_event`."""
        return not self._events.empty()

    async def next_event(self, timeout_s: float, until: Upcoming[object] | None = None) -> Reply | ClientError | None:
        """As `Stream.next_event`."""
        if self.has_event():
            return self._events.get_nowait()
        event = asyncio.ensure_future(self._events.get())
        awaited: list[asyncio.Future[Any]] = [event] if until is None else [event, asyncio.ensure_future(until)]
        try:
            await asyncio.wait(awaited, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            return event.result() if event.done() else None
        finally:
            # What comes in this moment stays in the queue.
            event.cancel()

    async def close(self, *, at_once: bool) -> None:
        """As `Stream.close`."""
        self._outgoing.put_nowait(None)
        try:
            if not at_once:
                await asyncio.wait([self._reader], timeout=_CLOSE_TIMEOUT_S)
        finally:
            self._call.cancel()
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader

    async def _requests(self) -> AsyncIterator[Message]:
        while (request := await self._outgoing.get()) is not None:
            yield request

    async def _read(self) -> None:
        code = grpc.StatusCode.CANCELLED
        try:
            async for reply in self._call:
                self._events.put_nowait(reply)
            failure, code = stream_ended(), grpc.StatusCode.OK
        except grpc.RpcError as error:
            failure = from_rpc_error(error, self._endpoint)
            if str(failure) == _BROKEN_SENDING:
                failure = ClientError(f"{self._endpoint} hung up", code=grpc.StatusCode.UNAVAILABLE)
            code = failure.code
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            failure = closed()
        finally:
            self._on_end(code.name)
        self._events.put_nowait(failure)


def _is_cancelled() -> bool:
    """Whether somebody cancels the running task; where a channel is closed, grpc says so of every call on it."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
