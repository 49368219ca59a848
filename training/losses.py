"""sentence-transformers' losses, as a recipe names them."""

import math
from typing import Any

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
    TripletDistanceMetric,
    TripletLoss,
)
from torch import nn

from training.recipe import LossRecipe


def build_loss(model: SentenceTransformer, recipe: LossRecipe, dimension: int, *, gather: bool) -> nn.Module:
    """The loss of a run.

    Args:
        model: The encoder, whose vectors have norm 1.
        recipe: Which loss.
        dimension: Of the encoder's vectors.
        gather: Whether in-batch negatives are those of all processes.
    """
    loss: nn.Module
    if recipe.name == "triplet":
        loss = TripletLoss(model, distance_metric=TripletDistanceMetric.COSINE, triplet_margin=recipe.margin)
    else:
        arguments: dict[str, Any] = {"scale": 1.0 / recipe.temperature, "gather_across_devices": gather}
        if recipe.symmetric:
            arguments |= {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"}
        if recipe.name == "cached-contrastive":
            loss = CachedMultipleNegativesRankingLoss(model, mini_batch_size=recipe.mini_batch, **arguments)
        else:
            loss = MultipleNegativesRankingLoss(model, **arguments)
    if recipe.matryoshka:
        loss = MatryoshkaLoss(model, loss, matryoshka_dims=[dimension, *recipe.matryoshka])
    return loss


def chance_loss(recipe: LossRecipe, batch: int, negatives: int) -> float:
    """The loss of an encoder that gives every text the same vector.

    Args:
        recipe: Which loss.
        batch: Rows a step, of all processes.
        negatives: Hard negatives a row.

    Returns:
        The margin of the triplet loss; of the others ln of how many passages a query is compared with, or where
        passages must find their query too, its mean with ln of how many queries; once for each dimension of a
        Matryoshka loss.
    """
    if recipe.name == "triplet":
        once = recipe.margin
    else:
        there, back = math.log(batch * (1 + negatives)), math.log(batch)
        once = (there + back) / 2 if recipe.symmetric else there
    return once * (1 + len(recipe.matryoshka))
