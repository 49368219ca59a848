"""Texts to vectors of one encoder of the space, for who wants no other.

Shapes: B texts, D numbers of the encoder's vector.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gateway.embedding.fleet import TritonFleet
from gateway.embedding.proof import ProvenEncoders
from gateway.embedding.space import Encoder, InputType
from gateway.embedding.tokenizer import Tokenizer, Tokens
from gateway.embedding.triton import Priority
from gateway.embedding.vectors import Vectors, distinct
from gateway.errors import TextTooLong
from gateway.telemetry.stages import Stage, stage

Role = Literal["code", "text"]


@dataclass(frozen=True, slots=True)
class TokenizedHalf:
    """Texts as one encoder reads them."""

    rows: list[Tokens]
    input_type: InputType

    def select(self, indices: Sequence[int]) -> "TokenizedHalf":
        """The texts at these indices, in this order."""
        return TokenizedHalf([self.rows[index] for index in indices], self.input_type)

    @property
    def token_count(self) -> int:
        """Of all texts."""
        return sum(len(row.ids_T) for row in self.rows)


class HalfEmbedder:
    """Embeds texts by one encoder. Its vectors are not cached: the cache keeps whole ones."""

    def __init__(self, encoder: Encoder, tokenizer: Tokenizer, encoders: ProvenEncoders | TritonFleet) -> None:
        """Run `encoder` by `encoders`; `tokenizer` is its own."""
        self.tokenizer = tokenizer
        self._encoder = encoder
        self._encoders = encoders

    def guess_tokens(self, texts: Sequence[str]) -> int:
        """About how many tokens texts have, without tokenizing them."""
        return self.tokenizer.guess(texts)

    async def tokenize(self, texts: Sequence[str], input_type: InputType) -> TokenizedHalf:
        """Tokenize; long texts are cut at the limit, and say so."""
        with stage(Stage.TOKENIZE, duovec__text_count=len(texts)):
            return TokenizedHalf(await self.tokenizer.tokenize(texts, input_type), input_type)

    def excess(self, tokenized: TokenizedHalf, index: int, field: str) -> TextTooLong | None:
        """The error for a text that the encoder cannot read to its end, or None."""
        return self.tokenizer.excess(tokenized.rows[index], field)

    async def embed(self, tokenized: TokenizedHalf, *, priority: Priority, timeout_s: float) -> Vectors:
        """Run the encoder over each text once, and normalize.

        Returns:
            The vectors, (B, D), with the unusable ones named: the encoder's part of the whole vector, at norm 1.

        Raises:
            TritonUnavailable, SpaceMismatch, Overloaded, DeadlineExceeded, BackendFault: As `Embedder.encode`.
        """
        first, of_B = distinct([row.ids_T.tobytes() for row in tokenized.rows])
        ids = [tokenized.rows[index].ids_T for index in first]
        vectors_BD, errors = await self._encoders.encode(
            self._encoder, ids, tokenized.input_type, priority=priority, timeout_s=timeout_s
        )
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):  # rows in `errors` may hold anything
            vectors_BD = vectors_BD / np.sqrt(np.einsum("bd,bd->b", vectors_BD, vectors_BD))[:, None]
        vectors = Vectors(vectors_BD, errors)
        return vectors.spread(of_B) if len(first) < len(of_B) else vectors
