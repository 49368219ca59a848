"""Options of `duovec up` that could not work are refused before anything starts."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli.main import app


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--listen", "50051"),
        ("--metrics-listen", "127.0.0.1:x"),
        ("--http-listen", ":8080"),
        # Triton would start, and lose every span.
        ("--triton-traces-url", "127.0.0.1:4318"),
        ("--triton-traces-url", "http://127.0.0.1:4318"),
    ],
)
def test_an_option_that_could_not_work_is_named(option: str, value: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["up", "--data-dir", str(tmp_path / "data"), option, value])
    assert result.exit_code == 2
    assert f"Invalid value for {option}: '{value}' is not a" in result.stderr.replace("\n", " ")
    assert not (tmp_path / "data").exists()
