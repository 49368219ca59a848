"""The rate of the encoders: of work that was done, in the time in which there was some."""

import pytest

from gateway.embedding import meter as meter_module
from gateway.embedding.meter import TokenMeter


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the module sees, as the one element of a list."""
    now = [1000.0]
    monkeypatch.setattr(meter_module.time, "monotonic", lambda: now[0])
    return now


def test_nothing_is_known_before_the_first_tokens(clock: list[float]) -> None:
    meter = TokenMeter()
    assert meter.tokens_per_s is None
    with pytest.raises(KeyError), meter.working(100):
        clock[0] += 1
        raise KeyError
    assert meter.tokens_per_s is None


def test_idle_time_does_not_count(clock: list[float]) -> None:
    meter = TokenMeter()
    for _ in range(3):
        with meter.working(500):
            clock[0] += 2
        clock[0] += 3600
    assert meter.tokens_per_s == pytest.approx(250)


def test_what_runs_at_once_shares_the_time(clock: list[float]) -> None:
    """Two requests of 100 tokens in the same two seconds are 100 tokens a second, not 50."""
    meter = TokenMeter()
    with meter.working(100), meter.working(100):
        clock[0] += 2
    assert meter.tokens_per_s == pytest.approx(100, rel=0.15)


def test_the_last_half_minute_of_work_decides(clock: list[float]) -> None:
    meter = TokenMeter()
    for _ in range(100):
        with meter.working(1000):
            clock[0] += 1
    for _ in range(40):
        with meter.working(100):
            clock[0] += 1
    assert meter.tokens_per_s == pytest.approx(100, rel=0.7)


def test_encoders_that_hang_are_slow(clock: list[float]) -> None:
    meter = TokenMeter()
    with meter.working(1000):
        clock[0] += 1
    with pytest.raises(TimeoutError), meter.working(1000):
        clock[0] += 60
        raise TimeoutError
    assert meter.tokens_per_s is not None
    assert meter.tokens_per_s < 10
