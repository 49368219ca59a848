"""Drift against its definition, and why it is not the cosine distance of the means."""

import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.store.query_drift import VectorSum, drift


def unit_vectors(generator: np.random.Generator, count: int, centre_D: NDArray[np.float64]) -> NDArray[np.float64]:
    vectors_ND = centre_D + generator.standard_normal((count, len(centre_D))) / np.sqrt(len(centre_D))
    return vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)


def summed(vectors_ND: NDArray[np.float64]) -> VectorSum:
    return VectorSum(len(vectors_ND), vectors_ND.sum(axis=0), float((vectors_ND**2).sum()))


def centre(generator: np.random.Generator) -> NDArray[np.float64]:
    """As far from zero as the mean of real queries, whose cosines are about 0.2."""
    direction = generator.standard_normal(256)
    return 0.5 * direction / np.linalg.norm(direction)


def test_sums_give_what_all_pairs_give() -> None:
    generator = np.random.default_rng(0)
    now, before = (unit_vectors(generator, count, centre(generator)) for count in (5, 9))
    pairs = [[x @ y for m, y in enumerate(v) if m != n] for v in (now, before) for n, x in enumerate(v)]
    within = [np.mean(pairs[:5]), np.mean(pairs[5:])]
    assert drift(summed(now), summed(before)) == pytest.approx(sum(within) - 2 * np.mean(now @ before.T))
    assert drift(summed(now), summed(before[:4]) + summed(before[4:])) == drift(summed(now), summed(before))


@pytest.mark.parametrize("count", [2, 5, 50])
def test_queries_of_one_kind_do_not_drift_however_few_they_are(count: int) -> None:
    """On average over 200 weeks; the cosine distance of the means grows to a multiple of the drift below."""
    generator = np.random.default_rng(count)
    middle = centre(generator)
    drifts, distances = [], []
    for _ in range(200):
        now, before = unit_vectors(generator, count, middle), unit_vectors(generator, 4 * count, middle)
        drifts.append(drift(summed(now), summed(before)))
        means = now.mean(axis=0), before.mean(axis=0)
        distances.append(1 - means[0] @ means[1] / np.linalg.norm(means[0]) / np.linalg.norm(means[1]))
    error = np.std(drifts) / np.sqrt(len(drifts))
    assert abs(np.mean(drifts)) < 4 * error + 1e-12
    assert np.mean(distances) > 1 / count


def test_the_drift_is_the_squared_distance_of_where_queries_come_from() -> None:
    """From 20 queries as from 4,000."""
    generator = np.random.default_rng(1)
    one, two = centre(generator), centre(generator)
    many = [unit_vectors(generator, 4_000, c).mean(axis=0) for c in (one, two)]
    true = float(np.sum((many[0] - many[1]) ** 2))
    found = [
        drift(summed(unit_vectors(generator, 20, one)), summed(unit_vectors(generator, 80, two))) for _ in range(100)
    ]
    assert np.mean(found) == pytest.approx(true, rel=0.02)


@pytest.mark.parametrize(("now", "before"), [(1, 5), (5, 1), (0, 0)])
def test_fewer_than_two_say_nothing(now: int, before: int) -> None:
    some = np.eye(2560)
    assert drift(summed(some[:now]), summed(some[:before])) is None
