"""Where the items of a stream come from: a source that waits, for a reply or for good, or fails."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing
from typing import Any

import pytest

from duovec.v1 import chunk_pb2
from gateway.client import AsyncClient, Client, ClientError

from .fake_service import FakeService, serving


@pytest.fixture
def service() -> FakeService:
    service = FakeService()
    service.stored["x"] = {}
    return service


@pytest.fixture
async def client(service: FakeService) -> AsyncIterator[AsyncClient]:
    with serving(service) as endpoint:
        async with AsyncClient(endpoint) as client:
            yield client


def chunks(count: int) -> Iterator[chunk_pb2.Chunk]:
    return (chunk_pb2.Chunk(path=f"{number}.py", content=str(number)) for number in range(count))


async def test_a_source_may_wait_for_the_reply_to_what_it_gave(client: AsyncClient) -> None:
    """One that is filled by what was found, say. One task asks for all of it, as timeouts and task groups need it."""
    replied = asyncio.Event()
    tasks: set[Any] = set()

    async def source() -> AsyncIterator[chunk_pb2.Chunk]:
        for chunk in chunks(5):
            tasks.add(asyncio.current_task())
            yield chunk
            await replied.wait()
            replied.clear()

    taken = []
    async with asyncio.timeout(30):
        async for chunk, outcome in client.index_chunks("x", source()):
            assert not isinstance(outcome, ClientError)
            taken.append(chunk.path)
            replied.set()
    assert taken == [chunk.path for chunk in chunks(5)]
    assert len(tasks) == 1


async def test_texts_may_wait_as_well(client: AsyncClient) -> None:
    replied = asyncio.Event()

    async def source() -> AsyncIterator[str]:
        for number in range(3):
            yield str(number)
            await replied.wait()
            replied.clear()

    numbers = []
    async with asyncio.timeout(30):
        async for number, _ in client.stream_embed(source(), "passage"):
            numbers.append(number)
            replied.set()
    assert numbers == [0, 1, 2]


async def test_no_more_is_read_than_there_is_room_for(client: AsyncClient, service: FakeService) -> None:
    """And one that waits to be sent."""
    service.silent = True
    read = 0

    def source() -> Iterator[chunk_pb2.Chunk]:
        nonlocal read
        for chunk in chunks(100):
            read += 1
            yield chunk

    async def consume() -> None:
        async for _ in client.index_chunks("x", source(), window=7):
            pass

    task = asyncio.create_task(consume())
    async with asyncio.timeout(30):
        while read < 8 or len(service.received) < 7:
            await asyncio.sleep(0.01)
        # What would be read and sent now comes before this one's reply.
        await client.get_codebase("x")
    assert (read, len(service.received)) == (8, 7)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("failure", [ValueError("no more"), asyncio.CancelledError()])
async def test_a_source_that_fails_ends_the_stream(client: AsyncClient, failure: BaseException) -> None:
    async def source() -> AsyncIterator[chunk_pb2.Chunk]:
        for chunk in chunks(3):
            yield chunk
        raise failure

    async with asyncio.timeout(30):
        with pytest.raises(type(failure)):
            async for _ in client.index_chunks("x", source()):
                pass


@pytest.mark.parametrize("end", ["silence", "break", "cancel"])
async def test_a_source_that_waits_for_good_keeps_nobody(client: AsyncClient, service: FakeService, end: str) -> None:
    """Neither who has enough, nor whom the service leaves without a word; and it is told that it may end."""
    service.silent = end == "silence"
    waits, ended = asyncio.Event(), asyncio.Event()

    async def source() -> AsyncIterator[chunk_pb2.Chunk]:
        for chunk in chunks(3):
            yield chunk
        waits.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def consume() -> None:
        found = client.index_chunks("x", source(), stall_timeout_s=0.3 if service.silent else 60.0)
        async with aclosing(found):
            async for _ in found:
                if end == "break":
                    await waits.wait()
                    break

    async with asyncio.timeout(30):
        task = asyncio.create_task(consume())
        if end == "cancel":
            await waits.wait()
            task.cancel()
        outcome = (await asyncio.gather(task, return_exceptions=True))[0]
    expected = {"silence": ClientError, "break": type(None), "cancel": asyncio.CancelledError}
    assert isinstance(outcome, expected[end])
    assert ended.is_set()


@pytest.mark.parametrize("end", ["break", "failure", "cancel"])
@pytest.mark.parametrize("answer", ["ends", "goes on", "fails"])
async def test_a_source_may_catch_that_it_is_told_to_end(client: AsyncClient, answer: str, end: str) -> None:
    """Such as one that reads a queue until it is cancelled."""
    waits = asyncio.Event()
    tasks: list[Any] = []

    async def source() -> AsyncIterator[chunk_pb2.Chunk]:
        for chunk in chunks(3):
            yield chunk
        tasks.append(asyncio.current_task())
        waits.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if answer == "fails":
                raise ValueError("no more") from None
        if answer == "goes on":
            for chunk in chunks(3):
                yield chunk

    async def consume() -> None:
        async with aclosing(client.index_chunks("x", source())) as found:
            async for _ in found:
                await waits.wait()
                if end == "break":
                    break
                if end == "failure":
                    raise KeyError("x")
                await asyncio.Event().wait()

    task = asyncio.create_task(consume())
    async with asyncio.timeout(30):
        await waits.wait()
        if end == "cancel":
            task.cancel()
        outcome = (await asyncio.gather(task, return_exceptions=True))[0]
    assert isinstance(outcome, {"break": type(None), "failure": KeyError, "cancel": asyncio.CancelledError}[end])
    # An exception that is left there asyncio tells the loop.
    (fetching,) = tasks
    assert fetching.done()
    if answer == "fails":
        assert str(fetching.exception()) == "no more"


async def test_a_source_that_is_cancelled_while_nobody_asks_ends_the_stream(client: AsyncClient) -> None:
    """As a timeout does that is over in the middle of a `yield`."""
    tasks: list[Any] = []

    async def source() -> AsyncIterator[chunk_pb2.Chunk]:
        tasks.append(asyncio.current_task())
        async with asyncio.timeout(0.05):
            for chunk in chunks(100):
                yield chunk

    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(10):
            async for _ in client.index_chunks("x", source(), window=1):
                await asyncio.wait(tasks)


@pytest.mark.parametrize("call", ["index_chunks", "stream_embed"])
async def test_a_source_that_nobody_reads_on_is_closed_at_once(client: AsyncClient, call: str) -> None:
    """Where it ran: what it holds, such as a cursor or a lock, is not left to the collector."""
    tasks = []

    async def source() -> AsyncIterator[Any]:
        tasks.append(asyncio.current_task())
        try:
            for chunk in chunks(100):
                yield chunk if call == "index_chunks" else chunk.content
        finally:
            await asyncio.sleep(0)
            tasks.append(asyncio.current_task())

    kept = source()
    how = {"index_chunks": ("x", kept), "stream_embed": (kept, "passage")}[call]
    async with asyncio.timeout(30), aclosing(getattr(client, call)(*how, window=3)) as found:
        async for _ in found:
            break
    assert len(tasks) == 2
    assert tasks[0] is tasks[1]


def test_a_source_of_the_blocking_client_is_closed_at_once(service: FakeService) -> None:
    """Also where its thread runs a loop, which would be told to close it later."""
    ended = []

    def source() -> Iterator[chunk_pb2.Chunk]:
        try:
            yield from chunks(100)
        finally:
            ended.append(threading.get_ident())

    async def consume(client: Client) -> None:
        with closing(client.index_chunks("x", source(), window=3)) as found:
            next(found)
        assert ended == [threading.get_ident()]

    with serving(service) as endpoint, Client(endpoint) as client:
        asyncio.run(consume(client))


def test_the_blocking_client_reads_its_source_in_the_caller_s_thread(service: FakeService) -> None:
    """A cursor of a database may be used in no other; for that, nothing is yielded while the source has nothing."""
    threads = set()

    def source() -> Iterator[chunk_pb2.Chunk]:
        for chunk in chunks(20):
            threads.add(threading.get_ident())
            yield chunk

    with serving(service) as endpoint, Client(endpoint) as client:
        assert sum(1 for _ in client.index_chunks("x", source(), window=3)) == 20
    assert threads == {threading.get_ident()}
