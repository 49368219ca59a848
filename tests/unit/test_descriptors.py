"""A flood of connections without a key leaves the gateway files for everything else, and does not fill its log."""

import asyncio
import logging
import resource
import socket
from collections.abc import Iterator

import grpc
import pytest

from gateway import descriptors
from gateway.server import _options
from gateway.settings import Settings


@pytest.fixture
def limit() -> Iterator[int]:
    """A soft limit below the hard one, as a login shell has it, for a test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard > 256
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_all_that_may_be_had_is_taken_and_no_door_gets_it_all(limit: int) -> None:
    assert descriptors.connections_a_door() == 64
    descriptors.raise_limit()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (limit, limit)


async def test_a_lack_of_descriptors_is_told_in_a_line(limit: int, caplog: pytest.LogCaptureFixture) -> None:
    """asyncio alone writes as many tracebacks as `backlog`, for each connection that waits, every second."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(descriptors.ShortageTold())
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0, backlog=500)
    with caplog.at_level(logging.ERROR), socket.socket() as caller:
        caller.setblocking(False)
        taken = []
        while True:
            try:
                taken.append(socket.socket())
            except OSError:
                break
        await loop.sock_connect(caller, server.sockets[0].getsockname())
        await asyncio.sleep(0)
        while not caplog.records:
            await asyncio.sleep(0)
        assert [record.getMessage() for record in caplog.records] == [
            "socket.accept() out of system resource: Too many open files"
        ]
        assert caplog.records[0].exc_info is None
        for sock in taken:
            sock.close()
        # It goes on where it stopped.
        assert await loop.sock_recv(caller, 1) == b""
    server.close()
    await server.wait_closed()


async def test_any_other_fault_has_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(descriptors.ShortageTold())
    loop.call_exception_handler({"message": "a callback failed", "exception": ConnectionResetError("by its peer")})
    assert caplog.records[0].getMessage() == "a callback failed" and caplog.records[0].exc_info


@pytest.mark.usefixtures("limit")
async def test_grpc_hangs_up_on_connections_beyond_its_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before they have said a word, and those who came first stay."""
    for name, value in {"DATABASE_URL": "postgresql://h/d", "TRITON_URL": "h:1", "MODEL_REPOSITORY": "/m"}.items():
        monkeypatch.setenv(f"DUOVEC_{name}", value)
    server = grpc.aio.server(options=_options(Settings.from_environment()))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    first_bytes, writers = [], []
    for _ in range(66):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        first_bytes.append(await reader.read(9))
        writers.append(writer)
    assert all(first_bytes[:64]) and first_bytes[64:] == [b"", b""]
    for writer in writers:
        writer.close()
    await server.stop(None)
