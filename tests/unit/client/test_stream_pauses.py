"""A service that is full, away or restarting for a while costs a stream time, and no item."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from polling import until

from duovec.v1 import chunk_pb2, index_service_pb2
from gateway.client.client import AsyncClient, Client
from gateway.client.codebases import INDEX_CHUNKS
from gateway.client.dual import run
from gateway.client.errors import ClientError
from gateway.client.stream import ItemStream

from .fake_service import FakeService, serving, status

UNAVAILABLE = status(grpc.StatusCode.UNAVAILABLE, "Triton is away", "TRITON_UNAVAILABLE")


@pytest.fixture
def service() -> FakeService:
    service = FakeService()
    service.stored["x"] = {}
    return service


@pytest.fixture
def client(service: FakeService) -> Iterator[Client]:
    with serving(service) as endpoint, Client(endpoint) as client:
        yield client


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr("gateway.client.stream._PATIENCE_S", 1.5)
    return 1.5


def chunks(count: int) -> Iterator[chunk_pb2.Chunk]:
    return (chunk_pb2.Chunk(path=f"{number}.py", content=f"<{number}>") for number in range(count))


def failures(outcomes: dict[str, Any]) -> dict[str, str]:
    return {path: str(outcome) for path, outcome in outcomes.items() if isinstance(outcome, ClientError)}


def refusing(seconds: float, refusal: Any) -> Callable[[chunk_pb2.Chunk], Any]:
    """Refuse everything for a while, which begins with the first chunk."""
    begun: list[float] = []

    def refuse(chunk: chunk_pb2.Chunk) -> Any:
        begun.append(time.monotonic())
        return refusal if begun[-1] - begun[0] < seconds else None

    return refuse


@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"])
def test_a_service_that_refuses_everything_for_a_while_costs_no_item(
    client: Client, service: FakeService, code: str
) -> None:
    """Whatever it says of it; and nobody knocks all the time."""
    service.refuse = refusing(1.5, status(grpc.StatusCode[code], "for now", code))
    outcomes = {chunk.path: outcome for chunk, outcome in client.index_chunks("x", chunks(100), window=20)}
    assert failures(outcomes) == {}
    assert len(service.paths("x")) == len(outcomes) == 100
    # Twenty at a time, after 0.1 s at least, then 0.2, 0.4, 0.8: five times and once more.
    assert len(service.received) <= 100 + 6 * 20


async def test_the_asynchronous_client_waits_as_well(service: FakeService) -> None:
    """Beside whatever else its loop does."""
    service.refuse = refusing(1.5, UNAVAILABLE)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.01)
            turns += 1

    with serving(service) as endpoint:
        async with AsyncClient(endpoint) as client:
            counting = asyncio.create_task(count())
            outcomes = {
                chunk.path: outcome async for chunk, outcome in client.index_chunks("x", chunks(100), window=20)
            }
            counting.cancel()
    assert failures(outcomes) == {}
    assert len(outcomes) == 100
    assert turns > 20


def test_the_delay_that_an_item_is_told_is_kept_by_the_whole_stream(client: Client, service: FakeService) -> None:
    """Who comes earlier is refused again, and everybody waits longer for it."""
    delays = [0.6, 0.8]
    told: list[float] = []

    def refuse(chunk: chunk_pb2.Chunk) -> Any:
        if chunk.path == "3.py" and delays:
            told.append(delay_s := delays.pop())
            return status(grpc.StatusCode.RESOURCE_EXHAUSTED, "too much work", "OVERLOADED", delay_s=delay_s)
        return None

    service.refuse = refuse
    outcomes = {chunk.path: outcome for chunk, outcome in client.index_chunks("x", chunks(9), window=1)}
    assert failures(outcomes) == {}
    gaps = [later - earlier for earlier, later in zip(service.received_at, service.received_at[1:], strict=False)]
    assert [chunk.path for chunk in service.received[3:6]] == ["3.py"] * 3
    assert all(gap >= delay_s for gap, delay_s in zip(gaps[3:5], told, strict=True))


def test_replies_that_come_during_a_pause_are_taken(client: Client, service: FakeService) -> None:
    """They are results, and tell that it is the item that is refused, not everybody."""
    refusals = [status(grpc.StatusCode.RESOURCE_EXHAUSTED, "too much", "OVERLOADED", delay_s=1.0)]
    all_sent = threading.Event()

    def refuse(chunk: chunk_pb2.Chunk) -> Any:
        all_sent.wait(30)
        return refusals.pop() if chunk.path == "0.py" and refusals else None

    service.refuse = refuse
    answered: dict[str, float] = {}

    async def take(request: Any, reply: Any) -> None:
        answered[request.chunk.path] = time.monotonic()

    stream: ItemStream[Any, Any] = ItemStream(client._connection, INDEX_CHUNKS, take)
    for chunk in chunks(4):
        run(stream.send(index_service_pb2.IndexChunksRequest(codebase_id="x", chunk=chunk)))
    all_sent.set()
    run(stream.drain())
    run(stream.close())
    assert list(answered) == ["1.py", "2.py", "3.py", "0.py"]
    assert [chunk.path for chunk in service.received] == ["0.py", "1.py", "2.py", "3.py", "0.py"]
    assert answered["3.py"] < service.received_at[4]


def test_an_item_that_alone_is_refused_fails_alone(client: Client, service: FakeService, short_patience: float) -> None:
    """It may be what kills the encoder; in the end the others are to be done."""
    service.refuse = lambda chunk: UNAVAILABLE if chunk.path == "0.py" else None
    began_at = time.monotonic()
    outcomes = {chunk.path: outcome for chunk, outcome in client.index_chunks("x", chunks(50))}
    assert failures(outcomes) == {"0.py": "Triton is away"}
    again = sum(chunk.path == "0.py" for chunk in service.received)
    assert 3 <= again <= 6
    assert time.monotonic() - began_at > short_patience


def test_a_service_that_refuses_everything_for_good_ends_the_stream(
    client: Client, service: FakeService, short_patience: float
) -> None:
    """Rather than that a million chunks fail one after the other."""
    service.refuse = lambda chunk: UNAVAILABLE
    began_at = time.monotonic()
    with pytest.raises(ClientError, match="Triton is away") as failure:
        list(client.index_chunks("x", chunks(500), window=10))
    assert (failure.value.code.name, failure.value.reason) == ("UNAVAILABLE", "TRITON_UNAVAILABLE")
    assert {chunk.path for chunk in service.received} == {f"{number}.py" for number in range(10)}
    assert time.monotonic() - began_at > short_patience


def test_a_stream_waits_for_its_place(client: Client, service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that is full says when to come back: that is no service that is lost."""
    monkeypatch.setattr("gateway.client.stream._PATIENCE_S", 0.0)
    service.full = 4
    outcomes = {chunk.path: outcome for chunk, outcome in client.index_chunks("x", chunks(20))}
    assert failures(outcomes) == {}
    assert service.streams == 5
    gaps = [later - earlier for earlier, later in zip(service.opened_at, service.opened_at[1:], strict=False)]
    assert min(gaps) >= 0.1
    # Each time longer, for others want a place, too.
    assert gaps[-1] > 0.6


@pytest.mark.parametrize("code", ["RESOURCE_EXHAUSTED", "UNAVAILABLE"])
def test_a_quota_is_waited_for_as_long_as_it_takes(
    client: Client, service: FakeService, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """That is slow, and no failure; nor is it part of the time for which a failure afterwards is borne."""
    monkeypatch.setattr("gateway.client.stream._PATIENCE_S", 1.0)
    quota = status(grpc.StatusCode.RESOURCE_EXHAUSTED, "9 tokens exceed your quota", "QUOTA_EXCEEDED", delay_s=0.3)
    beyond_quota = refusing(2.0, quota)
    afterwards = [status(grpc.StatusCode[code], "for now", code)]

    def refuse(chunk: chunk_pb2.Chunk) -> Any:
        return beyond_quota(chunk) or (afterwards.pop() if afterwards else None)

    service.refuse = refuse
    outcomes = {
        chunk.path: outcome for chunk, outcome in client.index_chunks("x", chunks(9), window=4, stall_timeout_s=1.0)
    }
    assert failures(outcomes) == {}
    assert len(outcomes) == 9


def test_no_place_in_all_the_time_ends_the_stream(
    client: Client, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.client.stream._PATIENCE_S", 0.0)
    service.full = 1000
    began_at = time.monotonic()
    with pytest.raises(ClientError, match="32 streams are open") as failure:
        list(client.index_chunks("x", chunks(20), stall_timeout_s=0.5))
    assert (failure.value.code.name, failure.value.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
    assert time.monotonic() - began_at > 0.5
    assert service.streams > 1


def test_a_stream_that_is_ended_while_it_is_idle_is_no_failure(
    client: Client, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its place went to another; the next item takes a new one."""
    monkeypatch.setattr("gateway.client.stream._PATIENCE_S", -1.0)
    service.idle_after = 3

    async def take(request: Any, reply: Any) -> None:
        assert reply.WhichOneof("outcome") == "indexed"

    stream: ItemStream[Any, Any] = ItemStream(client._connection, INDEX_CHUNKS, take)
    for number, chunk in enumerate(chunks(6)):
        run(stream.send(index_service_pb2.IndexChunksRequest(codebase_id="x", chunk=chunk)))
        run(stream.drain())
        if number == 2:
            call = stream._call
            assert call is not None
            assert until(call.has_event, bool)
    run(stream.close())
    assert service.streams == 2
    assert len(service.paths("x")) == len(service.received) == 6


def test_what_the_deadline_of_a_call_leaves_goes_on_in_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream may last longer than a day."""

    class HangsOnce(FakeService):
        def IndexChunks(self, requests: Any, context: Any) -> Iterator[Any]:  # noqa: N802 - named after the RPC
            self.silent = self.streams == 0
            monkeypatch.setattr("gateway.client.blocking.STREAM_TIMEOUT_S", 60.0)
            yield from super().IndexChunks(requests, context)

    monkeypatch.setattr("gateway.client.blocking.STREAM_TIMEOUT_S", 0.3)
    service = HangsOnce()
    service.stored["x"] = {}
    with serving(service) as endpoint, Client(endpoint) as client:
        outcomes = {chunk.path: outcome for chunk, outcome in client.index_chunks("x", chunks(5))}
    assert failures(outcomes) == {}
    assert (service.streams, len(outcomes)) == (2, 5)
