"""`duovec health`, by which probes decide."""

import pytest
from client.fake_service import FakeService, serving
from typer.testing import CliRunner

from gateway.cli.main import app

runner = CliRunner()


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DUOVEC_API_KEY", raising=False)


def test_a_service_that_serves_is_healthy() -> None:
    """Without a key."""
    with serving(FakeService()) as endpoint:
        result = runner.invoke(app, ["health", "--endpoint", endpoint])
    assert (result.exit_code, result.stdout) == (0, "SERVING\n")


def test_a_service_that_is_away_is_not() -> None:
    """Within the time that it was given, in one line."""
    result = runner.invoke(app, ["health", "--endpoint", "127.0.0.1:1", "--timeout", "0.5"])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
