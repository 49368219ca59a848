"""The options of both ends fit each other, shown by what passes between a real client and a real server."""

import contextlib
import threading
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import Int32Value
from http2_tap import Http2Tap

from gateway import wire
from gateway.client.client import Client

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times a thirtieth of the real ones, requests of 1 MiB; the test's deadlines stay far above both.

    An answer to a ping has a sixth: on a busy machine it may take a third of a second.
    """
    for name, part in (("PING_AFTER_MS", 30), ("PING_TIMEOUT_MS", 6), ("LEAST_PING_INTERVAL_MS", 30)):
        monkeypatch.setattr(wire, name, getattr(wire, name) // part)
    monkeypatch.setattr(wire, "MAX_MESSAGE_BYTES", 2 * MIB)
    monkeypatch.setattr(wire, "MAX_REQUEST_BYTES", MIB)


@dataclass
class Server:
    """A server that says it is healthy, echoes bytes, and has one call that never ends."""

    tap: Http2Tap
    waiting: threading.Event = field(default_factory=threading.Event)
    gone: threading.Event = field(default_factory=threading.Event)

    def wait(self, request: bytes, context: Any) -> bytes:
        context.add_callback(self.gone.set)
        self.waiting.set()
        self.gone.wait()
        return b""


@contextlib.contextmanager
def serving(options: wire.Options) -> Iterator[Server]:
    with futures.ThreadPoolExecutor(4) as threads:
        server = grpc.server(threads, options=options)
        port = server.add_insecure_port("127.0.0.1:0")
        with Http2Tap(port) as tap:
            service = Server(tap)
            unary = grpc.unary_unary_rpc_method_handler
            health = unary(lambda *_: Int32Value(value=1), response_serializer=Int32Value.SerializeToString)
            methods = {"Echo": unary(lambda request, _: request), "Wait": unary(service.wait)}
            for name, handlers in (("grpc.health.v1.Health", {"Check": health}), ("test.Test", methods)):
                server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
            server.start()
            try:
                yield service
            finally:
                service.gone.set()
                server.stop(None).wait()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(wire.server_options()) as server:
        yield server


@pytest.fixture
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.tap.endpoint, wire.client_options()) as channel:
        yield channel


def test_a_client_that_idles_is_asked_and_not_cut_off(server: Server) -> None:
    """gRPC servers strike a client that pings too often, and hang up at the third strike: five pings show it."""
    with Client(server.tap.endpoint, api_key="k3y") as client:
        assert client.health() == "SERVING"
        assert server.tap.wait_for("to client", "PING ACK", 6)
        assert server.tap.count("to client", "GOAWAY") == 0
        assert client.health() == "SERVING"
        assert server.tap.connection_count == 1


def test_a_server_that_is_not_told_hangs_up_on_such_a_client() -> None:
    """That the test above can fail."""
    options = [option for option in wire.server_options() if "keepalive_permit" not in option[0]]
    with serving(options) as server, Client(server.tap.endpoint, api_key="k3y") as client:
        assert client.health() == "SERVING"
        assert server.tap.wait_for("to client", "GOAWAY", 1)


def test_a_server_that_is_gone_without_a_word_fails_the_call(server: Server, channel: grpc.Channel) -> None:
    """Even when the connection was silent before: UNAVAILABLE, which clients repeat, and not the deadline."""
    call = channel.unary_unary("/test.Test/Wait").future(b"", timeout=30)
    assert server.tap.wait_for("to client", "PING ACK", 4)
    server.tap.swallow()
    error = call.exception()
    assert isinstance(error, grpc.Call)
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert "ping timeout" in str(error.details())


def test_a_client_that_is_gone_without_a_word_leaves_no_call(server: Server, channel: grpc.Channel) -> None:
    """Nobody computes for it, and its stream is no longer counted."""
    call = channel.unary_unary("/test.Test/Wait").future(b"", timeout=600)
    assert server.waiting.wait(60)
    assert server.tap.wait_for("to server", "PING ACK", 3)
    server.tap.swallow()
    assert server.gone.wait(30)
    call.cancel()


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip])
def test_the_largest_message_is_the_same_on_both_sides(channel: grpc.Channel, compression: Any) -> None:
    """Compressed or not: what counts is what has to be held in memory."""
    echo = channel.unary_unary("/test.Test/Echo")
    assert echo(bytes(MIB), timeout=60, compression=compression) == bytes(MIB)
    with pytest.raises(grpc.RpcError) as raised:
        echo(bytes(MIB + 1), timeout=60, compression=compression)
    assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_nothing_is_compressed_but_a_request_may_be(server: Server, channel: grpc.Channel) -> None:
    """Zeros would shrink to a thousandth."""
    echo = channel.unary_unary("/test.Test/Echo")
    echo(bytes(MIB), timeout=60, compression=grpc.Compression.Gzip)
    assert server.tap.byte_count["to server"] < MIB / 100
    assert server.tap.byte_count["to client"] >= MIB
    echo(bytes(MIB), timeout=60)
    assert server.tap.byte_count["to server"] >= MIB
