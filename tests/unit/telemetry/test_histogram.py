"""A histogram counts as numpy does, and its quantiles are those of PromQL."""

import numpy as np
import pytest

from gateway.telemetry.histogram import LATENCY_BOUNDS_S, STAGE_BOUNDS_S, Histogram


def test_buckets_count_what_is_not_above_their_bound() -> None:
    """Against numpy, with values on the bounds themselves."""
    values = np.concatenate([np.random.default_rng(7).exponential(0.2, 1000), LATENCY_BOUNDS_S, [0.0, 1e9]])
    histogram = Histogram(LATENCY_BOUNDS_S)
    for value in values:
        histogram.observe(value)
    expected = [float((values <= bound).sum()) for bound in (*LATENCY_BOUNDS_S, np.inf)]
    assert [count for _, count in histogram.buckets()] == expected
    assert histogram.buckets()[-1] == ("+Inf", float(len(values)))
    assert histogram.count == len(values)
    assert histogram.sum == pytest.approx(values.sum())


def test_a_quantile_is_within_its_bucket() -> None:
    """By at most the width of a bucket off numpy's."""
    values = np.random.default_rng(8).lognormal(-4, 1, 5000)
    histogram = Histogram(LATENCY_BOUNDS_S)
    for value in values:
        histogram.observe(value)
    for share in (0.5, 0.9, 0.99):
        found, exact = histogram.quantile(share), np.quantile(values, share)
        assert found == pytest.approx(exact, rel=0.3)


def test_a_quantile_is_interpolated_as_by_prometheus() -> None:
    """Four values up to 1, four up to 2: the median is 1, three quarters lie half-way through the second."""
    histogram = Histogram((1, 2))
    for value in (0.1, 0.2, 0.3, 1.0, 1.1, 1.2, 1.3, 2.0):
        histogram.observe(value)
    assert (histogram.quantile(0.5), histogram.quantile(0.75), histogram.quantile(0.25)) == (1.0, 1.5, 0.5)


def test_without_values_there_is_no_quantile_and_beyond_the_bounds_the_last() -> None:
    histogram = Histogram((1, 2))
    assert histogram.quantile(0.5) is None
    histogram.observe(100)
    assert histogram.quantile(0.5) == 2


@pytest.mark.parametrize("bounds", [LATENCY_BOUNDS_S, STAGE_BOUNDS_S])
def test_bounds_ascend_and_have_short_names(bounds: tuple[float, ...]) -> None:
    """`0.0063`, not `0.006300000000000001`: they are labels of series."""
    assert list(bounds) == sorted(set(bounds))
    assert max(len(name) for name, _ in Histogram(bounds).buckets()) <= 6
