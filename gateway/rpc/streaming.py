"""Item streams in batches: read ahead a little, work on a few batches at once, answer as they finish."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

from gateway.concurrency import run_all
from gateway.telemetry import stages

Request = TypeVar("Request")
Response = TypeVar("Response")

BATCH_ITEMS = 64
"""Items of a batch at most: enough texts of similar length for several Triton requests."""
BATCH_BYTES = 64 * 1024
"""Of a batch of several items: 64 items of ordinary code have half of it, and files cut into large chunks would else be
batches of ten times the work."""
BATCHES_IN_FLIGHT = 4
"""So that one batch is tokenized and one stored while two are at the encoders."""
READ_AHEAD_BYTES = 1024 * 1024
"""Of items that wait for a batch: four times what is in work, and of the largest items no more than one."""

_END = None


async def in_batches(
    requests: AsyncIterator[Request],
    process: Callable[[list[Request]], Awaitable[Sequence[Response]]],
    *,
    size_bytes: Callable[[Request], int],
    batches_in_flight: int = BATCHES_IN_FLIGHT,
) -> AsyncIterator[Response]:
    """Answer a stream of requests batch by batch.

    A batch holds what has arrived, up to `BATCH_ITEMS` and `BATCH_BYTES`: a caller that waits for each reply gets it
    at once, one that sends ahead gets full batches. Everything is bounded: where the caller does not read its replies
    or sends faster than the server works, its own sending stops.

    Args:
        requests: The caller's items.
        process: Answers a batch. What it raises ends the stream.
        size_bytes: The size of an item.
        batches_in_flight: Worked on at once; with one, replies come in the order of the requests.

    Yields:
        The replies, batch by batch in order of completion.
    """
    arrived: asyncio.Queue[Request | None] = asyncio.Queue(maxsize=BATCH_ITEMS)
    # Bounded by the slots: a batch keeps its own until its replies were taken.
    finished: asyncio.Queue[Sequence[Response] | None] = asyncio.Queue()
    slots = asyncio.Semaphore(batches_in_flight)
    waiting_bytes, taken = 0, asyncio.Event()

    async def read() -> None:
        nonlocal waiting_bytes
        async for request in requests:
            waiting_bytes += size_bytes(request)
            await arrived.put(request)
            while waiting_bytes > READ_AHEAD_BYTES:
                taken.clear()
                await taken.wait()
        await arrived.put(_END)

    async def next_batch() -> tuple[list[Request], bool]:
        nonlocal waiting_bytes
        batch: list[Request] = []
        batch_bytes = 0
        while len(batch) < BATCH_ITEMS and batch_bytes < BATCH_BYTES and (not batch or not arrived.empty()):
            request = await arrived.get()
            if request is _END:
                return batch, True
            batch.append(request)
            batch_bytes += size_bytes(request)
            waiting_bytes -= size_bytes(request)
            taken.set()
        return batch, False

    async def answer(batch: list[Request]) -> None:
        with stages.batch(len(batch)):
            replies = await process(batch)
        finished.put_nowait(replies)

    async def dispatch() -> None:
        async with asyncio.TaskGroup() as batches:
            ended = False
            while not ended:
                await slots.acquire()
                batch, ended = await next_batch()
                if batch:
                    batches.create_task(answer(batch))

    async def work() -> None:
        try:
            await run_all([read(), dispatch()])
        finally:
            finished.put_nowait(_END)

    worker = asyncio.create_task(work())
    try:
        while (replies := await finished.get()) is not _END:
            for reply in replies:
                yield reply
            slots.release()
        await worker
    finally:
        # The caller has gone, or a batch failed: what is still in work is dropped.
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
