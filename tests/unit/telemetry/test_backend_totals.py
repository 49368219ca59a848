"""What several Tritons did, as counters: they never fall, and jump for nothing that nobody asked for now."""

import pytest

from gateway.embedding.load import BackendStatistics
from gateway.telemetry.backend_totals import BackendTotals


def after(rows: int) -> BackendStatistics:
    """One that ran eight rows at a time, each time for a second after two of waiting."""
    return BackendStatistics(rows, rows // 8, rows / 4, rows / 8)


@pytest.fixture
def totals() -> BackendTotals:
    """Two have been asked once: what they did before is nobody's work of now."""
    totals = BackendTotals()
    totals.observe("code", 1, {"a": after(8000), "b": after(4000)})
    assert totals.by_encoder["code"] == after(0)
    return totals


def test_what_all_did_since_the_first_look_is_added_up(totals: BackendTotals) -> None:
    totals.observe("code", 1, {"a": after(8080), "b": after(4016)})
    totals.observe("code", 1, {"a": after(8088), "b": after(4016)})
    assert totals.by_encoder["code"] == after(104)


def test_one_that_is_away_for_a_look_changes_nothing(totals: BackendTotals) -> None:
    """Its whole count would look like a burst, twice: when it goes, since the sum falls, and when it is back."""
    totals.observe("code", 1, {"a": after(8008)})
    assert totals.by_encoder["code"] == after(8)
    totals.observe("code", 1, {"a": after(8008), "b": after(4080)})
    assert totals.by_encoder["code"] == after(88)


def test_one_that_was_started_anew_counts_from_zero(totals: BackendTotals) -> None:
    totals.observe("code", 1, {"a": after(16), "b": after(4000)})
    assert totals.by_encoder["code"] == after(16)


def test_one_that_comes_brings_nothing_with_it(totals: BackendTotals) -> None:
    """It may have worked for other gateways for days."""
    totals.observe("code", 1, {"a": after(8000), "b": after(4000), "c": after(10**6)})
    assert totals.by_encoder["code"] == after(0)


def test_a_new_version_goes_on_with_the_encoder_s_count(totals: BackendTotals) -> None:
    totals.observe("code", 1, {"a": after(8080), "b": after(4000)})
    totals.observe("code", 2, {"a": after(0), "b": after(0)})
    totals.observe("code", 2, {"a": after(8), "b": after(0)})
    assert totals.by_encoder["code"] == after(88)


def test_what_is_used_no_more_is_forgotten(totals: BackendTotals) -> None:
    totals.forget_others({"a"}, {("code", 1)})
    assert {url for seen in totals._seen.values() for url in seen} == {"a"}
    totals.forget_others({"a"}, {("code", 2)})
    assert totals._seen == {}
    assert totals.by_encoder["code"] == after(0)
