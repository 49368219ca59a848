"""Anything on the gateway's port: HTTP/2 that is broken somewhere, and what never was any. The server lives."""

import contextlib
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import psutil
import pytest
from fault_caller import API_KEY
from fault_site import Backends, until
from fuzz_caller import complaints
from fuzz_frames import PREFACE, call, conversations
from hypothesis import HealthCheck, Phase, given
from soak_run import SoakRun

from duovec.v1 import embedding_service_pb2, vector_pb2
from gateway.client.client import Client
from gateway.local.process import GatewayServer, split_address

pytestmark = pytest.mark.alone

PATH = b"/duovec.v1.EmbeddingService/Embed"
AUTHORIZATION = f"Bearer {API_KEY}".encode()
REQUEST = embedding_service_pb2.EmbedRequest(
    texts=["x = 1"], input_type=vector_pb2.INPUT_TYPE_PASSAGE
).SerializeToString()


@dataclass
class Port:
    """Where bytes are sent to."""

    gateway: GatewayServer
    log: Path

    def send(self, data: bytes, *, wait_s: float = 0.0) -> bytes:
        """Write all, say that no more comes, and give what is answered at once, or until as much time has passed."""
        with socket.create_connection(split_address(self.gateway.url), timeout=5) as connection:
            with contextlib.suppress(OSError):
                connection.sendall(data)
                if wait_s:
                    connection.settimeout(wait_s)
                    return b"".join(iter(lambda: connection.recv(65536), b""))
                connection.shutdown(socket.SHUT_WR)
                return connection.recv(65536)
            return b""

    def connections(self) -> int:
        """How many the gateway has open for its callers."""
        port = split_address(self.gateway.url)[1]
        found = psutil.Process(self.gateway.pid).net_connections(kind="tcp")
        return sum(1 for one in found if one.status != psutil.CONN_LISTEN and one.laddr.port == port)


@pytest.fixture(scope="module")
async def port(shared_backends: Backends) -> AsyncIterator[Port]:
    await shared_backends.mend()
    async with shared_backends.database() as url:
        gateway = shared_backends.gateway(url, "bytes")
        await gateway.start()
        yield Port(gateway, shared_backends.log_path("bytes"))
        await gateway.stop()


def test_the_bytes_are_a_call_before_they_are_damaged(port: Port) -> None:
    """Without this the rest would show nothing: the same bytes, whole, are answered with a vector."""
    answer = b""
    connection = socket.create_connection(split_address(port.gateway.url), timeout=10)
    with connection:
        connection.sendall(PREFACE + b"".join(call(PATH, AUTHORIZATION, REQUEST)))
        while b"grpc-status" not in answer and len(answer) < 10_240:
            answer += connection.recv(65536)
    assert len(answer) > 10_000


def test_a_path_that_is_not_utf_8_ends_its_own_call_alone(port: Port) -> None:
    """One such request, without any key, ended the server of gRPC 1.84 and 1.85: nobody was served any more."""
    port.send(PREFACE + b"".join(call(b"/duovec.v1.\x99", AUTHORIZATION, REQUEST)), wait_s=0.3)
    with Client(port.gateway.url, api_key=API_KEY) as client:
        assert client.embed(["x = 1"], "passage").shape == (1, 2560)
    assert "\x99" not in port.log.read_text("latin-1")


@pytest.mark.soak
async def test_damaged_bytes_harm_nobody(port: Port, soak: SoakRun) -> None:
    process = psutil.Process(port.gateway.pid)
    before = port.connections()
    settings = hypothesis.settings(
        max_examples=100_000 if soak.is_long else 1000,
        deadline=None,
        database=None,
        derandomize=not soak.is_long,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,),
    )

    @settings
    @given(conversations(PATH, AUTHORIZATION, REQUEST))
    def attempt(data: bytes) -> None:
        port.send(data)

    attempt()
    assert process.is_running()
    assert complaints(port.log) == ""
    with Client(port.gateway.url, api_key=API_KEY) as client:
        assert client.embed(["x = 1"], "passage").shape == (1, 2560)
    # Nobody's connection stays when its peer has gone.
    await until(lambda: port.connections() <= before, timeout_s=30)


async def test_connections_that_say_nothing_cost_nobody_else_anything(port: Port) -> None:
    """Two hundred that never finish their first frame; others are served, and all are given back in the end."""
    before = port.connections()
    address = split_address(port.gateway.url)
    with contextlib.ExitStack() as stack:
        for number in range(200):
            silent = stack.enter_context(socket.create_connection(address, timeout=5))
            silent.sendall(PREFACE[: number % len(PREFACE)])
        await until(lambda: port.connections() >= before + 150, timeout_s=30)
        with Client(port.gateway.url, api_key=API_KEY) as client:
            started = time.monotonic()
            assert client.embed(["y = 2"], "passage").shape == (1, 2560)
            assert time.monotonic() - started < 30
    await until(lambda: port.connections() <= before, timeout_s=30)
    assert complaints(port.log) == ""
