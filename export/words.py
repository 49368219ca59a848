"""The words of a text beside its meaning: two texts that share a rare token come closer.

A part of the vector that no layer computes: every token of the vocabulary has a weight and a direction, a text has the
sum over its tokens, and the n-th time that a token stands in a text counts 1 / n. Directions are drawn, not trained:
a token's is the product of one of M "high" and one of M "low" rows of signs, M² being the vocabulary at least, so that
two tokens' directions are as good as orthogonal while the table has 2 M rows. The part lies in what the head leaves
free of the encoder's dimensions: it changes nothing of the cosines of the rest.

Shapes: B rows, S tokens, V tokens of the vocabulary, M rows of signs, H base dimension, D dimension, K = D - H.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.adapters import Array
from export.spec import Words


@dataclass(frozen=True)
class Directions:
    """Where the words part points.

    Attributes:
        high_MK: Signs by token id // M, (M, K) of -1 and 1.
        low_MK: Signs by token id % M.
        basis_DK: Orthonormal columns, orthogonal to those of the head.
    """

    high_MK: Array
    low_MK: Array
    basis_DK: Array


def directions(words: Words, vocabulary: int, head_DH: Array) -> Directions:
    """The directions of a vocabulary's tokens, by the spec's seed and the head."""
    dimension, base = head_DH.shape
    rng = np.random.default_rng(words.seed)
    rows, free = math.isqrt(vocabulary - 1) + 1, dimension - base
    high_MK, low_MK = (rng.choice(np.array([-1.0, 1.0], np.float32), (rows, free)) for _ in range(2))
    gaussian_DK = rng.standard_normal((dimension, free))
    q_DD, r_DD = np.linalg.qr(np.concatenate([head_DH.astype(np.float64), gaussian_DK], axis=1))
    basis_DK = (q_DD * np.sign(np.diag(r_DD)))[:, base:]
    return Directions(high_MK, low_MK, np.ascontiguousarray(basis_DK, dtype=np.float32))


def rarity(counts_V: NDArray[np.int64], texts: int, special_ids: list[int]) -> Array:
    """Weights of tokens by how few texts hold them: BM25's inverse document frequency, always above zero.

    Args:
        counts_V: How many of the texts hold each token.
        texts: How many there are.
        special_ids: Tokens that are no words, which weigh nothing.

    Returns:
        weight_V (V,) float32.
    """
    weight_V = np.log1p((texts - counts_V + 0.5) / (counts_V + 0.5)).astype(np.float32)
    weight_V[special_ids] = 0.0
    return weight_V


class WordsPart(nn.Module):
    """Puts the words part beside an encoder's vectors.

    Args:
        words: Of the spec.
        weight_V: Of every token.
        head_DH: The encoder's head.
    """

    high_V: Tensor
    low_V: Tensor

    def __init__(self, words: Words, weight_V: Array, head_DH: Array) -> None:
        super().__init__()
        found = directions(words, len(weight_V), head_DH)
        rows = len(found.high_MK)
        ids_V = torch.arange(len(weight_V))
        self.register_buffer("high_V", ids_V // rows)
        self.register_buffer("low_V", ids_V % rows)
        self.weight_V1 = nn.Parameter(torch.from_numpy(weight_V)[:, None], requires_grad=False)
        self.high_MK = nn.Parameter(torch.from_numpy(found.high_MK), requires_grad=False)
        self.low_MK = nn.Parameter(torch.from_numpy(found.low_MK), requires_grad=False)
        self.basis = nn.Linear(found.basis_DK.shape[1], found.basis_DK.shape[0], bias=False)
        self.basis.weight = nn.Parameter(torch.from_numpy(found.basis_DK), requires_grad=False)
        self._shares = (math.sqrt(1.0 - words.share), math.sqrt(words.share))

    def forward(self, vectors_BD: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Add the part.

        Args:
            vectors_BD: (B, D), rows of norm 1.
            input_ids: (B, S) int64.
            attention_mask: (B, S) int64.

        Returns:
            (B, D) rows of norm 1; those of a text without a word, or of one whose words weigh nothing, are unchanged.
        """
        embedding = nn.functional.embedding
        positions_S = torch.arange(input_ids.shape[1], device=input_ids.device)
        is_same_BSS = input_ids[:, :, None] == input_ids[:, None, :]
        is_earlier_SS = positions_S[None, :] < positions_S[:, None]
        before_BS = (is_same_BSS & is_earlier_SS[None]).to(vectors_BD.dtype).sum(dim=2)
        counts_BS1 = (attention_mask.to(vectors_BD.dtype) / (1.0 + before_BS)).unsqueeze(-1)
        weights_BS1 = embedding(input_ids, self.weight_V1) * counts_BS1
        signs_BSK = embedding(self.high_V[input_ids], self.high_MK) * embedding(self.low_V[input_ids], self.low_MK)
        sum_BK = (weights_BS1 * signs_BSK).sum(dim=1)
        unit_BK = sum_BK / sum_BK.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        meaning, share = self._shares
        both_BD = meaning * vectors_BD + share * self.basis(unit_BK)
        unit_BD: Tensor = both_BD / both_BD.norm(dim=-1, keepdim=True)
        return unit_BD
