"""Batches share the requests of an encoder: each gets its own vectors, and none waits for more than a turn."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.embedding.lane import ALONE, INTERACTIVE, Lane, caller_postponed_s
from gateway.embedding.space import Encoder, InputType
from gateway.errors import TritonUnavailable

ENCODER = Encoder(
    name="tiny",
    version=7,
    role="text",
    dimension=2,
    max_tokens=32,
    append_eos=None,
    prompts={},
    task_ids={},
    max_batch_size=64,
    length_buckets=(),
    token_budget=12,
    instances=1,
    names_rows=False,
    folder=Path("1"),
    identity={},
)
PASSAGE, QUERY = InputType.PASSAGE, InputType.QUERY


@dataclass
class Backend:
    """Gives (id, length) for a row, when it is let; a test double of what a request to Triton is made by."""

    requests: list[tuple[Encoder, InputType, list[int]]] = field(default_factory=list)
    timeouts_s: list[float] = field(default_factory=list)
    cancelled: int = 0
    on_request: Callable[[int], None] = lambda number: None
    failing: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()

    async def infer(
        self, encoder: Encoder, rows: list[NDArray[np.int64]], input_type: InputType, timeout_s: float
    ) -> NDArray[np.float32]:
        number = len(self.requests)
        self.requests.append((encoder, input_type, [len(row) for row in rows]))
        self.timeouts_s.append(timeout_s)
        self.on_request(number)
        try:
            await self.gate.wait()
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if number in self.failing:
            raise TritonUnavailable(f"request {number}")
        return np.array([[row[0], len(row)] for row in rows], dtype=np.float32)


@pytest.fixture
async def backend() -> Backend:
    return Backend()


@pytest.fixture
def lane(backend: Backend) -> Lane:
    return Lane(backend.infer, lambda: ALONE)


def rows(first_id: int, *lengths: int) -> list[NDArray[np.int64]]:
    return [np.full(length, first_id + index, dtype=np.int64) for index, length in enumerate(lengths)]


async def encode(
    lane: Lane, first_id: int, *lengths: int, encoder: Encoder = ENCODER, input_type: InputType = PASSAGE
) -> None:
    """Encode, and see that the vectors are those of the rows."""
    found = await lane.encode(encoder, rows(first_id, *lengths), input_type, 60.0)
    np.testing.assert_array_equal(found, [[first_id + index, length] for index, length in enumerate(lengths)])


async def test_batches_share_requests_by_length(lane: Lane, backend: Backend) -> None:
    """Alone each would leave half a micro-batch at every length."""
    backend.gate.clear()
    first = asyncio.create_task(encode(lane, 0, 12, 12, 12, 12))  # fills what may be in flight
    await asyncio.sleep(0)
    others = [asyncio.create_task(encode(lane, 100 * n, 9, 3, 6, 3)) for n in range(1, 5)]
    await asyncio.sleep(0)
    backend.gate.set()
    await asyncio.gather(first, *others)
    assert [lengths for _, _, lengths in backend.requests] == [
        [12, 12],
        [12, 12],
        [3] * 8,
        [6] * 4,
        [9, 9],
        [9, 9],
    ]


async def test_no_row_waits_for_who_comes_later(lane: Lane, backend: Backend) -> None:
    """Short rows keep coming; the long one is not put off for them."""
    batches = [asyncio.create_task(encode(lane, 0, *[2] * 40, 12))]

    def add_short(number: int) -> None:
        if number < 50:
            batches.append(asyncio.create_task(encode(lane, 1000 * number, *[1] * 24)))

    backend.on_request = add_short
    await batches[0]
    turn = next(number for number, (_, _, lengths) in enumerate(backend.requests) if 12 in lengths)
    assert turn <= 4
    while len(batches) <= 50:
        await asyncio.sleep(0)
    await asyncio.gather(*batches)


async def test_versions_and_tasks_are_not_mixed_and_first_come_first(lane: Lane, backend: Backend) -> None:
    backend.gate.clear()
    newer = replace(ENCODER, version=8)
    first = asyncio.create_task(encode(lane, 0, *[12] * 4))
    await asyncio.sleep(0)
    others = [
        asyncio.create_task(encode(lane, 10, *[6] * 8)),
        asyncio.create_task(encode(lane, 20, *[6] * 8, encoder=newer)),
        asyncio.create_task(encode(lane, 30, *[6] * 8, input_type=QUERY)),
    ]
    await asyncio.sleep(0)
    backend.gate.set()
    await asyncio.gather(first, *others)
    asked = [(encoder.version, input_type) for encoder, input_type, _ in backend.requests[2:]]
    assert asked == [(7, PASSAGE)] * 2 + [(8, PASSAGE)] * 2 + [(7, QUERY)] * 2


async def test_a_short_call_passes_long_ones_and_not_for_ever(backend: Backend) -> None:
    """A query waits for what runs; a call of many texts, for those whose turn is before its own."""
    lane = Lane(backend.infer, lambda: INTERACTIVE, postponed_s=caller_postponed_s)
    tokens = 60
    long = asyncio.create_task(encode(lane, 0, *[12] * (tokens // 12)))
    while not backend.requests:
        await asyncio.sleep(0)
    await encode(lane, 5000, 1, input_type=QUERY)
    assert [lengths for _, _, lengths in backend.requests].index([1]) <= INTERACTIVE.in_flight + 1
    assert not long.done()
    ended, rounds = asyncio.get_running_loop().time() + 2 * caller_postponed_s(tokens), 0
    # Where the machine stood still, the time is over before anything was asked.
    while asyncio.get_running_loop().time() < ended or rounds < 20:
        await asyncio.gather(*(encode(lane, 6000 + number, 1, input_type=QUERY) for number in range(4)))
        rounds += 1
    assert long.done()
    await long


async def test_a_failure_is_that_of_the_batches_it_had_rows_of(lane: Lane, backend: Backend) -> None:
    """Nothing more is asked for a batch that has failed."""
    backend.failing = {2}
    backend.gate.clear()
    first = asyncio.create_task(encode(lane, 0, *[12] * 4))
    await asyncio.sleep(0)
    bad = asyncio.create_task(encode(lane, 10, 3, 11, 11, 11, 11))
    good = asyncio.create_task(encode(lane, 20, 12))
    await asyncio.sleep(0)
    backend.gate.set()
    await asyncio.gather(first, good)
    with pytest.raises(TritonUnavailable, match="request 2"):
        await bad
    assert sum(lengths.count(11) for _, _, lengths in backend.requests) <= 2 * ALONE.in_flight


async def test_what_was_asked_for_goes_on_without_who_asked_and_what_was_not_is_not(
    lane: Lane, backend: Backend
) -> None:
    """Triton crashes of cancellations; what goes on holds its turn, so that a request's time is all that it costs."""
    backend.gate.clear()
    gone = asyncio.create_task(encode(lane, 0, *[12] * 6))
    await asyncio.sleep(0)
    stays = asyncio.create_task(encode(lane, 10, 6))
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert not stays.done()
    assert len(lane._running) == ALONE.in_flight
    backend.gate.set()
    await stays
    assert [lengths for _, _, lengths in backend.requests] == [[12, 12], [12, 12], [6]]
    assert backend.cancelled == 0


async def test_a_request_goes_on_while_it_has_a_row_that_somebody_waits_for(lane: Lane, backend: Backend) -> None:
    backend.gate.clear()
    first = asyncio.create_task(encode(lane, 0, *[12] * 4))
    await asyncio.sleep(0)
    gone, stays = (asyncio.create_task(encode(lane, first_id, 6)) for first_id in (10, 20))
    await asyncio.sleep(0)

    def leave(number: int) -> None:
        if number == 2:
            gone.cancel()

    backend.on_request = leave
    backend.gate.set()
    await asyncio.gather(first, stays)
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert [lengths for _, _, lengths in backend.requests] == [[12, 12], [12, 12], [6, 6]]
    assert backend.cancelled == 0


async def test_a_request_has_the_longest_budget_of_its_batches(lane: Lane, backend: Backend) -> None:
    """The batch that has less ends by its own deadline."""
    short = asyncio.create_task(lane.encode(ENCODER, rows(0, 6), PASSAGE, 1.0))
    long = asyncio.create_task(lane.encode(ENCODER, rows(1, 6), PASSAGE, 60.0))
    await asyncio.gather(short, long)
    assert max(backend.timeouts_s) > 50


async def test_who_waits_for_a_request_that_is_cut_off_is_told(lane: Lane, backend: Backend) -> None:
    """gRPC cancels the calls of a channel that is closed."""
    backend.gate.clear()
    waiting = asyncio.create_task(encode(lane, 0, 6))
    await asyncio.sleep(0)
    [request] = lane._running
    request.cancel()
    with pytest.raises(TritonUnavailable, match="closed"):
        await waiting


async def test_an_empty_batch_asks_for_nothing(lane: Lane, backend: Backend) -> None:
    assert (await lane.encode(ENCODER, [], PASSAGE, 60.0)).shape == (0, 2)
    assert backend.requests == []
