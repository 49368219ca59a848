"""Certificates of the client are checked when it is made, in a line that names the file: gRPC would say nothing."""

from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tls_certificates import Authority, key_pem

from gateway.client.client import Client
from gateway.client.errors import ClientError
from gateway.client.tls import ClientTls

ROOT = Authority.make()
KEY = ec.generate_private_key(ec.SECP256R1())
OWN = ROOT.issue("alice", key=KEY)
FILES = {
    "ca.pem": ROOT.pem,
    "own.pem": OWN.chain,
    "own.key": OWN.key,
    "other.key": ROOT.issue().key,
    "locked.key": key_pem(KEY, password=b"secret"),
    "nonsense": b"nonsense",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DUOVEC_CA_FILE", "DUOVEC_CLIENT_CERTIFICATE", "DUOVEC_CLIENT_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def tls(folder: Path, ca: str | None, certificate: str | None, key: str | None) -> ClientTls:
    return ClientTls(*(folder / name if name else None for name in (ca, certificate, key)))


def test_whole_files_are_taken(folder: Path) -> None:
    with Client("https://127.0.0.1:1", tls=tls(folder, "ca.pem", "own.pem", "own.key")) as client:
        assert client.endpoint == "https://127.0.0.1:1"


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        (("none", None, None), "{folder}/none cannot be read: No such file or directory"),
        (("nonsense", None, None), "{folder}/nonsense is not what TLS needs in PEM"),
        (("own.key", None, None), "{folder}/own.key is not what TLS needs in PEM"),
        ((None, "none", "own.key"), "{folder}/none cannot be read: No such file or directory"),
        ((None, "own.pem", "none"), "{folder}/none cannot be read: No such file or directory"),
        ((None, "nonsense", "own.key"), "{folder}/nonsense with the key in {folder}/own.key is not what TLS needs"),
        ((None, "own.pem", "nonsense"), "{folder}/own.pem with the key in {folder}/nonsense is not what TLS needs"),
        ((None, "own.pem", "locked.key"), "{folder}/own.pem with the key in {folder}/locked.key is not what TLS needs"),
        (
            (None, "own.pem", "other.key"),
            "the key in {folder}/other.key is not that of the certificate in {folder}/own.pem",
        ),
        ((None, "own.pem", None), "a client certificate and its key go together; give both, or neither"),
        ((None, None, "own.key"), "a client certificate and its key go together; give both, or neither"),
    ],
)
def test_what_cannot_be_used_is_named(folder: Path, files: tuple[str | None, ...], complaint: str) -> None:
    """And an encrypted key is not asked for on the terminal."""
    with pytest.raises(ClientError) as refused:
        Client("https://127.0.0.1:1", tls=tls(folder, *files))
    assert refused.value.code == grpc.StatusCode.INVALID_ARGUMENT
    assert str(refused.value).startswith(complaint.format(folder=folder))
    assert "\n" not in str(refused.value)


def test_certificates_with_an_endpoint_that_is_not_encrypted_are_refused(folder: Path) -> None:
    """Whoever gives them believes that the key goes over the wire in secret."""
    with pytest.raises(ClientError, match="127.0.0.1:1 is not encrypted, and certificates were given; use https://"):
        Client("127.0.0.1:1", tls=tls(folder, "ca.pem", None, None))


def test_variables_stand_in_for_the_argument(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUOVEC_CA_FILE", str(folder / "nonsense"))
    with pytest.raises(ClientError, match="nonsense is not what TLS needs"):
        Client("https://127.0.0.1:1")
    Client("https://127.0.0.1:1", tls=tls(folder, "ca.pem", None, None)).close()
    # What is not encrypted has no use for them.
    Client("127.0.0.1:1").close()


@pytest.mark.parametrize("endpoint", ["search.example:50051", "http://10.0.0.7:50051", "dns:///search.example:50051"])
def test_a_key_leaves_the_machine_encrypted_or_by_a_plain_word(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise whoever listens on the way has the key."""
    target = endpoint.removeprefix("http://")
    monkeypatch.delenv("DUOVEC_ALLOW_INSECURE", raising=False)
    with pytest.raises(ClientError) as refused:
        Client(endpoint, api_key="secret")
    assert str(refused.value) == (
        f"{target} is another machine, and without TLS the API key could be read on the way there; use "
        f"https://{target}, or set DUOVEC_ALLOW_INSECURE=true where something else encrypts"
    )
    assert refused.value.code == grpc.StatusCode.INVALID_ARGUMENT
    Client(f"https://{target}", api_key="secret").close()
    Client(endpoint).close()  # nothing to be read: health is open to all
    monkeypatch.setenv("DUOVEC_ALLOW_INSECURE", "no")
    with pytest.raises(ClientError, match="is another machine"):
        Client(endpoint, api_key="secret")
    monkeypatch.setenv("DUOVEC_ALLOW_INSECURE", "True")
    Client(endpoint, api_key="secret").close()


@pytest.mark.parametrize("endpoint", ["127.0.0.1:1", "localhost:1", "[::1]:1", "http://127.0.0.1:1", "unix:/run/it"])
def test_on_this_machine_a_key_needs_no_encryption(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DUOVEC_ALLOW_INSECURE", raising=False)
    Client(endpoint, api_key="secret").close()
