"""What `duovec tune` shows fits a terminal of 80 columns."""

import io

import pytest
from rich.console import Console

from gateway.cli import tune
from gateway.local.tuning.choice import Measured, Settings


@pytest.mark.parametrize(
    ("names", "row"),
    [
        (("instances", "threads", "tokens"), ["16", "16", "16384"]),
        (("runtime", "precision"), ["onnxruntime", "int8-bf16"]),
    ],
)
def test_nothing_is_cut_in_80_columns(names: tuple[str, ...], row: list[str]) -> None:
    """With figures as large as they may become, and every remark."""
    settings = Settings(instances=16, num_threads=16, token_budget=16384)
    figures = {"chunks_per_s": 1234.5, "idle_ms": 123.4, "interactive_p50_ms": 1234.0, "interactive_ms": 12345.0}
    table = tune._table(*names)
    tune._add(table, Measured(settings, **figures, beside_chunks_per_s=1234.5), row, "not proven", True)
    tune._add(table, Measured(settings, **figures, moved=1.0), row, "", False)
    tune._add(table, Measured(settings, problem="no such CPU"), row, "", False)
    written = io.StringIO()
    Console(file=written, width=80, soft_wrap=True).print(table)
    lines = written.getvalue().splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 80
    assert not [line for line in lines if "…" in line]
    for word in (*names, *row, "chunks/s", "1234.5", "123.4", "12345", "not proven", "not sound", "failed"):
        assert word in written.getvalue()
    assert len(tune._LEGEND) <= 81
