"""The words part is what its description says, whatever the padding, and leaves the cosines of meaning alone."""

from collections import Counter

import numpy as np
import pytest
import torch

from export.spec import Words
from export.words import WordsPart, directions, rarity

WORDS = Words(share=0.3, seed=5)
VOCABULARY, BASE, DIMENSION = 1000, 24, 160
ROWS = [[7, 3, 3, 900, 3], [3, 7], [12, 13, 14, 15], [900, 7, 7]]


@pytest.fixture(name="head_DH", scope="module")
def trained_head() -> np.ndarray:
    """A head that was trained: its columns are neither orthogonal nor of norm 1."""
    return np.random.default_rng(1).standard_normal((DIMENSION, BASE)).astype(np.float32)


@pytest.fixture(name="weight_V", scope="module")
def some_weights() -> np.ndarray:
    """Of every token; four tokens weigh nothing."""
    weight_V = np.random.default_rng(2).random(VOCABULARY).astype(np.float32) + 0.1
    weight_V[12:16] = 0.0
    return weight_V


def _meaning(head_DH: np.ndarray) -> np.ndarray:
    vectors_BD = np.random.default_rng(3).standard_normal((len(ROWS), BASE)) @ head_DH.T
    return vectors_BD / np.linalg.norm(vectors_BD, axis=1, keepdims=True)


def _given(head_DH: np.ndarray, weight_V: np.ndarray, padding: int) -> np.ndarray:
    longest = max(map(len, ROWS)) + padding
    ids_BS, mask_BS = torch.zeros(len(ROWS), longest, dtype=torch.int64), torch.zeros(len(ROWS), longest, dtype=int)
    for number, row in enumerate(ROWS):
        ids_BS[number, : len(row)], mask_BS[number, : len(row)] = torch.tensor(row), 1
    part = WordsPart(WORDS, weight_V, head_DH)
    return part(torch.from_numpy(_meaning(head_DH)).float(), ids_BS, mask_BS).double().numpy()


def _sums(weight_V: np.ndarray) -> np.ndarray:
    """Weights of every text's tokens, the n-th of a kind at 1 / n, over the whole vocabulary."""
    sums_BV = np.zeros((len(ROWS), VOCABULARY))
    for number, row in enumerate(ROWS):
        for token, count in Counter(row).items():
            sums_BV[number, token] = weight_V[token] * sum(1 / n for n in range(1, count + 1))
    return sums_BV


def test_cosines_are_those_of_meaning_and_words_by_their_shares(head_DH: np.ndarray, weight_V: np.ndarray) -> None:
    """Words by their tokens' drawn directions, summed here in the whole vocabulary; a row without any keeps its own."""
    found = directions(WORDS, VOCABULARY, head_DH)
    rows = len(found.high_MK)
    direction_VK = np.array([found.high_MK[v // rows] * found.low_MK[v % rows] for v in range(VOCABULARY)])
    words_BK = _sums(weight_V) @ direction_VK
    assert not words_BK[2].any()
    norm_B1 = np.linalg.norm(words_BK, axis=1, keepdims=True)
    words_BK = np.divide(words_BK, norm_B1, out=words_BK, where=norm_B1 > 0)
    meaning_BD = _meaning(head_DH)
    expected_BB = 0.7 * meaning_BD @ meaning_BD.T + 0.3 * words_BK @ words_BK.T
    size_B = np.sqrt(np.diag(expected_BB))
    given_BD = _given(head_DH, weight_V, padding=0)
    np.testing.assert_allclose(given_BD @ given_BD.T, expected_BB / np.outer(size_B, size_B), atol=1e-5)
    np.testing.assert_allclose(given_BD[2], meaning_BD[2], atol=1e-6)


def test_padding_counts_nothing(head_DH: np.ndarray, weight_V: np.ndarray) -> None:
    """The padding's token has a weight of its own here, and still does not show."""
    assert weight_V[0] > 0
    given_BD = _given(head_DH, weight_V, padding=0)
    np.testing.assert_allclose(_given(head_DH, weight_V, padding=9), given_BD, atol=1e-6)


def test_directions_of_tokens_are_nearly_orthogonal(head_DH: np.ndarray) -> None:
    """All pairs of a thousand tokens, also those that share a row of signs, as random directions would be."""
    found = directions(WORDS, VOCABULARY, head_DH)
    rows = len(found.high_MK)
    assert found.high_MK.shape == found.low_MK.shape == (32, DIMENSION - BASE)
    direction_VK = np.array([found.high_MK[v // rows] * found.low_MK[v % rows] for v in range(VOCABULARY)])
    cosines_VV = direction_VK @ direction_VK.T / (DIMENSION - BASE)
    upper = cosines_VV[np.triu_indices(VOCABULARY, 1)]
    assert upper.std() == pytest.approx((DIMENSION - BASE) ** -0.5, rel=0.05)
    assert np.abs(upper).max() < 0.6
    both_DD = np.concatenate([np.linalg.qr(head_DH)[0], found.basis_DK], axis=1)
    np.testing.assert_allclose(both_DD.T @ both_DD, np.eye(DIMENSION), atol=1e-5)


def test_a_row_without_tokens_is_no_vector(head_DH: np.ndarray, weight_V: np.ndarray) -> None:
    """Words must not make a plausible vector of a meaning that is none."""
    part = WordsPart(WORDS, weight_V, head_DH)
    ids, mask = torch.tensor([[3, 7]]), torch.tensor([[0, 0]])
    assert torch.isnan(part(torch.full((1, DIMENSION), torch.nan), ids, mask)).all()


def test_rare_tokens_weigh_more() -> None:
    """BM25's inverse document frequency of 10 texts, by hand; a token of every text still weighs something."""
    weight_V = rarity(np.array([0, 1, 5, 10, 10]), 10, [4])
    np.testing.assert_allclose(weight_V[:3], np.log([1 + 10.5 / 0.5, 1 + 9.5 / 1.5, 2.0]), rtol=1e-6)
    assert 0 < weight_V[3] < 0.05 and weight_V[4] == 0
