"""The gate's metrics against ir-measures, and what must never look good."""

import ir_measures
import numpy as np
import pytest
from ir_measures import RR, nDCG
from numpy.typing import NDArray

from export.gate import metrics

QUERIES, DIMENSION = 300, 8


@pytest.fixture
def vectors() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Queries and codes, each query nearer to its own code than to most: ranks from 1 to far over 10."""
    rng = np.random.default_rng(3)
    codes_QD = rng.standard_normal((QUERIES, DIMENSION))
    return codes_QD + 0.8 * rng.standard_normal((QUERIES, DIMENSION)), codes_QD


def independent(queries_QD: NDArray[np.float64], codes_QD: NDArray[np.float64], measure: ir_measures.Measure) -> float:
    """The same search judged by ir-measures."""
    scores = queries_QD @ codes_QD.T
    judged = [ir_measures.Qrel(str(query), str(query), 1) for query in range(QUERIES)]
    run = [
        ir_measures.ScoredDoc(str(query), str(code), float(scores[query, code]))
        for query in range(QUERIES)
        for code in range(QUERIES)
    ]
    return float(ir_measures.calc_aggregate([measure], judged, run)[measure])


def test_mrr_and_ndcg_equal_ir_measures(vectors: tuple[NDArray[np.float64], NDArray[np.float64]]) -> None:
    """Over ranks of every size, so that the cut at 10 counts."""
    ranks_Q = metrics.ranks_of(*vectors)
    assert (ranks_Q == 1).sum() > 20
    assert (ranks_Q > 10).sum() > 20
    assert metrics.mrr(ranks_Q) == pytest.approx(independent(*vectors, RR @ 10), abs=1e-9)
    assert metrics.ndcg(ranks_Q) == pytest.approx(independent(*vectors, nDCG @ 10), abs=1e-9)


def test_overlap_counts_the_ten_best_in_common(vectors: tuple[NDArray[np.float64], NDArray[np.float64]]) -> None:
    """Against brute force; the same vectors overlap wholly."""
    queries_QD, codes_QD = vectors
    moved_QD = codes_QD + 0.3 * np.random.default_rng(4).standard_normal(codes_QD.shape)
    expected = []
    for query_D in queries_QD:
        best = [
            {code for code, _ in sorted(enumerate(of_QD @ query_D), key=lambda one: -one[1])[:10]}
            for of_QD in (codes_QD, moved_QD)
        ]
        expected.append(len(best[0] & best[1]) / 10)
    np.testing.assert_allclose(metrics.overlaps_of(queries_QD, codes_QD, queries_QD, moved_QD), expected)
    assert 0.2 < np.mean(expected) < 0.9
    assert metrics.overlaps_of(*vectors, *vectors).min() == 1.0


def test_vectors_that_are_all_alike_find_nothing() -> None:
    """A collapsed encoder scores every code the same: its own code is last, not first."""
    ones_QD = np.ones((20, 4))
    assert metrics.ranks_of(ones_QD, ones_QD).tolist() == [20] * 20


def test_broken_vectors_find_nothing_and_are_no_cosine(
    vectors: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> None:
    """NaN compares false with everything: it must come out as the worst, not as the best."""
    queries_QD, codes_QD = vectors
    broken_QD = queries_QD.copy()
    broken_QD[7] = np.nan
    assert metrics.ranks_of(broken_QD, codes_QD)[7] == QUERIES
    cosines = metrics.Cosines.of(metrics.cosines_of(broken_QD, queries_QD))
    assert np.isnan(cosines.least)
    assert np.isnan(metrics.cosines_of(np.zeros((1, 4)), np.ones((1, 4)))).all()


def test_cosine_does_not_depend_on_norms() -> None:
    """A vector of another norm but the right direction is told by the norm check, not hidden in the cosine."""
    rng = np.random.default_rng(5)
    vectors_ND = rng.standard_normal((6, 9))
    np.testing.assert_allclose(metrics.cosines_of(3.0 * vectors_ND, vectors_ND), 1.0, atol=1e-12)
    expected = [
        float(one @ other / np.sqrt((one**2).sum() * (other**2).sum()))
        for one, other in zip(vectors_ND[:3], vectors_ND[3:], strict=True)
    ]
    np.testing.assert_allclose(metrics.cosines_of(vectors_ND[:3], vectors_ND[3:]), expected)
