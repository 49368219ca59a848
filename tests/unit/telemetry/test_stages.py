"""Stages are timed on behalf of the request that they run for."""

import asyncio
import contextvars
from collections.abc import Callable

import pytest
from recorded_spans import RecordedSpan

from gateway.telemetry import stages
from gateway.telemetry.stages import Recorder, Stage, stage


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the module sees, as the one element of a list."""
    now = [1000.0]
    monkeypatch.setattr(stages.time, "perf_counter", lambda: now[0])
    return now


def in_request(recorder: Recorder, work: Callable[[], None]) -> None:
    """Run a request in a context of its own, as gRPC does."""

    def run() -> None:
        stages.record(recorder)
        work()

    contextvars.copy_context().run(run)


def test_what_runs_at_once_in_a_stage_counts_once(clock: list[float]) -> None:
    """Both encoders for 3 s, overlapping by 2: 4 s, not 6; and what is later is added."""
    recorder = Recorder("r")

    def work() -> None:
        first, second = stage(Stage.INFER), stage(Stage.INFER)
        first.__enter__()
        clock[0] += 1
        second.__enter__()
        clock[0] += 2
        first.__exit__(None, None, None)
        clock[0] += 1
        second.__exit__(None, None, None)
        clock[0] += 5
        with stage(Stage.INFER):
            clock[0] += 0.5

    in_request(recorder, work)
    assert recorder.seconds == {Stage.INFER: 4.5}
    assert recorder.elapsed_s == 9.5


def test_the_times_are_told_in_milliseconds(clock: list[float]) -> None:
    """In the order of the work, those of stages that did not come up, too."""
    recorder = Recorder("r")

    def work() -> None:
        with stage(Stage.TOKENIZE):
            clock[0] += 0.001
        with stage(Stage.DATABASE):
            clock[0] += 0.0025

    in_request(recorder, work)
    assert recorder.server_timing() == (
        "tokenize;dur=1.00, queue;dur=0.00, infer;dur=0.00, database;dur=2.50, total;dur=3.50"
    )


async def test_tasks_of_a_request_are_on_its_account_and_others_are_not() -> None:
    """Two requests at once, each in a task of its own, that start further tasks."""

    async def part(name: Stage) -> None:
        with stage(name):
            await asyncio.sleep(0)

    async def request(recorder: Recorder, name: Stage) -> None:
        stages.record(recorder)
        await asyncio.gather(part(name), asyncio.create_task(part(name)))

    one, other = Recorder("1"), Recorder("2")
    await asyncio.gather(request(one, Stage.INFER), request(other, Stage.TOKENIZE), part(Stage.QUEUE))
    assert (set(one.seconds), set(other.seconds)) == ({Stage.INFER}, {Stage.TOKENIZE})
    assert stages.current() is None


async def test_what_is_on_nobody_s_account_is_not_recorded() -> None:
    """A write behind the reply ends long after it."""
    recorder = Recorder("r")

    async def write_behind() -> None:
        stages.record(None)
        with stage(Stage.DATABASE) as running:
            assert running.headers is None

    async def request() -> None:
        stages.record(recorder)
        await asyncio.create_task(write_behind())
        assert stages.current() is recorder

    await asyncio.create_task(request())
    assert recorder.seconds == {}


def test_a_stage_is_a_part_of_the_request_s_span(clock: list[float]) -> None:
    """With its attributes, and the error that ended it; a wait is one only where there was any."""
    span = RecordedSpan("call")
    failure = KeyError("x")

    def work() -> None:
        with stage(Stage.QUEUE, "wait for a slot"):
            pass
        with stage(Stage.QUEUE, "wait for a slot"):
            clock[0] += 0.25
        with pytest.raises(KeyError), stage(Stage.INFER, "triton a", server__address="here", duovec__row_count=3) as it:
            assert it.headers == span.parts[-1].headers
            raise failure

    in_request(Recorder("r", span), work)
    waited, inferred = span.parts
    assert (waited.name, waited.began_s_ago, waited.ended) == ("wait for a slot", 0.25, True)
    assert (inferred.name, inferred.attributes) == ("triton a", {"server.address": "here", "duovec.row_count": 3})
    assert inferred.ended and inferred.error is failure


async def test_a_batch_of_a_stream_has_times_of_its_own() -> None:
    """They are told when it is over, added to those of the stream, and its stages are parts of its span."""
    seen: list[Recorder] = []
    span = RecordedSpan("call")
    stream = Recorder("r", span, on_batch=seen.append)

    async def answer() -> None:
        with stages.batch(7), stage(Stage.INFER, "triton a"):
            await asyncio.sleep(0)

    async def call() -> None:
        stages.record(stream)
        await asyncio.gather(*(asyncio.create_task(answer()) for _ in range(2)))

    await asyncio.create_task(call())
    assert [set(batch.seconds) for batch in seen] == [{Stage.INFER}] * 2
    assert stream.seconds[Stage.INFER] == pytest.approx(sum(batch.seconds[Stage.INFER] for batch in seen))
    assert [(part.name, part.attributes) for part in span.parts] == [("batch", {"duovec.item_count": 7})] * 2
    assert [part.parts[0].name for part in span.parts] == ["triton a"] * 2
    assert all(part.ended and part.parts[0].ended for part in span.parts)
