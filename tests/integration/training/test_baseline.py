"""What a result is compared with where no gateway is asked: what the spec is today, or the base it was trained from."""

import json
from pathlib import Path
from typing import Any

import pytest
from mined_data import write_data
from typer.testing import CliRunner

from export.source import open_checkpoint
from export.spec import load_builtin
from training.cli.main import app

SPEC = load_builtin("compact-text")


@pytest.mark.parametrize("has_base", [False, True], ids=["the spec's own", "a base without adapters"])
def test_own_is_what_the_result_would_replace(has_base: bool, tmp_path: Path) -> None:
    """The committed adapters as a result: no better than the spec, which brings them, but than the base without any."""
    assert SPEC.adapters is not None
    base = ["--text-base", str(open_checkpoint(SPEC.untrained).folder)] if has_base else []
    words = ["publish", "--text", str(SPEC.adapters.path), "--data", str(write_data(tmp_path / "data"))]
    words += ["--repository", str(tmp_path), "--baseline", "own", *base, "--limit", "20", "--dry-run", "--json"]
    done = CliRunner().invoke(app, [*words, "--unseen-data"])
    assert done.stdout, done.stderr
    verdict: dict[str, Any] = json.loads(done.stdout)["verdict"]
    assert verdict["against"] == "baseline own"
    equal = "untrained base" if has_base else "candidate"
    assert all(one["mrr"]["live"] == one["mrr"][equal] for one in verdict["comparisons"])
    gains = [one["gain"] for one in verdict["comparisons"]]
    assert any(gains) if has_base else not any(gains)
