"""Several Tritons are used as one, each proven by itself; the Tritons are doubles that answer as a test tells them."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.grpc.service_pb2_grpc import add_GRPCInferenceServiceServicer_to_server

from gateway.embedding import fleet as fleet_module
from gateway.embedding.addresses import Addresses, resolve
from gateway.embedding.fleet import TritonFleet
from gateway.embedding.space import Encoder, InputType, Space
from gateway.embedding.triton import Priority
from gateway.errors import DeadlineExceeded, Overloaded, SpaceMismatch, TritonUnavailable

from .fake_triton import Call, FakeTriton, hang, refuse

PROOF = 5
"""First id of the row by which the encoder is proven."""


async def right(call: Call, context: Any) -> NDArray[np.float32]:
    """Each row is the unit vector of its first id."""
    return np.eye(1536, dtype=np.float32)[call.ids_BT[:, 0]]


async def wrong(call: Call, context: Any) -> NDArray[np.float32]:
    """Of another model: sound, and not what was published."""
    return np.eye(1536, dtype=np.float32)[call.ids_BT[:, 0] + 100]


class Server:
    """A Triton that can be killed and brought back at the same address."""

    def __init__(self) -> None:
        self.fake = FakeTriton()
        self.fake.answer = right
        self.port = 0
        self._server: grpc.aio.Server | None = None

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def work(self) -> list[Call]:
        """The requests that were no proofs."""
        return [call for call in self.fake.calls if call.ids_BT[0, 0] != PROOF]

    @property
    def proofs(self) -> int:
        return len(self.fake.calls) - len(self.work)

    async def start(self) -> None:
        self._server = grpc.aio.server()
        add_GRPCInferenceServiceServicer_to_server(self.fake, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def kill(self) -> None:
        if self._server is not None:
            await self._server.stop(None)
            self._server = None


@pytest.fixture
async def servers() -> AsyncIterator[list[Server]]:
    async with AsyncExitStack() as stack:
        started = [Server(), Server()]
        for server in started:
            await server.start()
            stack.push_async_callback(server.kill)
        yield started


@pytest.fixture
def encoder(space: Space) -> Encoder:
    canary = {"input_ids": [PROOF, 6], "task_id": None, "vector": list(np.eye(1536)[PROOF])}
    (space.code.folder / "canary.json").write_text(json.dumps(canary))
    return space.code


@asynccontextmanager
async def fleet_of(servers: Sequence[Server]) -> AsyncIterator[TritonFleet]:
    fleet = TritonFleet(", ".join(server.url for server in servers), concurrency=4)
    await fleet.refresh()
    yield fleet
    await fleet.close()


async def encode(
    fleet: TritonFleet,
    encoder: Encoder,
    ids: Sequence[int],
    *,
    priority: Priority = Priority.BULK,
    timeout_s: float = 30,
) -> None:
    """Encode rows of these first ids, and check that every vector is in its place."""
    rows = [np.array([first, *range(index % 7)]) for index, first in enumerate(ids)]
    vectors_BD, errors = await fleet.encode(encoder, rows, InputType.PASSAGE, priority=priority, timeout_s=timeout_s)
    assert not errors
    assert vectors_BD.argmax(axis=1).tolist() == list(ids)


async def test_bulk_work_is_dealt_out_and_comes_back_in_order(servers: list[Server], encoder: Encoder) -> None:
    """Half of the rows each, short and long ones alike; each Triton was proven before."""
    async with fleet_of(servers) as fleet:
        await encode(fleet, encoder, range(100, 164))
    assert [sum(len(call.ids_BT) for call in server.work) for server in servers] == [32, 32]
    assert [server.proofs for server in servers] == [1, 1]
    assert all(server.fake.calls[0].ids_BT[0, 0] == PROOF for server in servers)


async def test_queries_go_in_turns(servers: list[Server], encoder: Encoder) -> None:
    """One Triton each, and the other one next."""
    async with fleet_of(servers) as fleet:
        for first in range(100, 110):
            await encode(fleet, encoder, [first], priority=Priority.INTERACTIVE)
    assert [len(server.work) for server in servers] == [5, 5]


async def test_every_triton_runs_both_encoders(servers: list[Server], encoder: Encoder) -> None:
    """A text is embedded by one after the other, so that turns that they shared would give each its own Triton."""
    other = replace(encoder, name="other-code")
    async with fleet_of(servers) as fleet:
        for first in range(100, 104):
            for one in (encoder, other):
                await encode(fleet, one, [first], priority=Priority.INTERACTIVE)
    for server in servers:
        assert Counter(call.model for call in server.work) == {encoder.name: 2, other.name: 2}


async def test_a_triton_that_dies_fails_no_request(servers: list[Server], encoder: Encoder) -> None:
    """Not those that it was asked, nor those that come after; back again it is proven before it works."""
    first, second = servers
    async with fleet_of(servers) as fleet:
        await encode(fleet, encoder, range(100, 164))
        first.fake.answer = hang
        asked = len(first.fake.calls)
        running = asyncio.create_task(encode(fleet, encoder, range(200, 264)))
        while len(first.fake.calls) == asked:
            await asyncio.sleep(0.01)
        await first.kill()
        await running
        for number in range(10):
            await encode(fleet, encoder, [300 + number], priority=Priority.INTERACTIVE)
        first.fake.answer = right
        first.fake.calls.clear()
        await first.start()
        while not first.work:
            await encode(fleet, encoder, [400], priority=Priority.INTERACTIVE)
            await asyncio.sleep(0.01)
    assert first.fake.calls[0].ids_BT[0, 0] == PROOF
    assert sum(len(call.ids_BT) for call in second.work) >= 32 + 64 + 10


async def test_no_vector_comes_from_a_triton_with_another_model(
    servers: list[Server], encoder: Encoder, caplog: pytest.LogCaptureFixture
) -> None:
    """It is asked for its proof alone, and the log says once why it is not used."""
    servers[0].fake.answer = wrong
    async with fleet_of(servers) as fleet:
        await fleet.prove(encoder, timeout_s=5)
        for _ in range(3):
            await encode(fleet, encoder, range(100, 164))
    assert servers[0].work == []
    assert len([line for line in caplog.messages if f"{servers[0].url} is not used" in line]) == 1


async def test_where_all_serve_another_model_nothing_is_embedded(servers: list[Server], encoder: Encoder) -> None:
    """As with one Triton."""
    for server in servers:
        server.fake.answer = wrong
    async with fleet_of(servers) as fleet:
        with pytest.raises(SpaceMismatch):
            await fleet.prove(encoder, timeout_s=5)
        with pytest.raises(SpaceMismatch):
            await encode(fleet, encoder, [100])
    assert [server.work for server in servers] == [[], []]


async def test_where_all_are_away_the_caller_is_told(servers: list[Server], encoder: Encoder) -> None:
    """At once, and the service is ready again with the first that is back."""
    async with fleet_of(servers) as fleet:
        for server in servers:
            await server.kill()
        with pytest.raises(TritonUnavailable):
            await encode(fleet, encoder, [100], timeout_s=60)
        with pytest.raises(TritonUnavailable):
            await fleet.check_ready(encoder, timeout_s=60)
        await servers[1].start()
        async with asyncio.timeout(30):
            while True:
                try:
                    await fleet.check_ready(encoder, timeout_s=5)
                    break
                except TritonUnavailable:
                    await asyncio.sleep(0.05)
        await encode(fleet, encoder, [100])


async def test_one_that_hangs_does_not_make_the_others_unready(servers: list[Server], encoder: Encoder) -> None:
    """Nor is it given work again soon: the first request of all costs its deadline."""
    servers[0].fake.answer = hang
    async with fleet_of(servers) as fleet:
        await fleet.check_ready(encoder, timeout_s=5)
        failures = 0
        for first in range(100, 120):
            try:
                await encode(fleet, encoder, [first], priority=Priority.INTERACTIVE, timeout_s=5)
            except DeadlineExceeded:
                failures += 1
    assert failures <= 1
    assert len(servers[1].work) >= 19


async def test_what_is_too_much_for_one_goes_to_another(servers: list[Server], encoder: Encoder) -> None:
    """And when all queues are full, the caller is told that, and not that Triton is away."""
    async with fleet_of(servers) as fleet:
        await encode(fleet, encoder, range(100, 164))
        full = refuse(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")
        servers[0].fake.answer = full
        await encode(fleet, encoder, range(200, 264))
        servers[1].fake.answer = full
        with pytest.raises(Overloaded):
            await encode(fleet, encoder, [100])


async def test_a_name_stands_for_all_its_addresses_now_and_later(servers: list[Server], encoder: Encoder) -> None:
    """One that is new is used, one that is gone is not; while the name cannot be looked up, what was known is used."""
    known = ["127.0.0.1"]

    async def look_up(host: str, port: int) -> list[str]:
        assert host == "triton.internal"
        if not known:
            raise OSError("no answer from the name server")
        return known

    port = servers[0].port
    fleet = TritonFleet(f"triton.internal:{port}", concurrency=4, resolve=look_up)
    with pytest.raises(TritonUnavailable, match="none was looked up yet"):
        await encode(fleet, encoder, [100])
    await fleet.refresh()
    assert fleet.urls == [f"127.0.0.1:{port}"]
    known[:] = ["127.0.0.1", "127.0.0.2", "::1"]
    await fleet.refresh()
    assert fleet.urls == [f"127.0.0.1:{port}", f"127.0.0.2:{port}", f"[::1]:{port}"]
    known.clear()
    await fleet.refresh()
    assert len(fleet.urls) == 3
    known[:] = ["127.0.0.1"]
    await fleet.refresh()
    assert fleet.urls == [f"127.0.0.1:{port}"]
    await encode(fleet, encoder, [100])
    await fleet.close()


async def test_a_triton_that_the_name_no_longer_has_finishes_what_it_was_asked(
    servers: list[Server], encoder: Encoder
) -> None:
    """Its connection is closed after the last answer."""
    known = ["127.0.0.1"]
    answer = asyncio.Event()

    async def look_up(host: str, port: int) -> list[str]:
        return known

    async def late(call: Call, context: Any) -> NDArray[np.float32]:
        await answer.wait()
        return await right(call, context)

    fleet = TritonFleet(f"triton.internal:{servers[0].port}", concurrency=4, resolve=look_up)
    await fleet.refresh()
    await fleet.prove(encoder, timeout_s=5)
    servers[0].fake.answer = late
    asked = len(servers[0].fake.calls)
    running = asyncio.create_task(encode(fleet, encoder, [100]))
    while len(servers[0].fake.calls) == asked:
        await asyncio.sleep(0.01)
    known[:] = ["127.0.0.9"]
    await fleet.refresh()
    answer.set()
    await running
    await fleet.close()


async def test_the_system_s_resolver_is_asked() -> None:
    """Of a name with addresses of both kinds those of IPv4 alone: the others would be the same Tritons again."""
    assert await resolve("localhost", 8001) == ["127.0.0.1"]
    with pytest.raises(OSError):  # noqa: PT011 - the resolver's words differ
        await resolve("no-such-host.invalid", 8001)


async def test_what_is_no_name_is_not_looked_up() -> None:
    """Numbers, and what only gRPC understands."""

    async def look_up(host: str, port: int) -> list[str]:
        raise AssertionError(host)

    addresses = Addresses("127.0.0.1:1, [::1]:2,localhost:3,unix:/run/triton.sock", look_up)
    assert await addresses.look() == {"127.0.0.1:1", "[::1]:2", "localhost:3", "unix:/run/triton.sock"}


async def test_a_name_that_is_not_known_keeps_no_other_from_being_used(caplog: pytest.LogCaptureFixture) -> None:
    """Not at the start either; what it stood for before goes on, and it is complained of once until it is known."""
    known = {"one": ["10.0.0.1"], "two": ["10.0.0.2"]}

    async def look_up(host: str, port: int) -> list[str]:
        if host not in known:
            raise OSError(-2, "Name or service not known")
        return known[host]

    addresses = Addresses("one:1,late:1,two:1,127.0.0.1:1", look_up)
    assert await addresses.look() == {"10.0.0.1:1", "10.0.0.2:1", "127.0.0.1:1"}
    assert addresses.unknown == "late:1: Name or service not known"
    known["one"] = ["10.0.0.3"]
    del known["two"]
    assert await addresses.look() == {"10.0.0.3:1", "10.0.0.2:1", "127.0.0.1:1"}
    assert [record.args[0] for record in caplog.records if record.args] == ["late:1", "two:1"]
    known |= {"late": ["10.0.0.4"], "two": ["10.0.0.2"]}
    assert len(await addresses.look()) == 4
    assert addresses.unknown == ""
    del known["late"]
    assert len(await addresses.look()) == 4
    assert len(caplog.records) == 3


async def test_following_the_names_outlives_a_fault(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Dead, it would say so only at the shutdown, and no Triton that moves would be found again."""
    monkeypatch.setattr(fleet_module, "_RESOLVE_PERIOD_S", 0.01)
    monkeypatch.setattr(fleet_module, "_RESOLVE_AT_MOST_EVERY_S", 0.01)
    looked = 0

    async def look_up(host: str, port: int) -> list[str]:
        nonlocal looked
        looked += 1
        if looked == 1:
            raise KeyError("unforeseen")
        return ["127.0.0.1"]

    fleet = TritonFleet("triton.internal:1", concurrency=1, resolve=look_up)
    task = asyncio.create_task(fleet.run())
    while not fleet.urls and not task.done():
        await asyncio.sleep(0.01)
    assert fleet.urls == ["127.0.0.1:1"]
    assert [record.message for record in caplog.records] == ["the addresses of Triton were not looked up"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await fleet.close()
