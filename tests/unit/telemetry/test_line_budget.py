"""What anybody can cause has so many lines a second, and what was left out is counted."""

import time

import pytest

from gateway.telemetry.line_budget import LineBudget


def test_lines_beyond_the_budget_are_counted_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    budget = LineBudget(2)
    assert [budget.take() for _ in range(5)] == ["", "", None, None, None]
    now = 0.99
    assert budget.take() is None
    now = 1.0
    assert [budget.take() for _ in range(3)] == [" (and 4 such lines were left out before)", "", None]
