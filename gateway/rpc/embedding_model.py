"""The models by the names and numbers of other APIs: both encoders, or one of them."""

from dataclasses import dataclass

from gateway.embedding.half import Role
from gateway.embedding.space import CODE_DIM, TEXT_DIM, VECTOR_DIM
from gateway.errors import InvalidInput, ModelNotFound


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """A model by the name that callers use.

    Attributes:
        dimension: Of its vectors.
        role: Of its encoder; None for both.
    """

    name: str
    dimension: int
    role: Role | None


WHOLE = EmbeddingModel("duovec", VECTOR_DIM, None)
CODE = EmbeddingModel("duovec-code", CODE_DIM, "code")
TEXT = EmbeddingModel("duovec-text", TEXT_DIM, "text")
MODELS = {model.name: model for model in (WHOLE, CODE, TEXT)}


def find_model(name: str) -> EmbeddingModel:
    """The model of a name.

    Raises:
        ModelNotFound: There is none.
    """
    try:
        return MODELS[name]
    except KeyError:
        raise ModelNotFound(f"there is no model {name[:80]!r}; use one of {', '.join(MODELS)}") from None


def cut_to(model: EmbeddingModel, dimensions: int | None) -> EmbeddingModel:
    """The model that has vectors of so many numbers, where `model` is asked for them.

    Raises:
        InvalidInput: There are no such vectors: a part of an encoder's vector means nothing.
    """
    if dimensions is None or dimensions == model.dimension:
        return model
    halves = (CODE, TEXT) if model is WHOLE else ()
    for half in halves:
        if dimensions == half.dimension:
            return half
    known = ", ".join(f"{each.dimension} ({each.name})" for each in (model, *halves))
    raise InvalidInput("dimensions", f"is {dimensions}; model {model.name} has {known}, and no shorter vectors")
