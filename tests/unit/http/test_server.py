"""The server's patience and its end, over real sockets: who is slow, who goes, and who is in flight when it stops."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from tls_certificates import Authority, Issued

from gateway.errors import DeadlineExceeded, InvalidInput, Overloaded, StartupError
from gateway.http import door as door_module
from gateway.http import protocol
from gateway.http.door import Call, Door
from gateway.http.listening import HttpListener
from gateway.http.server import HttpServer
from gateway.rpc.intake import Intake
from gateway.rpc.quotas import Quotas
from gateway.rpc.tls import TlsFiles
from gateway.store.access import Quota
from gateway.telemetry.observer import Observer
from gateway.telemetry.requests import RequestStatistics

WAIT_S = 60.0
ROOT, OTHER_ROOT = Authority.make(), Authority.make("another root")


class Site:
    """A server with one route, `POST /work`, open to all, that does what a test says."""

    def __init__(self) -> None:
        self.statistics = RequestStatistics()
        self.handle: Callable[[Call], Awaitable[Response]] = _echo
        self.server: HttpServer
        self.wires: list[Wire] = []

    async def work(self, call: Call) -> Response:
        return await self.handle(call)

    @property
    def codes(self) -> dict[str, int]:
        return dict(self.statistics.of("POST /work").code_counts)

    async def ended(self) -> None:
        """Wait until no request runs."""
        while any(method.running_count for method in self.statistics.methods.values()):
            await asyncio.sleep(0.005)


async def _echo(call: Call) -> Response:
    return Response(call.body)


@asynccontextmanager
async def running(
    *,
    tls: TlsFiles | None = None,
    drain_s: float = 5.0,
    timeout_s: float = 30.0,
    max_body_bytes: int = 1000,
    max_connections: int = 1024,
) -> AsyncIterator[Site]:
    """Run a site on a free port."""
    site = Site()
    observer = Observer(site.statistics, tracing=None, log_requests=False)
    principals = None  # no route of these needs a key
    door = Door(principals, Quotas(Quota()), observer, Intake(), timeout_s=timeout_s, max_body_bytes=max_body_bytes)  # type: ignore[arg-type]
    app = Starlette(
        routes=[door.route("/work", site.work, verb="POST", needs_key=False)],
        exception_handlers={HTTPException: door.refuse},
    )
    app.router.redirect_slashes = False
    site.server = HttpServer(
        app,
        HttpListener("127.0.0.1:0", tls),
        timeout_s=timeout_s,
        drain_s=drain_s,
        max_connections=max_connections,
    )
    await site.server.start()
    try:
        yield site
    finally:
        for wire in site.wires:
            wire.writer.transport.abort()
            with suppress(OSError):
                await wire.writer.wait_closed()
        await site.server.stop()


class Wire:
    """A connection on which bytes are sent as they are."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, site: Site, context: ssl.SSLContext | None = None) -> "Wire":
        wire = cls(*await asyncio.open_connection("127.0.0.1", site.server.port, ssl=context))
        site.wires.append(wire)
        return wire

    async def send(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))
        await self.writer.drain()

    async def reply(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the next reply."""
        async with asyncio.timeout(WAIT_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            return int(head[0].split()[1]), headers, await self.reader.readexactly(int(headers["content-length"]))

    async def closed(self) -> bytes:
        """What comes until the server closes."""
        async with asyncio.timeout(WAIT_S):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""


def request(body: bytes = b"", *headers: bytes, path: bytes = b"/work", verb: bytes = b"POST") -> bytes:
    lines = [verb + b" " + path + b" HTTP/1.1", b"Host: x", *headers]
    if not any(header.lower().startswith((b"content-length", b"transfer-encoding")) for header in headers):
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", body])


async def test_requests_on_one_connection_are_answered_in_turn() -> None:
    """Also those that were sent before the first was answered."""
    async with running() as site:
        wire = await Wire.to(site)
        await wire.send(request(b"one"), request(b"two"), request(b"three"))
        assert [(await wire.reply())[2] for _ in range(3)] == [b"one", b"two", b"three"]
        await site.ended()
        assert site.codes == {"OK": 3}


async def test_a_request_begins_without_what_the_one_before_it_left() -> None:
    """Else it could act with another's key: whose it is, is known by its context alone."""
    left: ContextVar[str] = ContextVar("left", default="nothing")
    async with running() as site:

        async def leave(call: Call) -> Response:
            found = left.get()
            left.set("a key")
            return Response(found)

        site.handle = leave
        wire = await Wire.to(site)
        await wire.send(request(), request())
        assert [(await wire.reply())[2] for _ in range(2)] == [b"nothing", b"nothing"]


@pytest.mark.parametrize("begun", [b"", b"POST /work HTT", request()[:-2]])
async def test_headers_that_do_not_come_end_the_connection(monkeypatch: pytest.MonkeyPatch, begun: bytes) -> None:
    """Else a connection costs its owner nothing, and us a place for ever."""
    monkeypatch.setattr(protocol, "HEADER_TIMEOUT_S", 0.1)
    async with running() as site:
        wire = await Wire.to(site)
        await wire.send(begun)
        assert await wire.closed() == b""


async def test_headers_of_a_later_request_have_their_time_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEADER_TIMEOUT_S", 1.0)
    async with running() as site:
        wire = await Wire.to(site)
        await wire.send(request(b"one"))
        assert (await wire.reply())[2] == b"one"
        await wire.send(b"POST /wo")
        assert await wire.closed() == b""


async def test_a_request_that_takes_longer_than_headers_may_is_let_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEADER_TIMEOUT_S", 0.5)
    async with running() as site:

        async def slow(call: Call) -> Response:
            await asyncio.sleep(1.0)
            return Response(b"late")

        site.handle = slow
        wire = await Wire.to(site)
        await wire.send(request())
        assert (await wire.reply())[2] == b"late"


async def test_a_body_that_does_not_come_is_answered_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "BODY_TIMEOUT_S", 0.1)
    async with running() as site:
        wire = await Wire.to(site)
        await wire.send(request(b"half", b"Content-Length: 8"))
        status, headers, body = await wire.reply()
        assert (status, headers["connection"]) == (408, "close")
        assert b"did not come within" in body
        assert await wire.closed() == b""
        await site.ended()
        assert site.codes == {"INVALID_ARGUMENT": 1}


@pytest.mark.parametrize(
    "too_large",
    [request(b"x" * 1001), request(b"", b"Transfer-Encoding: chunked") + b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n"],
)
async def test_a_body_beyond_the_limit_is_answered_413_and_the_connection_goes_on(too_large: bytes) -> None:
    """Declared or not, and without being kept."""
    async with running() as site:
        wire = await Wire.to(site)
        await wire.send(too_large)
        assert (await wire.reply())[0] == 413
        await wire.send(request(b"small"))
        assert (await wire.reply())[2] == b"small"


async def test_a_body_at_the_limit_is_taken() -> None:
    async with running() as site:
        wire = await Wire.to(site)
        await wire.send(request(b"x" * 1000))
        assert (await wire.reply())[2] == b"x" * 1000


async def test_what_is_done_for_a_client_that_goes_ends() -> None:
    """Nobody else may have to wait for work that nobody waits for."""
    async with running() as site:
        begun, cancelled = asyncio.Event(), asyncio.Event()

        async def hang(call: Call) -> Response:
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise
            raise AssertionError("unreachable")

        site.handle = hang
        wire = await Wire.to(site)
        await wire.send(request())
        await begun.wait()
        wire.writer.transport.abort()
        async with asyncio.timeout(WAIT_S):
            await cancelled.wait()
            await site.ended()
        assert site.codes == {"CANCELLED": 1}


async def test_a_reply_that_nobody_takes_ends_the_connection() -> None:
    async with running(timeout_s=0.2) as site:

        async def large(call: Call) -> Response:
            return Response(b"x" * 50_000_000)

        site.handle = large
        wire = await Wire.to(site)
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await wire.send(request())
        async with asyncio.timeout(WAIT_S):
            while not site.codes:
                await asyncio.sleep(0.01)
            while site.server._server.server_state.connections:
                await asyncio.sleep(0.01)


async def test_a_request_has_its_deadline() -> None:
    async with running(timeout_s=0.1) as site:

        async def hang(call: Call) -> Response:
            await asyncio.Event().wait()
            raise AssertionError("unreachable")

        site.handle = hang
        wire = await Wire.to(site)
        await wire.send(request())
        status, _, body = await wire.reply()
        assert status == 504
        assert b'"reason":"DEADLINE_EXCEEDED"' in body


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (InvalidInput("field", "is odd"), 400, b'"param":"field"'),
        (Overloaded("too much", retry_after_s=1.2), 429, b'"code":"rate_limit_exceeded"'),
        (DeadlineExceeded("late"), 504, b'"type":"server_error"'),
        (ZeroDivisionError("secret"), 500, b"internal error; the server's log has the details"),
        (HTTPException(415, "not this"), 415, b'"reason":"UNSUPPORTED_MEDIA_TYPE"'),
    ],
)
async def test_errors_have_their_status(error: Exception, status: int, words: bytes) -> None:
    async with running() as site:

        async def fail(call: Call) -> Response:
            raise error

        site.handle = fail
        wire = await Wire.to(site)
        await wire.send(request(b"", b"X-Request-Id: mine-7"))
        found, headers, body = await wire.reply()
        assert found == status
        assert words in body and b"secret" not in body
        assert headers["x-request-id"] == "mine-7"
        if status == 429:
            assert (headers["retry-after"], headers["retry-after-ms"]) == ("2", "1200")


@pytest.mark.parametrize(
    ("path", "verb", "status"), [(b"/none", b"POST", 404), (b"/work/", b"POST", 404), (b"/work", b"GET", 405)]
)
async def test_where_there_is_no_route_the_error_has_the_same_shape(path: bytes, verb: bytes, status: int) -> None:
    async with running() as site:
        wire = await Wire.to(site)
        await wire.send(request(path=path, verb=verb))
        found, headers, body = await wire.reply()
        assert (found, headers["content-type"]) == (status, "application/json")
        assert body.startswith(b'{"error":{"message":"')


@pytest.mark.parametrize(
    "odd",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST /work HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /work HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"a" * 20_000,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
async def test_bytes_that_are_no_request_end_their_connection_alone(odd: bytes) -> None:
    """A client of another protocol, or one that never comes to an end."""
    async with running() as site:
        wire = await Wire.to(site)
        await wire.send(odd)
        answer = await wire.closed()
        if answer:
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 4")
            # Of the first reply: to what reads as two requests there are two.
            assert json.JSONDecoder().raw_decode(body.decode())[0]["error"]["type"] == "invalid_request_error"
        other = await Wire.to(site)
        await other.send(request(b"still here"))
        assert (await other.reply())[2] == b"still here"


async def test_beyond_so_many_connections_others_are_closed(caplog: pytest.LogCaptureFixture) -> None:
    """And the log says so in a line a second, whoever comes how often."""
    async with running(max_connections=2) as site:
        wires = [await Wire.to(site) for _ in range(2)]
        for _ in range(20):
            assert await (await Wire.to(site)).closed() == b""
        assert caplog.messages[0] == "2 HTTP connections are open, another one is closed"
        assert len(caplog.messages) < 10
        await wires[0].send(request(b"in"))
        assert (await wires[0].reply())[2] == b"in"


async def test_what_is_in_flight_finishes_when_the_server_stops() -> None:
    async with running() as site:
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def work(call: Call) -> Response:
            begun.set()
            await go_on.wait()
            return Response(b"done")

        site.handle = work
        busy, idle = await Wire.to(site), await Wire.to(site)
        await busy.send(request())
        await begun.wait()
        stopping = asyncio.create_task(site.server.stop())
        assert await idle.closed() == b""
        with pytest.raises(ConnectionRefusedError):
            await Wire.to(site)
        go_on.set()
        assert (await busy.reply())[2] == b"done"
        await stopping


async def test_who_does_not_finish_within_the_grace_is_answered_503() -> None:
    async with running(drain_s=0.2) as site:
        begun = asyncio.Event()

        async def hang(call: Call) -> Response:
            begun.set()
            await asyncio.Event().wait()
            raise AssertionError("unreachable")

        site.handle = hang
        wire = await Wire.to(site)
        await wire.send(request())
        await begun.wait()
        async with asyncio.timeout(WAIT_S):
            await site.server.stop()
        assert (await wire.reply())[0] == 503
        assert site.codes == {"CANCELLED": 1}


def trusting(root: Authority, own: Issued | None = None, folder: Path | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=root.pem.decode())
    if own is not None and folder is not None:
        context.load_cert_chain(*own.write(folder, "client"))
    return context


async def test_replaced_certificates_hold_from_the_next_connection_on(tmp_path: Path) -> None:
    """Without a restart, and whether or not the client names the server that it wants."""
    files = TlsFiles(*ROOT.issue().write(tmp_path, "server"))
    async with running(tls=files) as site:
        old = await Wire.to(site, trusting(ROOT))
        OTHER_ROOT.issue().write(tmp_path, "server")
        new = await Wire.to(site, trusting(OTHER_ROOT))
        with pytest.raises(ssl.SSLCertVerificationError):
            await Wire.to(site, trusting(ROOT))
        for wire in (old, new):
            await wire.send(request(b"encrypted"))
            assert (await wire.reply())[2] == b"encrypted"


async def test_clients_show_a_certificate_of_the_authority_that_counts_now(tmp_path: Path) -> None:
    authorities = tmp_path / "clients.pem"
    authorities.write_bytes(ROOT.pem)
    files = TlsFiles(*ROOT.issue().write(tmp_path, "server"), authorities)
    mine, theirs = ROOT.issue("alice"), OTHER_ROOT.issue("bob")

    async def ask(own: Issued | None) -> bytes:
        wire = await Wire.to(site, trusting(ROOT, own, tmp_path))
        await wire.send(request(b"hello"))
        return (await wire.reply())[2]

    async with running(tls=files) as site:
        assert await ask(mine) == b"hello"
        for stranger in (None, theirs):
            with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
                await ask(stranger)
        authorities.write_bytes(OTHER_ROOT.pem)
        assert await ask(theirs) == b"hello"
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await ask(mine)


def test_what_leaves_the_machine_is_encrypted() -> None:
    with pytest.raises(StartupError, match="DUOVEC_HTTP_LISTEN: 0.0.0.0:8080 is neither loopback"):
        HttpListener("0.0.0.0:8080", None)
    assert HttpListener("0.0.0.0:8080", None, allow_insecure=True)


@pytest.mark.parametrize("address", ["unix:/tmp/http", "127.0.0.1:http", "127.0.0.1:65536", "localhost:"])
def test_an_address_is_a_host_and_a_port(address: str) -> None:
    with pytest.raises(StartupError, match="DUOVEC_HTTP_LISTEN: .* is not an address such as 127.0.0.1:8080"):
        HttpListener(address, None)


def test_a_taken_port_is_said_at_the_start_unless_it_is_to_be_shared() -> None:
    with HttpListener("127.0.0.1:0", None).bind() as held:
        taken = f"127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(StartupError, match=f"cannot listen on {taken} .*; set DUOVEC_HTTP_LISTEN"):
            HttpListener(taken, None).bind()
    with HttpListener("[::1]:0", None, reuse_port=True).bind() as held:
        HttpListener(f"[::1]:{held.getsockname()[1]}", None, reuse_port=True).bind().close()
