"""Where a client finds its key, and that it sends it nowhere else."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.client.client import Client
from gateway.client.credentials import find_api_key, forget_api_key, key_file, save_api_key
from gateway.client.errors import ClientError

from .fake_service import FakeService, serving


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("DUOVEC_API_KEY", raising=False)
    return tmp_path


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def endpoint(service: FakeService) -> Iterator[str]:
    with serving(service) as endpoint:
        yield endpoint


def authorization(service: FakeService, endpoint: str, api_key: str | None = None) -> str | None:
    with Client(endpoint, api_key=api_key) as client:
        client.embed(["a"], "query")
    return service.metadata.get("authorization")


def test_the_argument_wins_over_the_environment_and_that_over_the_file(
    service: FakeService, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert authorization(service, endpoint) is None
    save_api_key(endpoint, "from-file")
    assert authorization(service, endpoint) == "Bearer from-file"
    monkeypatch.setenv("DUOVEC_API_KEY", "from-environment")
    assert authorization(service, endpoint) == "Bearer from-environment"
    assert authorization(service, endpoint, "from-argument") == "Bearer from-argument"


def test_a_key_is_kept_for_one_endpoint(service: FakeService, endpoint: str) -> None:
    """A key that every endpoint got would soon be known to a wrong one."""
    save_api_key("search.internal:50051", "secret")
    assert authorization(service, endpoint) is None
    assert find_api_key("https://search.internal:50051") == "secret"
    assert find_api_key("search.internal:50052") is None


def test_an_account_without_a_home_has_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a container's number may be: its health is asked all the same."""

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    assert find_api_key("unix-abstract:duovec") is None


def test_a_file_that_cannot_be_read_is_named(config: Path) -> None:
    """Without its key, calls would fail as those of somebody who never had one."""
    file = key_file("127.0.0.1:1")
    file.parent.mkdir(parents=True)
    file.write_bytes(b"\xff")
    with pytest.raises(ClientError, match=r"file of the API key cannot be read .*127\.0\.0\.1:1, or set DUOVEC_API"):
        Client("127.0.0.1:1")


def test_the_file_is_for_this_account_only(config: Path) -> None:
    """From its first moment on: it is written beside its place and moved there."""
    file = save_api_key("127.0.0.1:50051", "first")
    save_api_key("127.0.0.1:50051", "second")
    assert file == config / "duovec" / "keys" / "127.0.0.1:50051"
    assert file.read_text() == "second\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert list(file.parent.iterdir()) == [file]


def test_a_key_is_forgotten_by_whom_it_belongs_to() -> None:
    """A service that stops must not take away the key of the one that took its place."""
    save_api_key("a:1", "newer")
    forget_api_key("a:1", "older")
    assert find_api_key("a:1") == "newer"
    forget_api_key("a:1", "newer")
    assert find_api_key("a:1") is None
    forget_api_key("a:1", "newer")


def test_an_endpoint_cannot_name_a_file_elsewhere(config: Path) -> None:
    assert key_file("https://../../x").parent == config / "duovec" / "keys"
