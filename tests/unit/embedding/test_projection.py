"""The plane and the neighbours against numpy's own singular values, and a look at every pair."""

import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.embedding.projection import project


def unit_vectors(count: int, *, seed: int = 0, clusters: int = 5) -> NDArray[np.float16]:
    """Vectors around some centres, as code of some kinds, rounded as they are stored."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((clusters, 2560)) * np.linspace(3, 1, clusters)[:, None]
    vectors = centres[random.integers(clusters, size=count)] + random.standard_normal((count, 2560))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


@pytest.mark.parametrize("count", [3, 40, 700])
def test_places_are_the_principal_components(count: int) -> None:
    vectors = unit_vectors(count)
    centred = vectors.astype(np.float64) - vectors.astype(np.float64).mean(axis=0)
    left, scale, _ = np.linalg.svd(centred, full_matrices=False)
    found = project(vectors)
    np.testing.assert_allclose(np.abs(found.places_B2), np.abs(left[:, :2] * scale[:2]), rtol=0, atol=2e-3)
    assert found.explained_variance == pytest.approx((scale[:2] ** 2).sum() / (scale**2).sum(), rel=1e-3)
    np.testing.assert_array_equal(project(vectors).places_B2, found.places_B2)  # the same picture each time


def test_neighbors_are_the_most_similar_of_all_pairs() -> None:
    vectors = unit_vectors(300)
    similarity = vectors.astype(np.float64) @ vectors.astype(np.float64).T
    np.fill_diagonal(similarity, -2)
    expected = np.argsort(-similarity, axis=1)[:, :8]
    found = project(vectors)
    np.testing.assert_array_equal(found.neighbors_BK, expected)
    np.testing.assert_allclose(
        found.similarities_BK, np.take_along_axis(similarity, expected, axis=1), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_vectors_have_what_there_is(count: int) -> None:
    found = project(unit_vectors(count))
    assert found.places_B2.shape == (count, 2)
    assert found.neighbors_BK.shape == (count, max(0, count - 1))
    assert np.isfinite(found.places_B2).all()


def test_copies_of_one_chunk_lie_in_one_place() -> None:
    """Nothing is divided by their variance, which is 0."""
    found = project(np.repeat(unit_vectors(1), 20, axis=0))
    assert not found.places_B2.any()
    assert found.explained_variance == 0
    assert found.similarities_BK.min() == pytest.approx(1, abs=2e-3)
