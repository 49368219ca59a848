"""TLS and mutual TLS of a gateway as it is run: through the client, through the command, and with new certificates."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest
from open_folder import open_folder
from tls_certificates import Authority
from typer.testing import CliRunner, Result

from gateway.cli.main import app
from gateway.client.client import Client
from gateway.client.errors import ClientError
from gateway.client.tls import ClientTls
from gateway.local.process import GatewayServer, free_port
from gateway.local.stack import Stack

SERVER_ROOT, CLIENT_ROOT = Authority.make("server root"), Authority.make("client root")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """The gateway's certificate, and those of two clients."""
    with open_folder("duovec-tls-") as folder:
        SERVER_ROOT.issue().write(folder, "server")
        CLIENT_ROOT.issue("alice").write(folder, "alice")
        Authority.make("client root").issue("mallory").write(folder, "mallory")
        (folder / "ca.pem").write_bytes(SERVER_ROOT.pem)
        (folder / "clients.pem").write_bytes(CLIENT_ROOT.pem)
        yield folder


@pytest.fixture(scope="module")
async def endpoint(stack: Stack, folder: Path) -> AsyncIterator[str]:
    """A second gateway on the stack's database and Triton, which asks for client certificates.

    That it starts at all shows that its own health is found without one.
    """
    address = f"127.0.0.1:{free_port()}"
    files = {"CERTIFICATE": "server.pem", "KEY": "server.key", "CLIENT_CA": "clients.pem"}
    settings = {f"DUOVEC_TLS_{name}": str(folder / file) for name, file in files.items()}
    gateway = GatewayServer(address, {**stack._gateway_environment, **settings}, log_path=folder / "gateway.log")
    await gateway.start()
    yield f"https://{address}"
    await gateway.stop()


@pytest.fixture
def alice(folder: Path) -> ClientTls:
    return ClientTls(folder / "ca.pem", folder / "alice.pem", folder / "alice.key")


def test_a_client_with_certificates_is_served(stack: Stack, endpoint: str, alice: ClientTls) -> None:
    with Client(endpoint, api_key=stack.api_key, tls=alice) as client:
        assert client.health() == "SERVING"
        assert client.embed(["open a socket"], "query").shape == (1, 2560)


def test_a_certificate_is_no_api_key(endpoint: str, alice: ClientTls, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lets one speak; what one may do is the key's."""
    monkeypatch.delenv("DUOVEC_API_KEY", raising=False)
    with Client(endpoint, tls=alice) as client, pytest.raises(ClientError, match="no API key"):
        client.embed(["x"], "query")


@pytest.mark.parametrize(
    ("own", "ca", "complaint"),
    [
        ("alice", None, "is not trusted; if it is yours, name its authority by --ca-file or DUOVEC_CA_FILE"),
        ("alice", "clients.pem", "is not trusted; if it is yours, name its authority by --ca-file or DUOVEC_CA_FILE"),
        (None, "ca.pem", "it may ask for a client certificate: --client-certificate and --client-key"),
        ("mallory", "ca.pem", "it may ask for a client certificate: --client-certificate and --client-key"),
    ],
)
def test_wrong_certificates_are_said_in_a_line_at_once(
    stack: Stack, endpoint: str, folder: Path, own: str | None, ca: str | None, complaint: str
) -> None:
    """No call is repeated that no repetition can help."""
    tls = ClientTls(
        folder / ca if ca else None,
        folder / f"{own}.pem" if own else None,
        folder / f"{own}.key" if own else None,
    )
    with Client(endpoint, api_key=stack.api_key, tls=tls) as client, pytest.raises(ClientError) as failure:
        client.health()
    assert endpoint in str(failure.value)
    assert complaint in str(failure.value)
    assert "\n" not in str(failure.value)


def test_the_wrong_scheme_is_said_in_a_line(stack: Stack, endpoint: str, alice: ClientTls) -> None:
    """Encrypted to a port that is not, and the other way round."""
    refused = pytest.raises(ClientError, match="does not speak TLS: use it without https://")
    with Client(f"https://{stack.endpoint}", api_key=stack.api_key, tls=alice) as client, refused:
        client.health()
    plain = endpoint.removeprefix("https://")
    with Client(plain, api_key=stack.api_key, timeout_s=30) as client, pytest.raises(ClientError) as failure:
        client.health()
    assert failure.value.code == grpc.StatusCode.UNAVAILABLE
    assert "if it speaks TLS, use https://" in str(failure.value)


def duovec(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200", **environment})


def test_commands_take_the_files_as_options_and_as_variables(
    stack: Stack, endpoint: str, folder: Path, alice: ClientTls
) -> None:
    options = ("--ca-file", str(alice.ca_file), "--client-certificate", str(alice.certificate))
    options += ("--client-key", str(alice.key))
    key = {"DUOVEC_API_KEY": stack.api_key}
    good = duovec("principal", "list", "--endpoint", endpoint, *options, **key)
    assert good.exit_code == 0, good.output
    assert "admin" in good.stdout
    files = {"CA_FILE": alice.ca_file, "CLIENT_CERTIFICATE": alice.certificate, "CLIENT_KEY": alice.key}
    variables = {f"DUOVEC_{name}": str(path) for name, path in files.items()}
    assert duovec("principal", "list", "--endpoint", endpoint, **key, **variables).exit_code == 0
    # An option wins over its variable.
    wrong = variables | {"DUOVEC_CA_FILE": str(folder / "clients.pem")}
    assert duovec("principal", "list", "--endpoint", endpoint, **key, **wrong).exit_code == 1
    assert duovec("principal", "list", "--endpoint", endpoint, *options, **key, **wrong).exit_code == 0
    plain = duovec("principal", "list", "--endpoint", stack.endpoint, *options, **key)
    assert plain.exit_code == 2
    assert "is not encrypted, and certificates were given; use https://HOST:PORT" in plain.stderr
    missing = duovec("principal", "list", "--endpoint", endpoint, "--ca-file", str(folder / "none.pem"), **key)
    assert missing.exit_code == 1
    assert missing.stderr.startswith(f"error: {folder / 'none.pem'} cannot be read: No such file or directory")


def test_new_files_hold_without_a_restart(stack: Stack, endpoint: str, folder: Path, alice: ClientTls) -> None:
    """Another root, even: who is connected goes on, and who comes is shown the new certificate."""
    new_root = Authority.make("new root")
    with Client(endpoint, api_key=stack.api_key, tls=alice) as before:
        assert before.health() == "SERVING"
        new_root.issue().write(folder, "server")
        (folder / "new-ca.pem").write_bytes(new_root.pem)
        # Another name, since clients of one process share connections.
        late = endpoint.replace("127.0.0.1", "localhost")
        new = ClientTls(folder / "new-ca.pem", alice.certificate, alice.key)
        with Client(late, api_key=stack.api_key, tls=new) as after:
            assert after.embed(["open a socket"], "query").shape == (1, 2560)
        with Client(late, api_key=stack.api_key, tls=alice) as stale, pytest.raises(ClientError, match="not trusted"):
            stale.health()
        assert before.embed(["open a socket"], "query").shape == (1, 2560)
        log = (folder / "gateway.log").read_text()
        assert "new TLS certificate of CN=duovec.test, until 20" in log
        (folder / "server.pem").write_bytes(b"half a certif")
        with Client(late, api_key=stack.api_key, tls=new) as after:
            assert after.health() == "SERVING"
