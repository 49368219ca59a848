"""Streams are answered batch by batch: at once, exactly once, within bounds, and without leftovers."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator

import pytest

from gateway.errors import TritonUnavailable
from gateway.rpc import streaming
from gateway.rpc.streaming import BATCH_ITEMS, BATCHES_IN_FLIGHT, READ_AHEAD_BYTES

WAIT_S = 10.0


@pytest.fixture(autouse=True)
async def no_leaked_tasks() -> AsyncIterator[None]:
    """After each test the tasks are those from before it."""
    before = asyncio.all_tasks()
    yield
    await settled()
    assert asyncio.all_tasks() - before - {asyncio.current_task()} == set()


def in_batches(
    requests: AsyncIterator[int], process: Callable[[list[int]], Awaitable[list[int]]]
) -> AsyncGenerator[int]:
    """Items of one byte."""
    return streaming.in_batches(requests, process, size_bytes=lambda _: 1)  # type: ignore[return-value]


async def settled() -> None:
    """Let every task that can go on do so."""
    for _ in range(50):
        await asyncio.sleep(0)


async def items(values: Iterable[int]) -> AsyncIterator[int]:
    for value in values:
        yield value


async def double(batch: list[int]) -> list[int]:
    await asyncio.sleep(0)
    return [2 * value for value in batch]


async def hang(batch: list[int]) -> list[int]:
    await asyncio.Event().wait()
    return batch


async def test_a_single_item_is_answered_while_the_stream_stays_open() -> None:
    """A caller that waits for each reply before it sends the next gets each at once."""
    sent: asyncio.Queue[int | None] = asyncio.Queue()

    async def requests() -> AsyncIterator[int]:
        while (value := await sent.get()) is not None:
            yield value

    replies = in_batches(requests(), double)
    async with asyncio.timeout(WAIT_S):
        for value in range(3):
            sent.put_nowait(value)
            assert await anext(replies) == 2 * value
        sent.put_nowait(None)
        assert [reply async for reply in replies] == []


@pytest.mark.parametrize("count", [0, 1, 2, 63, 64, 65, 128, 321, 1000])
async def test_everything_is_answered_exactly_once(count: int) -> None:
    """Whatever the length of the stream, the replies are those of its items."""
    replies = [reply async for reply in in_batches(items(range(count)), double)]
    assert sorted(replies) == [2 * value for value in range(count)]


async def test_batches_are_full_when_the_caller_sends_ahead() -> None:
    """No batch exceeds the limit, and 1000 items that are there do not go one by one."""
    sizes: list[int] = []

    async def process(batch: list[int]) -> list[int]:
        sizes.append(len(batch))
        return await double(batch)

    replies = [reply async for reply in in_batches(items(range(1000)), process)]
    assert len(replies) == 1000
    assert max(sizes) == BATCH_ITEMS
    assert len(sizes) <= 1000 // BATCH_ITEMS + BATCHES_IN_FLIGHT


async def test_batches_in_work_have_a_limit() -> None:
    """No more batches are processed at once than the limit says, and as many are."""
    running, most = 0, 0
    full = asyncio.Event()

    async def process(batch: list[int]) -> list[int]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == BATCHES_IN_FLIGHT:
            full.set()
        await full.wait()
        await settled()
        running -= 1
        return batch

    async with asyncio.timeout(WAIT_S):
        replies = [reply async for reply in in_batches(items(range(1000)), process)]
    assert len(replies) == 1000
    assert most == BATCHES_IN_FLIGHT


async def test_reading_ahead_stops_when_the_caller_does_not_read() -> None:
    """Without a reader, what is taken from the caller fits the batches in flight and one more."""
    taken = 0

    def counted() -> Iterator[int]:
        nonlocal taken
        for value in range(100_000):
            taken += 1
            yield value

    replies = in_batches(items(counted()), double)
    await anext(replies)
    for _ in range(20):
        await settled()
    assert taken <= (BATCHES_IN_FLIGHT + 1) * BATCH_ITEMS + 1
    await replies.aclose()


async def test_reading_ahead_stops_at_large_items() -> None:
    """Sixty-four messages of 4 MB would be 256 MB of each stream; all are answered, and few wait at once."""
    size_bytes = READ_AHEAD_BYTES // 4
    taken, most = 0, 0
    begin = asyncio.Event()

    def counted() -> Iterator[int]:
        nonlocal taken
        for value in range(100):
            taken += 1
            yield value

    async def process(batch: list[int]) -> list[int]:
        nonlocal most
        await begin.wait()
        most = max(most, len(batch))
        return batch

    async def read() -> list[int]:
        return [
            reply async for reply in streaming.in_batches(items(counted()), process, size_bytes=lambda _: size_bytes)
        ]

    reader = asyncio.create_task(read())
    for _ in range(20):
        await settled()
    # Five make the limit exceeded, of each batch in work and of those that wait.
    assert taken <= 5 * (BATCHES_IN_FLIGHT + 1)
    begin.set()
    async with asyncio.timeout(WAIT_S):
        assert sorted(await reader) == list(range(100))
    assert most <= 5


async def test_a_failure_ends_the_stream_with_that_error_and_cancels_the_rest() -> None:
    """The caller gets the very error, and the other batches stop."""
    failure = TritonUnavailable("Triton is down")
    cancelled = 0

    async def process(batch: list[int]) -> list[int]:
        nonlocal cancelled
        if batch[-1] >= 2 * BATCH_ITEMS:
            raise failure
        try:
            return await hang(batch)
        except asyncio.CancelledError:
            cancelled += 1
            raise

    with pytest.raises(TritonUnavailable) as caught:
        async with asyncio.timeout(WAIT_S):
            async for _ in in_batches(items(range(1000)), process):
                pytest.fail("nothing was answered")
    assert caught.value is failure
    assert cancelled >= 2


async def test_replies_from_before_a_failure_are_delivered() -> None:
    """What was answered before the failure reaches the caller."""
    answered = asyncio.Event()

    async def process(batch: list[int]) -> list[int]:
        if 0 in batch:
            answered.set()
            return batch
        await answered.wait()
        await settled()
        raise TritonUnavailable("Triton is down")

    replies: list[int] = []
    with pytest.raises(TritonUnavailable, match="Triton is down"):
        async for reply in in_batches(items(range(1000)), process):
            replies.append(reply)  # noqa: PERF401 - the list must survive the exception
    assert 0 in replies


async def test_a_failure_of_the_caller_ends_the_stream_with_that_error() -> None:
    """What the incoming stream raises is raised, and the batches stop."""

    async def requests() -> AsyncIterator[int]:
        yield 1
        raise ConnectionResetError("the caller has gone")

    with pytest.raises(ConnectionResetError, match="the caller has gone"):
        async with asyncio.timeout(WAIT_S):
            async for _ in in_batches(requests(), hang):
                pytest.fail("nothing was answered")


async def test_closing_early_cancels_the_batches() -> None:
    """A caller that leaves after one reply leaves nothing in work."""
    started, cancelled = asyncio.Event(), asyncio.Event()
    first = True

    async def process(batch: list[int]) -> list[int]:
        nonlocal first
        if first:
            first = False
            await started.wait()
            return batch
        started.set()
        try:
            return await hang(batch)
        finally:
            cancelled.set()

    replies = in_batches(items(range(1000)), process)
    async with asyncio.timeout(WAIT_S):
        await anext(replies)
        await replies.aclose()
    assert cancelled.is_set()


async def test_cancelling_the_reader_cancels_the_batches() -> None:
    """A cancelled call stays cancelled, and its batches stop."""
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def process(batch: list[int]) -> list[int]:
        started.set()
        try:
            return await hang(batch)
        finally:
            cancelled.set()

    async def read() -> list[int]:
        return [reply async for reply in in_batches(items(range(10)), process)]

    task = asyncio.create_task(read())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cancelled.is_set()
