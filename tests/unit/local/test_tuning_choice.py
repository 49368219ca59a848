"""Which settings are chosen: the fastest that answer in time, and no change for nothing."""

from dataclasses import replace

import pytest

from gateway.local.tuning.bench import percentile
from gateway.local.tuning.choice import Measured, Settings, choose, finalists, layouts
from gateway.local.tuning.scratch import Flavour
from gateway.local.tuning.tuner import FlavourRow, recommended

CURRENT = Settings(instances=1, num_threads=2, token_budget=512)


def row(rate: float, interactive_ms: float, *, budget: int = 512, threads: int = 2, instances: int = 1) -> Measured:
    """A sound row."""
    settings = Settings(instances, threads, budget)
    return Measured(settings, chunks_per_s=rate, interactive_ms=interactive_ms, moved=3e-5, may_move=1e-4)


def test_the_highest_bulk_rate_among_those_in_time() -> None:
    """The fastest of all answers too late."""
    rows = [row(70, 90), row(90, 200, budget=1024), row(95, 251, budget=2048), row(60, 50, budget=256)]
    choice = choose(rows, CURRENT, bound_ms=250)
    assert choice is not None
    assert (choice.chosen, choice.bound_ms, choice.bound_was_met) == (rows[1], 250, True)


def test_the_bound_itself_is_in_time() -> None:
    """At most, not less than."""
    rows = [row(70, 90), row(90, 250, budget=1024)]
    assert choose(rows, CURRENT, bound_ms=250).chosen is rows[1]  # type: ignore[union-attr]


def test_where_none_is_in_time_those_near_the_fastest_answer_count() -> None:
    """A quarter above it, and the choice says that the bound was not met."""
    rows = [row(90, 1300), row(70, 1000, budget=256), row(80, 1250, budget=1024), row(99, 1251, budget=2048)]
    choice = choose(rows, CURRENT, bound_ms=250)
    assert choice is not None
    assert (choice.chosen, choice.bound_ms, choice.bound_was_met) == (rows[2], 1250, False)


@pytest.mark.parametrize(("rate", "changes"), [(102.9, False), (103.1, True)])
def test_the_settings_in_use_stay_unless_another_gains_three_percent(rate: float, changes: bool) -> None:
    """Two measurements of one and the same differ as much."""
    rows = [row(100, 90), row(rate, 90, budget=1024)]
    assert (choose(rows, CURRENT, bound_ms=250).chosen is rows[1]) == changes  # type: ignore[union-attr]


def test_settings_in_use_that_answer_too_late_go_for_any_other() -> None:
    """Even for a lower rate."""
    rows = [row(100, 300), row(90, 90, budget=256)]
    assert choose(rows, CURRENT, bound_ms=250).chosen is rows[1]  # type: ignore[union-attr]


@pytest.mark.parametrize("flaw", [{"problem": "out of memory"}, {"moved": 1.1e-4}, {"moved": float("nan")}])
def test_what_fails_or_changes_vectors_is_never_chosen(flaw: dict[str, object]) -> None:
    """However fast; and with nothing else there is no choice."""
    bad = replace(row(900, 1, budget=1024), **flaw)  # type: ignore[arg-type]
    good = row(70, 90)
    assert choose([bad, good], CURRENT, bound_ms=250).chosen is good  # type: ignore[union-attr]
    assert choose([bad], CURRENT, bound_ms=250) is None
    assert choose([], CURRENT, bound_ms=250) is None


def test_of_equals_the_smaller_wins() -> None:
    """Instances cost memory, threads and large batches the others' time."""
    rows = [row(100, 90, instances=2, threads=1), row(100, 90, threads=2, budget=256), row(100, 90, threads=1)]
    assert choose(rows, CURRENT, bound_ms=250).chosen is rows[2]  # type: ignore[union-attr]


def test_finalists_are_the_settings_in_use_and_the_best_others() -> None:
    """Each once, and none that changes vectors."""
    rows = [
        row(70, 90),
        row(90, 200, budget=1024),
        row(80, 90, budget=2048),
        row(75, 90, budget=256),
        replace(row(99, 90, threads=1), moved=1.0),
    ]
    found = finalists(rows, CURRENT, bound_ms=250, count=3)
    assert found == [CURRENT, rows[1].settings, rows[2].settings]
    assert finalists(rows[:1], CURRENT, bound_ms=250, count=3) == [CURRENT]


@pytest.mark.parametrize(
    ("cores", "room", "expected"),
    [
        (1, 9, [(1, 1)]),
        (2, 9, [(1, 1), (1, 2), (2, 1)]),
        (2, 1, [(1, 1), (1, 2)]),
        (6, 2, [(1, 1), (1, 2), (1, 4), (1, 6), (2, 2)]),
        (8, 9, [(1, 1), (1, 2), (1, 4), (1, 8), (2, 4), (4, 2)]),
    ],
)
def test_layouts_fill_the_cores_and_the_memory_at_most(cores: int, room: int, expected: list[tuple[int, int]]) -> None:
    """(instances, threads); several instances only where they leave no core idle that a further thread would use."""
    assert layouts(cores, room=room) == expected


def test_another_runtime_is_recommended_for_a_tenth_and_an_answer_in_time() -> None:
    """It costs every stored vector another forward pass."""
    served, other = Flavour("openvino", "bf16", True), Flavour("openvino", "int8", False)

    def advice(rate: float, interactive_ms: float) -> Flavour | None:
        rows = [FlavourRow(served, row(100, 90)), FlavourRow(other, row(rate, interactive_ms))]
        return recommended(rows, bound_ms=250)

    assert advice(111, 200) == other
    assert advice(109, 200) is None
    assert advice(150, 251) is None
    assert recommended([], bound_ms=250) is None


def test_percentiles_are_by_nearest_rank() -> None:
    """As numpy's `inverted_cdf` has them."""
    assert percentile(range(1, 21), 0.95) == 19
    assert percentile([7.0], 0.95) == 7.0
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
