"""The losses of recipes, on vectors that are known."""

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from training.losses import build_loss, chance_loss
from training.recipe import LossRecipe

_BATCH, _DIMENSION = 6, 8


class _Given(nn.Module):
    """In place of an encoder: the vectors are the features."""

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"sentence_embedding": features["vectors"]}


def _loss(recipe: LossRecipe, *columns: Tensor) -> float:
    model = SentenceTransformer(modules=[_Given()], device="cpu")
    loss = build_loss(model, recipe, _DIMENSION, gather=False)
    return float(loss([{"vectors": column.clone()} for column in columns], torch.empty(0)))


def _unit(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(*shape, generator=generator), dim=-1)


@pytest.mark.parametrize(
    "recipe",
    [
        LossRecipe(),
        LossRecipe(symmetric=True),
        LossRecipe(name="triplet", margin=0.25),
        LossRecipe(matryoshka=(4, 2)),
        LossRecipe(matryoshka=(4, 2), symmetric=True),
    ],
    ids=["contrastive", "symmetric", "triplet", "matryoshka", "symmetric matryoshka"],
)
def test_chance_is_the_loss_of_one_vector_for_everything(recipe: LossRecipe) -> None:
    """Of query, passage and one hard negative a row."""
    same_BD = _unit(1, _DIMENSION, seed=1).expand(_BATCH, -1)
    assert _loss(recipe, same_BD, same_BD, same_BD) == pytest.approx(chance_loss(recipe, _BATCH, 1), rel=1e-5)


def _cross_entropy(scores_QP: np.ndarray) -> float:
    """The mean of −log softmax at each query's own passage, which has its number."""
    return float(np.mean([np.log(np.exp(row).sum()) - row[number] for number, row in enumerate(scores_QP)]))


def test_the_contrastive_loss_is_its_formula() -> None:
    """InfoNCE over the passages and hard negatives of the batch; both ways, the mean of the two (by loops)."""
    queries, passages, negatives = (_unit(_BATCH, _DIMENSION, seed=seed) for seed in (2, 3, 4))
    there = (queries @ torch.cat([passages, negatives]).T).double().numpy() / 0.1
    back = (passages @ queries.T).double().numpy() / 0.1
    recipe = LossRecipe(temperature=0.1)
    assert _loss(recipe, queries, passages, negatives) == pytest.approx(_cross_entropy(there), rel=1e-5)
    both = LossRecipe(temperature=0.1, symmetric=True)
    expected = (_cross_entropy(there) + _cross_entropy(back)) / 2
    assert _loss(both, queries, passages, negatives) == pytest.approx(expected, rel=1e-5)


def test_the_triplet_loss_is_its_formula() -> None:
    """Cosine distance to the passage, less that to the negative, plus the margin, never below 0."""
    queries, passages, negatives = (_unit(_BATCH, _DIMENSION, seed=seed) for seed in (5, 6, 7))
    right, wrong = (queries * passages).sum(1), (queries * negatives).sum(1)
    expected = np.mean([max(0.0, float(w - r) + 0.2) for r, w in zip(right, wrong, strict=True)])
    given = _loss(LossRecipe(name="triplet", margin=0.2), queries, passages, negatives)
    assert given == pytest.approx(expected, rel=1e-5)
    assert 0.1 < expected < 1.0


def test_the_matryoshka_loss_is_the_sum_over_its_dimensions() -> None:
    """Each of the first dimensions, normalized anew: as if the vectors ended there."""
    queries, passages = (_unit(_BATCH, _DIMENSION, seed=seed) for seed in (8, 9))
    expected = 0.0
    for dimension in (_DIMENSION, 4, 2):
        short = [torch.nn.functional.normalize(one[:, :dimension], dim=-1) for one in (queries, passages)]
        expected += _cross_entropy((short[0] @ short[1].T).double().numpy() / 0.05)
    assert _loss(LossRecipe(matryoshka=(4, 2)), queries, passages) == pytest.approx(expected, rel=1e-5)
