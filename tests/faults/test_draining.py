"""A gateway that is asked to go: health says so first, what is in flight finishes, and another takes over unseen."""

import asyncio
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
import pytest
from fault_caller import API_KEY, Caller, chunk_request, error_of
from fault_site import Backends, alive
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.client.client import Client
from gateway.client.errors import ClientError
from gateway.local.process import GatewayServer, free_port

pytestmark = pytest.mark.alone

NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
# What is in flight takes a second, and on a machine that is busy otherwise half a minute; nobody waits for the rest.
GRACE_S = 60
TEXTS = [f"def function_{number}(value):\n    return value * {number}\n" * 12 for number in range(64)]


async def until_not_serving(channel: grpc.aio.Channel) -> float:
    """When health said so, on the monotonic clock."""
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
    async for reply in watch:
        if reply.status == NOT_SERVING:
            watch.cancel()
            return time.monotonic()
    raise AssertionError("the watch ended without a word")


async def begun(caller: Caller) -> None:
    """Return once a chunk of the stream is stored."""
    while (await caller.chunk_count("drained"))[0] == 0:
        await asyncio.sleep(0.01)


async def admitted(gateway: GatewayServer) -> None:
    """Return once a call is in work. One that is on its way when the gateway is told to go is refused, and rightly."""
    with Client(gateway.url, api_key=API_KEY) as client:
        while not (await asyncio.to_thread(client.status)).admission.pending_token_count:
            await asyncio.sleep(0.01)


async def test_what_is_in_flight_finishes_and_health_goes_first(backends: Backends, database_url: str) -> None:
    gateway = backends.gateway(database_url, drain_s=str(GRACE_S), cache_max_texts="0")
    await gateway.start()
    async with (
        grpc.aio.insecure_channel(gateway.url) as channel,
        grpc.aio.insecure_channel(gateway.url, [("grpc.use_local_subchannel_pool", 1)]) as watching,
    ):
        caller = Caller(channel, gateway.url)
        await caller.create("drained")
        serving = asyncio.create_task(until_not_serving(watching))
        indexing = asyncio.create_task(caller.index(chunk_request("drained", number) for number in range(200)))
        await begun(caller)
        embedding = asyncio.create_task(finished(caller.embed(TEXTS, timeout_s=60)))
        await admitted(gateway)
        started = time.monotonic()
        os.kill(gateway.pid, signal.SIGTERM)
        said, (answered, response) = await asyncio.gather(serving, embedding)
        assert said < answered
        assert len(response.embeddings) == len(TEXTS)
        assert all(reply.HasField("indexed") for reply in await indexing)
        assert await gateway.wait() == 0
        assert time.monotonic() - started < GRACE_S + 5
    log = await asyncio.to_thread(backends.log_path().read_text)
    assert "Traceback" not in log and "never" not in log, log


async def finished(call: object) -> tuple[float, object]:
    response = await call  # type: ignore[misc]
    return time.monotonic(), response


async def test_who_does_not_finish_within_the_grace_is_cut_off_with_a_code(
    backends: Backends, database_url: str
) -> None:
    """Triton hangs meanwhile: the gateway exits in its time all the same, by itself."""
    gateway = backends.gateway(database_url, drain_s="1", cache_max_texts="0")
    await gateway.start()
    async with grpc.aio.insecure_channel(gateway.url) as channel:
        caller = Caller(channel, gateway.url)
        await caller.create("drained")
        os.killpg(backends.triton.pid, signal.SIGSTOP)
        hanging = asyncio.create_task(error_of(lambda: caller.embed(["never = 1"], timeout_s=60)))
        streaming = asyncio.create_task(error_of(lambda: caller.index([chunk_request("drained", 1)])))
        await admitted(gateway)
        os.kill(gateway.pid, signal.SIGTERM)
        async with asyncio.timeout(15):
            assert await gateway.wait() == 0
        for error in (await hanging, await streaming):
            assert error.code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    assert "Traceback" not in await asyncio.to_thread(backends.log_path().read_text)


@dataclass
class Load:
    """Threads that search, embed and list without a pause, each with a client of its own."""

    url: str
    failures: list[str] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def running(self, thread_count: int) -> Iterator[None]:
        """Load for the length of the block."""
        ended = threading.Event()
        threads = [threading.Thread(target=self._run, args=(number, ended)) for number in range(thread_count)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            ended.set()
            for thread in threads:
                thread.join()

    def _run(self, number: int, ended: threading.Event) -> None:
        with Client(self.url, api_key=API_KEY, timeout_s=30) as client:
            turn = 0
            while not ended.is_set():
                turn += 1
                try:
                    if turn % 3 == 0:
                        client.embed([f"x_{number}_{turn} = {turn}"], "passage")
                    elif turn % 3 == 1:
                        assert len(client.search("rolled", "multiply by 7").hits) == 10
                    else:
                        client.get_codebase("rolled")
                except (ClientError, AssertionError) as error:
                    self.failures.append(f"{number}.{turn}: {error!r}")
                else:
                    self.answers["answered"] += 1


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["drained", "killed"])
async def test_gateways_are_replaced_one_after_the_other_and_no_caller_fails(
    backends: Backends, database_url: str, how: signal.Signals
) -> None:
    """Two behind one port. Who repeats what was UNAVAILABLE, as the client does, notices nothing."""
    listen = f"127.0.0.1:{free_port()}"
    gateways = [rolled(backends, database_url, listen, number) for number in (1, 2)]
    try:
        for gateway in gateways:
            await gateway.start()
        async with grpc.aio.insecure_channel(listen) as channel:
            caller = Caller(channel, listen)
            await caller.create("rolled")
            await caller.index([chunk_request("rolled", number) for number in range(10)])
        load = Load(listen)
        with load.running(6):
            await until_answered(load, 50)
            for gateway in gateways:
                os.kill(gateway.pid, how)
                await gateway.wait()
                await until_answered(load, 50)
                await gateway.start()
                await until_answered(load, 50)
        assert load.failures == []
        assert all(alive(gateway.pid) for gateway in gateways)
    finally:
        for gateway in gateways:
            await gateway.stop()


def rolled(backends: Backends, database_url: str, listen: str, number: int) -> GatewayServer:
    name = f"rolled-{number}"
    own = f"unix-abstract:duovec-faults-{os.getpid()}-{number}"
    return backends.gateway(
        database_url, name, listen=listen, reuse_port="true", own_listen=own, drain_s="5", own_address=own
    )


async def until_answered(load: Load, count: int) -> None:
    wanted = load.answers["answered"] + count
    async with asyncio.timeout(60):
        while load.answers["answered"] < wanted:
            await asyncio.sleep(0.02)
