"""What exceeds the limits is refused at the door, with a time to come back, or stands in line."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from gateway.embedding import meter as meter_module
from gateway.embedding.meter import TokenMeter
from gateway.errors import Overloaded, StreamIdle
from gateway.rpc import admission as admission_module
from gateway.rpc import room as room_module
from gateway.rpc.admission import BULK_TOKENS, IDLE_S, SEARCH_TOKENS, Admission, OpenStream


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the modules see, as the one element of a list."""
    now = [1000.0]
    for module in (admission_module, room_module, meter_module):
        monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def admission(clock: list[float]) -> Admission:
    """The encoders finish 100 tokens a second."""
    meter = TokenMeter()
    with meter.working(200):
        clock[0] += 2
    return Admission(meter, max_pending_tokens=1000, max_streams=2)


def refused(admission: Admission, count: int) -> Overloaded:
    with pytest.raises(Overloaded) as caught, admission.tokens(count):
        pass
    return caught.value


def test_tokens_up_to_the_limit_are_admitted(admission: Admission) -> None:
    """The last free place is given, and all are given back."""
    with admission.tokens(800), admission.tokens(200):
        assert repr(admission) == "<Admission tokens=1000/1000 streams=0/2 bulk_tokens=0>"
    assert repr(admission) == "<Admission tokens=0/1000 streams=0/2 bulk_tokens=0>"


def test_before_anything_was_measured_the_delay_is_a_second() -> None:
    admission = Admission(TokenMeter(), max_pending_tokens=1000, max_streams=1)
    with admission.tokens(500), admission.tokens(500):
        assert refused(admission, 1).retry_after_s == 1.0


def test_before_the_first_rush_the_delay_is_by_the_speed_of_the_encoders(admission: Admission) -> None:
    """The message has what is in work, what was asked, the limit and the time: 500 go first, at 100 a second."""
    with admission.tokens(500), admission.tokens(400):
        error = refused(admission, 300)
    assert str(error) == "900 tokens are in work and 300 more exceed the limit of 1,000; retry in 5.00 s"
    assert error.retry_after_s == pytest.approx(5.0)


def test_a_search_is_a_small_call_whatever_the_limit() -> None:
    admission = Admission(TokenMeter(), max_pending_tokens=1024, max_streams=1)
    with admission.tokens(100_000), admission.tokens(SEARCH_TOKENS):
        pass


async def test_one_stream_too_many_is_refused(admission: Admission, clock: list[float]) -> None:
    """The message has the open streams and the limit; none of them was idle for long enough."""
    async with admission.stream(), admission.stream():
        clock[0] += 0.9 * IDLE_S
        with pytest.raises(Overloaded) as caught:
            await anext(place(admission))
        assert str(caught.value) == "2 streams are open, the limit is 2; retry in 1 s"
        assert caught.value.retry_after_s == 1.0


async def test_a_failed_stream_releases_its_place(admission: Admission) -> None:
    for _ in range(3):
        with pytest.raises(KeyError):
            async with admission.stream():
                raise KeyError
    assert repr(admission) == "<Admission tokens=0/1000 streams=0/2 bulk_tokens=0>"


async def place(admission: Admission, *items: str) -> AsyncIterator[OpenStream]:
    """A stream that takes items and has them in work, or waits for more, until it is ended or closed."""

    async def sent() -> AsyncIterator[str]:
        for item in items:
            yield item

    async with admission.stream() as stream:
        async for _ in stream.reading(sent()):
            pass
        yield stream
        await asyncio.Event().wait()


async def test_a_stream_that_was_idle_longest_gives_its_place_away(admission: Admission, clock: list[float]) -> None:
    """Streams that send nothing would else keep everybody out for as long as they are open."""
    longer, idle = place(admission), place(admission)
    await anext(longer)
    clock[0] += 1
    stream = await anext(idle)
    waiting = [asyncio.create_task(anext(held)) for held in (longer, idle)]
    await asyncio.sleep(0)
    clock[0] += IDLE_S
    async with admission.stream():
        with pytest.raises(StreamIdle, match="nothing came for 10 s or longer.*open a new one"):
            await waiting[0]
        assert repr(admission) == "<Admission tokens=0/1000 streams=2/2 bulk_tokens=0>"
        assert not waiting[1].done()
        assert stream.idle_s == IDLE_S
    assert admission.refused_stream_count == 0
    waiting[1].cancel()
    await asyncio.gather(waiting[1], return_exceptions=True)
    assert admission.stream_count == 0


async def test_a_stream_with_an_item_in_work_keeps_its_place(admission: Admission, clock: list[float]) -> None:
    """However long its batch stands in line; it is idle from the last reply on."""
    async with AsyncExitStack() as stack:
        for _ in range(2):
            working = place(admission, "a", "b")
            stack.push_async_callback(working.aclose)  # type: ignore[attr-defined]
            stream = await anext(working)
        clock[0] += 10 * IDLE_S
        with pytest.raises(Overloaded):
            await anext(place(admission))
        stream.answered()
        with pytest.raises(Overloaded):
            await anext(place(admission))
        stream.answered()
        assert stream.idle_s == 0
        clock[0] += IDLE_S
        assert stream.idle_s == IDLE_S


class Line:
    """Batches that take their turn and end when the test says so."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.admitted: list[str] = []
        self.ends: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def add(self, name: str, count: int) -> None:
        self.ends[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._take(name, count))
        await asyncio.sleep(0)

    async def end(self, name: str) -> None:
        self.ends[name].set()
        await self.tasks[name]
        await asyncio.sleep(0)

    async def cancel(self, *names: str) -> None:
        for name in names:
            self.tasks[name].cancel()
        await asyncio.gather(*(self.tasks[name] for name in names), return_exceptions=True)
        await asyncio.sleep(0)

    async def _take(self, name: str, count: int) -> None:
        async with self.admission.turn(count):
            self.admitted.append(name)
            await self.ends[name].wait()


@asynccontextmanager
async def line_of(admission: Admission) -> AsyncIterator[Line]:
    line = Line(admission)
    yield line
    await line.cancel(*line.tasks)
    assert repr(admission).endswith("bulk_tokens=0>")


async def test_batches_take_turns_in_the_order_in_which_they_came(admission: Admission) -> None:
    """A small one does not pass a large one, which would else wait for ever."""
    async with line_of(admission) as line:
        await line.add("first", BULK_TOKENS // 2)
        await line.add("second", BULK_TOKENS // 2)
        await line.add("large", BULK_TOKENS)
        await line.add("small", 1)
        await line.end("first")
        assert line.admitted == ["first", "second"]
        await line.end("second")
        assert line.admitted == ["first", "second", "large"]
        await line.end("large")
        assert line.admitted == ["first", "second", "large", "small"]


async def test_a_batch_beyond_all_room_goes_alone(admission: Admission) -> None:
    async with line_of(admission) as line:
        await line.add("first", 10)
        await line.add("huge", 10 * BULK_TOKENS)
        await line.add("last", 10)
        assert line.admitted == ["first"]
        await line.end("first")
        assert line.admitted == ["first", "huge"]
        await line.end("huge")
        assert line.admitted == ["first", "huge", "last"]


async def test_who_leaves_the_line_does_not_hold_it_up(admission: Admission) -> None:
    async with line_of(admission) as line:
        await line.add("first", 10)
        await line.add("large", BULK_TOKENS)
        await line.add("small", 10)
        await line.cancel("large")
        assert line.admitted == ["first", "small"]


async def test_who_leaves_at_the_moment_of_its_turn_gives_it_to_the_next(admission: Admission) -> None:
    async with line_of(admission) as line:
        await line.add("first", BULK_TOKENS)
        await line.add("gone", BULK_TOKENS)
        await line.add("next", BULK_TOKENS)
        line.ends["first"].set()
        await asyncio.sleep(0)  # "first" has gone, and has called "gone", which has not run yet
        await line.cancel("gone")
        assert line.admitted == ["first", "next"]


async def test_streams_and_calls_do_not_share_a_limit(admission: Admission) -> None:
    """Somebody who waits for an answer does not wait for an index run."""
    async with admission.turn(BULK_TOKENS):
        with admission.tokens(1000):
            pass
