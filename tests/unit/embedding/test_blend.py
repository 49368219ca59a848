"""Another weight of code against text, by the query alone."""

import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.embedding.blend import reweighted


def unit_rows(count: int, dimension: int, seed: int) -> NDArray[np.float64]:
    rows = np.random.default_rng(seed).standard_normal((count, dimension))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def joined(code: NDArray[np.float64], text: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.hstack([code, text]).astype(np.float32) * np.float32(np.sqrt(0.5))


@pytest.mark.parametrize("weight", [0.0, 0.1, 0.5, 0.8, 1.0])
def test_the_score_is_the_weighted_mean_of_both_cosines(weight: float) -> None:
    """Against what is stored at half and half, worked out from the parts."""
    code, text = unit_rows(50, 1536, 1), unit_rows(50, 1024, 2)
    query_code, query_text = unit_rows(1, 1536, 3)[0], unit_rows(1, 1024, 4)[0]
    stored_BV = joined(code, text)
    unit_V, scale = reweighted(joined(query_code[None], query_text[None])[0], weight)
    assert unit_V.dtype == np.float32
    assert np.linalg.norm(unit_V) == pytest.approx(1, abs=1e-6)
    expected = weight * (code @ query_code) + (1 - weight) * (text @ query_text)
    np.testing.assert_allclose(scale * (stored_BV @ unit_V), expected, rtol=0, atol=1e-6)


def test_half_and_half_changes_nothing() -> None:
    vector_V = joined(unit_rows(1, 1536, 3), unit_rows(1, 1024, 4))[0]
    unit_V, scale = reweighted(vector_V, 0.5)
    np.testing.assert_allclose(unit_V, vector_V, atol=1e-7)
    assert scale == pytest.approx(1, abs=1e-6)
