"""Where the gateway may listen without encryption."""

import socket

import grpc
import pytest

from gateway.errors import StartupError
from gateway.rpc.listening import Listener
from gateway.wire import is_local


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:50051",
        "127.8.9.10:1",
        "localhost:50051",
        "[::1]:50051",
        "ipv4:127.0.0.1:50051",
        "ipv6:[::1]:50051",
        "dns:///localhost:50051",
        "unix:/run/duovec.sock",
        "unix-abstract:duovec",
    ],
)
def test_an_address_of_this_machine_alone_is_local(address: str) -> None:
    assert is_local(address)
    assert Listener(address, "DUOVEC_LISTEN", None).tls is None


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0:50051",
        "[::]:50051",
        "10.1.2.3:50051",
        "duovec.internal:50051",
        "localhost.example.org:50051",
        "127.0.0.1.example.org:50051",
        "ipv4:127.0.0.1:50051,10.1.2.3:50051",
        "vsock:3:50051",
        ":50051",
        "",
    ],
)
def test_any_other_takes_tls_or_a_plain_word(address: str) -> None:
    """The line says what to set."""
    with pytest.raises(StartupError) as refused:
        Listener(address, "DUOVEC_OWN_LISTEN", None)
    assert str(refused.value) == (
        f"DUOVEC_OWN_LISTEN: {address} is neither loopback nor a unix socket, and without TLS all could be read on the "
        "way; set DUOVEC_TLS_CERTIFICATE and DUOVEC_TLS_KEY, "
        "or DUOVEC_ALLOW_INSECURE=true where something else encrypts"
    )
    assert Listener(address, "DUOVEC_OWN_LISTEN", None, allow_insecure=True).address == address


async def test_a_taken_address_is_named_with_its_setting() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listener = Listener(f"127.0.0.1:{taken.getsockname()[1]}", "DUOVEC_LISTEN", None)
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        with pytest.raises(StartupError, match="cannot listen on 127.* set DUOVEC_LISTEN to a free address"):
            listener.bind(server)
        await server.stop(None)


@pytest.mark.parametrize("address", ["127.0.0.1:65536", "127.0.0.1:99999", "[::1]:99999"])
async def test_a_port_that_there_is_not_is_refused(address: str) -> None:
    """gRPC would listen at another one, 34463 for 99999, and nobody would find it."""
    server = grpc.aio.server()
    with pytest.raises(StartupError, match="ports end at 65535; set DUOVEC_LISTEN"):
        Listener(address, "DUOVEC_LISTEN", None).bind(server)
    await server.stop(None)
