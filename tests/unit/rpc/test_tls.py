"""Certificates are checked before they are used, and followed while the gateway runs: real handshakes on loopback."""

import asyncio
import logging
import os
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from open_folder import open_folder
from tls_certificates import Authority, Issued, key_pem

from gateway.errors import StartupError
from gateway.rpc.listening import Listener
from gateway.rpc.tls import TlsFiles, tls_files

ROOT = Authority.make()
OTHER_ROOT = Authority.make("another root")
GOOD = ROOT.issue()


@asynccontextmanager
async def server(files: TlsFiles) -> AsyncIterator[int]:
    """A health service behind the files; gives its port."""
    running = grpc.aio.server()
    servicer = health.aio.HealthServicer()
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, running)
    port = Listener("127.0.0.1:0", "DUOVEC_LISTEN", files).bind(running)
    await running.start()
    try:
        yield port
    finally:
        await running.stop(None)


def channel(port: int, root: Authority = ROOT, own: Issued | None = None) -> grpc.aio.Channel:
    credentials = grpc.ssl_channel_credentials(root.pem, own.key if own else None, own.chain if own else None)
    # Its own connection, whatever others there are.
    return grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, [("grpc.use_local_subchannel_pool", 1)])


async def ask(connection: grpc.aio.Channel) -> int:
    reply = await health_pb2_grpc.HealthStub(connection).Check(health_pb2.HealthCheckRequest(), timeout=10)
    status: int = reply.status
    return status


async def shown_serial(port: int) -> int:
    """The serial number of the certificate that the next connection gets, seen by Python's own TLS."""
    context = ssl.create_default_context(cadata=ROOT.pem.decode())
    context.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    certificate = writer.get_extra_info("peercert")
    writer.close()
    return int(certificate["serialNumber"], 16)


def serial(issued: Issued) -> int:
    return x509.load_pem_x509_certificate(issued.chain).serial_number


async def test_a_certificate_is_served_and_trusted_by_who_knows_its_root(tmp_path: Path) -> None:
    async with server(TlsFiles(*GOOD.write(tmp_path, "server"))) as port:
        async with channel(port) as connection:
            assert await ask(connection) == health_pb2.HealthCheckResponse.SERVING
        async with channel(port, OTHER_ROOT) as connection:
            with pytest.raises(grpc.aio.AioRpcError, match="CERTIFICATE_VERIFY_FAILED"):
                await ask(connection)


@pytest.mark.parametrize("kind", ["rsa", "ec"])
async def test_a_chain_over_an_intermediate_is_served(tmp_path: Path, kind: str) -> None:
    """As the public authorities issue them, with either kind of key."""
    key = rsa.generate_private_key(65537, 2048) if kind == "rsa" else ec.generate_private_key(ec.SECP384R1())
    issued = ROOT.intermediate("middle").issue(key=key)
    async with server(TlsFiles(*issued.write(tmp_path, "server"))) as port, channel(port) as connection:
        assert await ask(connection) == health_pb2.HealthCheckResponse.SERVING


async def test_replaced_files_hold_from_the_next_connection_on(tmp_path: Path) -> None:
    """The client that is connected goes on, undisturbed; a new one gets the new certificate. No restart."""
    renewed = ROOT.issue()
    async with server(TlsFiles(*GOOD.write(tmp_path, "server"))) as port, channel(port) as before:
        assert await ask(before) == health_pb2.HealthCheckResponse.SERVING
        assert await shown_serial(port) == serial(GOOD)
        renewed.write(tmp_path, "server")
        assert await shown_serial(port) == serial(renewed)
        async with channel(port) as after:
            assert await ask(after) == health_pb2.HealthCheckResponse.SERVING
        assert await ask(before) == health_pb2.HealthCheckResponse.SERVING
        assert before.get_state() == grpc.ChannelConnectivity.READY


async def test_a_link_that_is_turned_is_a_replacement(tmp_path: Path) -> None:
    """Kubernetes renews a secret so: the files are links through one folder, which is exchanged in one step."""
    renewed = ROOT.issue()
    for name, issued in (("first", GOOD), ("second", renewed)):
        (tmp_path / name).mkdir()
        issued.write(tmp_path / name, "tls")
    (tmp_path / "data").symlink_to("first")
    async with server(TlsFiles(tmp_path / "data" / "tls.pem", tmp_path / "data" / "tls.key")) as port:
        assert await shown_serial(port) == serial(GOOD)
        (tmp_path / "turned").symlink_to("second")
        (tmp_path / "turned").replace(tmp_path / "data")
        assert await shown_serial(port) == serial(renewed)


async def test_a_broken_replacement_is_not_used_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The old certificate goes on until the files are whole again, be that because half of them was written so far."""
    renewed = ROOT.issue()
    certificate, key = GOOD.write(tmp_path, "server")
    async with server(TlsFiles(certificate, key)) as port:
        for broken, complaint in (
            (renewed.chain, "is not that of the first certificate"),
            (b"nonsense", "has no certificate in PEM"),
            (ROOT.issue(end=timedelta(days=-1)).chain, "expired at 20"),
        ):
            caplog.clear()
            certificate.write_bytes(broken)
            assert await shown_serial(port) == serial(GOOD)
            assert await shown_serial(port) == serial(GOOD)
            (record,) = [record for record in caplog.records if record.name == "gateway.rpc.tls"]
            assert record.levelno == logging.ERROR
            assert "the old ones go on" in record.getMessage()
            assert complaint in record.getMessage()
        certificate.unlink()
        assert await shown_serial(port) == serial(GOOD)
        renewed.write(tmp_path, "server")
        assert await shown_serial(port) == serial(renewed)


async def test_without_a_client_certificate_of_the_authority_nobody_gets_through(tmp_path: Path) -> None:
    """Mutual TLS: none, and one that somebody else signed, are refused; and a new authority counts at once."""
    authorities = tmp_path / "clients.pem"
    authorities.write_bytes(ROOT.pem)
    files = TlsFiles(*GOOD.write(tmp_path, "server"), authorities)
    async with server(files) as port:
        async with channel(port, own=ROOT.issue("alice")) as connection:
            assert await ask(connection) == health_pb2.HealthCheckResponse.SERVING
        for stranger in (None, OTHER_ROOT.issue("mallory"), ROOT.issue("late", end=timedelta(days=-1))):
            async with channel(port, own=stranger) as connection:
                with pytest.raises(grpc.aio.AioRpcError) as failure:
                    await ask(connection)
                assert failure.value.code() == grpc.StatusCode.UNAVAILABLE
        authorities.write_bytes(OTHER_ROOT.pem)
        async with channel(port, own=OTHER_ROOT.issue("bob")) as connection:
            assert await ask(connection) == health_pb2.HealthCheckResponse.SERVING


def test_files_that_were_refused_are_looked_at_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A certificate that the authority's faster clock made valid in a moment is used in a moment; said once each."""
    files = TlsFiles(*GOOD.write(tmp_path, "server"))
    first = files.current()
    renewed = ROOT.issue(begin=timedelta(seconds=5))
    renewed.write(tmp_path, "server")
    give_up_at = time.monotonic() + 30
    while files.current() is first:
        assert time.monotonic() < give_up_at
        time.sleep(0.01)
    assert files.current().chain_pem == renewed.chain
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "only" in caplog.messages[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may act as another account")
def test_a_key_that_became_readable_is_read(tmp_path: Path) -> None:
    """Its content and its time are what they were when it was refused."""
    with open_folder("duovec-tls-") as folder:
        certificate, key = GOOD.write(folder, "server")
        for path in (certificate, key):
            path.chmod(0o644)
        files = TlsFiles(certificate, key)
        os.seteuid(65534)
        try:
            renewed = ROOT.issue()
            os.seteuid(0)
            renewed.write(folder, "server")
            key.chmod(0o600)
            os.seteuid(65534)
            assert files.current().chain_pem == GOOD.chain
            os.seteuid(0)
            key.chmod(0o644)
            os.seteuid(65534)
            # Where the times of files are coarse it is that of the refusal, and looked at a second later.
            give_up_at = time.monotonic() + 30
            while files.current().chain_pem != renewed.chain:
                assert time.monotonic() < give_up_at
                time.sleep(0.01)
        finally:
            os.seteuid(0)


def test_an_expiry_while_it_runs_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # Its time has whole seconds: of two, one is left at least.
    files = TlsFiles(*ROOT.issue(end=timedelta(seconds=2)).write(tmp_path, "server"))
    first = files.current()
    while not caplog.records:
        assert files.current() is first
    assert files.current() is first
    (record,) = caplog.records
    assert record.getMessage().startswith("the TLS certificate expired at 20")


ED25519 = ed25519.Ed25519PrivateKey.generate()
EC = ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize(
    ("chain", "key", "complaint"),
    [
        (None, GOOD.key, "DUOVEC_TLS_CERTIFICATE: {certificate} cannot be read: No such file or directory"),
        (GOOD.chain, None, "DUOVEC_TLS_KEY: {key} cannot be read: No such file or directory"),
        (b"", GOOD.key, "DUOVEC_TLS_CERTIFICATE: {certificate} has no certificate in PEM"),
        (GOOD.key, GOOD.key, "DUOVEC_TLS_CERTIFICATE: {certificate} has no certificate in PEM"),
        (GOOD.chain, b"-----BEGIN", "DUOVEC_TLS_KEY: {key} has no private key in PEM"),
        (GOOD.chain, GOOD.chain, "DUOVEC_TLS_KEY: {key} has no private key in PEM"),
        (
            GOOD.chain,
            ROOT.issue().key,
            "DUOVEC_TLS_KEY: the key in {key} is not that of the first certificate in DUOVEC_TLS_CERTIFICATE",
        ),
        (
            ROOT.issue(key=EC).chain,
            key_pem(EC, password=b"x"),
            "DUOVEC_TLS_KEY: the key in {key} is encrypted, and nobody is there to ask; decrypt it",
        ),
        (
            ROOT.issue(key=ED25519).chain,
            key_pem(ED25519),
            "DUOVEC_TLS_KEY: the key in {key} is neither RSA nor EC, which gRPC takes",
        ),
    ],
)
def test_what_cannot_be_served_is_refused_in_a_line(
    tmp_path: Path, chain: bytes | None, key: bytes | None, complaint: str
) -> None:
    """gRPC itself would say that no port could be bound, or nothing at all."""
    certificate_path, key_path = tmp_path / "server.pem", tmp_path / "server.key"
    for path, data in ((certificate_path, chain), (key_path, key)):
        if data is not None:
            path.write_bytes(data)
    with pytest.raises(StartupError) as refused:
        TlsFiles(certificate_path, key_path)
    assert str(refused.value) == complaint.format(certificate=certificate_path, key=key_path)


@pytest.mark.parametrize(
    ("begin", "end", "complaint"),
    [(-2, -1, "the certificate of CN=duovec.test in .* expired at 20.* UTC; renew it"), (1, 2, "holds from 20.* UTC")],
)
def test_a_certificate_out_of_its_time_is_refused(tmp_path: Path, begin: int, end: int, complaint: str) -> None:
    paths = ROOT.issue(begin=timedelta(days=begin), end=timedelta(days=end)).write(tmp_path, "server")
    with pytest.raises(StartupError, match=complaint):
        TlsFiles(*paths)


@pytest.mark.parametrize(
    "given", [(True, False, False), (False, True, False), (False, False, True), (True, False, True)]
)
def test_half_a_configuration_is_refused(given: tuple[bool, ...]) -> None:
    """An operator who set one of them believes that the port is encrypted."""
    with pytest.raises(StartupError, match="TLS is half configured: set DUOVEC_TLS_"):
        tls_files(*(Path("somewhere") if one else None for one in given))


def test_no_configuration_is_no_tls() -> None:
    assert tls_files(None, None, None) is None
