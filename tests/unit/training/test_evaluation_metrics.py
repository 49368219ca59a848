"""Every metric against ir-measures or plain loops."""

import ir_measures
import numpy as np
from ir_measures import RR, R, nDCG

from training.evaluation.bm25 import bm25_scores
from training.evaluation.bootstrap import paired_interval
from training.evaluation.encoding import join
from training.evaluation.metrics import alignment, rank_scores, rank_vectors, triplet_accuracy, uniformity


def _scores(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((60, 90)).astype(np.float32), rng.integers(0, 90, 60)


def test_ranking_metrics_are_those_of_ir_measures() -> None:
    """Our own formulas are for queries with one right passage; a library computes the general ones."""
    scores_QP, right_Q = _scores()
    scores_QP[np.arange(60), right_Q] += 1.5
    run = [
        ir_measures.ScoredDoc(str(query), str(passage), float(scores_QP[query, passage]))
        for query in range(60)
        for passage in range(90)
    ]
    right = [ir_measures.Qrel(str(query), str(passage), 1) for query, passage in enumerate(right_Q)]
    expected = ir_measures.calc_aggregate([RR @ 10, nDCG @ 10, R @ 1, R @ 5, R @ 50], right, run)
    summary = rank_scores(scores_QP, right_Q).summary()
    for name, measure in (("mrr@10", RR @ 10), ("ndcg@10", nDCG @ 10), ("recall@1", R @ 1), ("recall@50", R @ 50)):
        assert abs(summary[name] - expected[measure]) < 1e-9, name
    assert abs(summary["recall@5"] - expected[R @ 5]) < 1e-9
    assert 0.2 < summary["mrr@10"] < 0.9


def test_ties_count_half() -> None:
    """An encoder that gives everything one vector must not look perfect."""
    ranking = rank_scores(np.zeros((3, 11), np.float32), np.array([0, 5, 10]))
    assert ranking.rank_Q.tolist() == [6.0, 6.0, 6.0]


def test_slices_are_means_over_their_queries() -> None:
    """A slice must not see the other queries."""
    scores_QP, right_Q = _scores(1)
    ranking = rank_scores(scores_QP, right_Q)
    chosen_Q = np.arange(60) < 20
    alone = rank_scores(scores_QP[:20], right_Q[:20]).summary()
    assert ranking.summary(chosen_Q) == alone


def test_vectors_are_ranked_by_cosine() -> None:
    """In chunks as at once, and with the best wrong passage named."""
    rng = np.random.default_rng(2)
    queries = rng.standard_normal((1100, 8)).astype(np.float32)
    passages = rng.standard_normal((50, 8)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    passages /= np.linalg.norm(passages, axis=1, keepdims=True)
    right_Q = rng.integers(0, 50, 1100)
    ranking = rank_vectors(queries, passages, right_Q)
    for query in (0, 511, 512, 1099):
        order = np.argsort(-(passages @ queries[query])).tolist()
        assert ranking.rank_Q[query] == order.index(right_Q[query]) + 1
        assert ranking.best_wrong_Q[query] == next(one for one in order if one != right_Q[query])


def test_alignment_and_uniformity_are_their_definitions() -> None:
    """Wang and Isola's formulas, pair by pair."""
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((20, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    other = np.roll(vectors, 1, axis=0)
    assert (
        abs(alignment(vectors, other) - np.mean([np.sum((a - b) ** 2) for a, b in zip(vectors, other, strict=True)]))
        < 1e-6
    )
    pairs = [np.exp(-2 * np.sum((vectors[i] - vectors[j]) ** 2)) for i in range(20) for j in range(i)]
    assert abs(uniformity(vectors) - np.log(np.mean(pairs))) < 1e-6


def test_triplet_accuracy_counts_the_queries_nearer_to_their_passage() -> None:
    """By distances instead of cosines; a tie is no success."""
    rng = np.random.default_rng(6)
    queries, right, wrong = rng.standard_normal((3, 40, 6)).astype(np.float32)
    queries, right, wrong = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (queries, right, wrong))
    right[:10] = queries[:10]
    wrong[39] = right[39]
    nearer = [np.linalg.norm(q - r) < np.linalg.norm(q - w) for q, r, w in zip(queries, right, wrong, strict=True)]
    nearer[39] = False
    assert 0.4 < np.mean(nearer) < 0.9
    assert abs(triplet_accuracy(queries, right, wrong) - np.mean(nearer)) < 1e-12


def test_interval_covers_the_true_difference_as_often_as_it_says() -> None:
    """95 % of the intervals of a known difference must hold it."""
    rng = np.random.default_rng(4)
    covered = 0
    for seed in range(60):
        theirs = rng.random(150)
        interval = paired_interval(theirs + 0.1 + rng.normal(0, 0.3, 150), theirs, seed)
        covered += interval.low <= 0.1 <= interval.high
    assert 51 <= covered <= 60
    same = paired_interval(theirs, theirs)
    assert (same.mean, same.low, same.high) == (0.0, 0.0, 0.0)


def test_joined_cosine_is_the_mean_of_the_cosines() -> None:
    """As the gateway's vectors are, by DESIGN."""
    rng = np.random.default_rng(5)
    code, text = rng.standard_normal((2, 5, 8)).astype(np.float32)
    code /= np.linalg.norm(code, axis=1, keepdims=True)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    pair = join(code, text)
    assert np.allclose(pair @ pair.T, (code @ code.T + text @ text.T) / 2, atol=1e-6)


def test_bm25_prefers_shared_rare_words() -> None:
    """And a query without a known word prefers nothing."""
    scores = bm25_scores(
        ["parse header", "zebra"], ["def parse_header(x): pass", "def parse(x): pass", "def f(x): pass"]
    )
    assert scores[0].argmax() == 0 and scores[0, 1] > scores[0, 2] == 0
    assert scores[1].tolist() == [0.0, 0.0, 0.0]
