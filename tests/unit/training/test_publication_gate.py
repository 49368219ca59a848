"""When a candidate is better: the rule on made-up ranks, whose differences are known."""

from collections.abc import Sequence

import numpy as np
import pytest

from training.dataset import Row
from training.evaluation.metrics import Ranking
from training.evaluation.questions import BLANKED, CONDITIONS, NAMED, Questions
from training.publication.gate import GateLimits, judge, table_of
from training.publication.measure import BASE, BM25, CANDIDATE, LIVE, Measurement

STYLES = ["docstring"] * 60 + ["comment"] * 30 + ["test_name"] * 4


def measurement(
    candidate: Sequence[float], live: Sequence[float], *, blanked: Sequence[float] | None = None
) -> Measurement:
    """Ranks of the right passage, a query each; every system but the candidate has those of the live one."""
    rows = tuple(Row("q", "p", (), style, "python", "x", "s", str(n), "o") for n, style in enumerate(STYLES))
    asked = Questions(rows, ("p",), np.zeros(len(rows), dtype=np.int64))

    def ranking(ranks: Sequence[float]) -> Ranking:
        rank_Q = np.array(ranks, dtype=np.float64)
        return Ranking(rank_Q, np.zeros(len(ranks), dtype=np.int64))

    rankings = {}
    for condition in CONDITIONS:
        ours = candidate if condition == NAMED or blanked is None else blanked
        rankings[condition] = {
            CANDIDATE: ranking(ours),
            **{name: ranking(live) for name in (LIVE, BASE, BM25)},
        }
    return Measurement("a" * 64, dict.fromkeys(CONDITIONS, asked), rankings)


def ranks(docstring: float, comment: float, test_name: float) -> list[float]:
    return [docstring] * 60 + [comment] * 30 + [test_name] * 4


def test_better_everywhere_passes() -> None:
    verdict = judge(measurement(ranks(1, 1, 1), ranks(2, 2, 2)), GateLimits())
    assert verdict.better
    whole = verdict.comparisons[0]
    assert (whole.slice, whole.gain, whole.low) == ("all", 0.5, 0.5)
    assert whole.mrr == {CANDIDATE: 1.0, LIVE: 0.5, BASE: 0.5, BM25: 0.5}
    assert verdict.as_dict()["better"] is True


def test_the_same_is_not_better_unless_a_margin_admits_it() -> None:
    same = measurement(ranks(2, 2, 2), ranks(2, 2, 2))
    verdict = judge(same, GateLimits())
    assert len(verdict.faults) == 1
    assert "all of it must be above +0.000" in verdict.faults[0]
    assert judge(same, GateLimits(min_gain=-0.01)).better


def test_a_gain_within_its_interval_is_no_gain() -> None:
    """One query of 94 got better: the mean is above zero, and so it may be by luck."""
    candidate = ranks(2, 2, 2)
    candidate[0] = 1
    verdict = judge(measurement(candidate, ranks(2, 2, 2)), GateLimits())
    assert verdict.comparisons[0].gain > 0
    assert verdict.comparisons[0].low == 0
    assert not verdict.better


def test_a_style_that_got_worse_refuses_what_gains_on_the_whole() -> None:
    verdict = judge(measurement(ranks(1, 4, 1), ranks(2, 2, 2)), GateLimits())
    assert verdict.comparisons[0].low > 0
    assert [fault.split(" changes")[0] for fault in verdict.faults] == [
        "MRR@10 of style comment, names named",
        "MRR@10 of style comment, names blanked",
    ]
    assert judge(measurement(ranks(1, 4, 1), ranks(2, 2, 2)), GateLimits(slice_tolerance=0.3)).better


def test_few_queries_prove_no_loss() -> None:
    """Four queries are shown, not judged."""
    verdict = judge(measurement(ranks(1, 1, 8), ranks(2, 2, 2)), GateLimits())
    assert verdict.better
    (few,) = [one for one in verdict.comparisons if one.slice == "style test_name" and one.condition == NAMED]
    assert (few.judged, few.queries, few.gain) == (False, 4, 1 / 8 - 1 / 2)


def test_a_loss_within_its_interval_is_tolerated() -> None:
    """Some comments got better, some worse, a few more worse: the interval is wider than the loss."""
    candidate = [1.0] * 60 + [1.0] * 14 + [10.0] * 16 + [2.0] * 4
    live = [2.0] * 60 + [10.0] * 14 + [1.0] * 16 + [2.0] * 4
    verdict = judge(measurement(candidate, live), GateLimits())
    (comments,) = [one for one in verdict.comparisons if one.slice == "style comment" and one.condition == NAMED]
    assert -comments.tolerance < comments.gain < -0.02
    assert verdict.better


def test_nowhere_may_it_be_lost() -> None:
    """Better with names, far worse without: refused, whichever is asked to gain."""
    worse = measurement(ranks(1, 1, 1), ranks(2, 2, 2), blanked=ranks(9, 9, 9))
    faults = judge(worse, GateLimits(names=NAMED)).faults
    assert any("MRR@10 of all, names blanked" in fault for fault in faults)
    assert any("(all, names blanked)" in fault for fault in judge(worse, GateLimits(names=BLANKED)).faults)


@pytest.mark.parametrize(
    "limits",
    [{"min_gain": 1.5}, {"slice_tolerance": -0.1}, {"least_queries": 1}, {"names": "both"}, {"min_gain": float("nan")}],
)
def test_limits_that_mean_nothing_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(limits))):
        GateLimits(**limits)  # type: ignore[arg-type]


def test_the_table_has_a_line_a_slice() -> None:
    verdict = judge(measurement(ranks(1, 1, 1), ranks(2, 2, 2)), GateLimits()).as_dict()
    lines = table_of(verdict).splitlines()
    assert (
        lines[0].split() == "names slice queries candidate live untrained base BM25 gain 95 % interval may lose".split()
    )
    assert len(lines) == 1 + 2 * 5  # all, three styles, one language
    assert lines[1].split()[:7] == ["named", "all", "94", "1.000", "0.500", "0.500", "0.500"]
