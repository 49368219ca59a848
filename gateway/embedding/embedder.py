"""Texts to vectors of the space: tokenize, run both encoders at once, join, normalize.

Shapes: B texts, C = 1536 numbers of the code encoder, T = 1024 of the text encoder, V = 2560 of both.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.concurrency import run_all
from gateway.embedding.blend import CODE_WEIGHT, reweighted
from gateway.embedding.cache import CachedEncoding, VectorCache
from gateway.embedding.fleet import TritonFleet
from gateway.embedding.half import HalfEmbedder, Role
from gateway.embedding.proof import ProvenEncoders
from gateway.embedding.space import CODE_DIM, VECTOR_DIM, Encoder, InputType, Space
from gateway.embedding.tokenizer import Tokenizer, Tokens
from gateway.embedding.triton import Priority
from gateway.embedding.vectors import Vectors, distinct
from gateway.errors import BackendFault, BadVector, TextTooLong, TritonUnavailable
from gateway.telemetry.stages import Stage, stage

# More than any tokenizer puts around a text: beginning, end, and a space before it.
_FRAME_TOKENS = 8
# How many bytes of UTF-8 one that is not ASCII can become by normalization (NFKC): unicode.org/faq/normalization.html.
_NORMALIZED_BYTES = 11

EncoderOutput = tuple[NDArray[np.float32], dict[int, BadVector]]


@dataclass(frozen=True, slots=True)
class TokenizedTexts:
    """Texts as both encoders read them; rows correspond."""

    code: list[Tokens]
    text: list[Tokens]
    digests: list[bytes]
    """SHA-256 of each text."""
    input_type: InputType

    def select(self, indices: Sequence[int]) -> "TokenizedTexts":
        """The texts at these indices, in this order."""
        return TokenizedTexts(
            [self.code[index] for index in indices],
            [self.text[index] for index in indices],
            [self.digests[index] for index in indices],
            self.input_type,
        )

    @property
    def token_count(self) -> int:
        """Of both encoders."""
        return sum(len(row.ids_T) for rows in (self.code, self.text) for row in rows)

    def is_truncated(self, index: int) -> bool:
        """Whether an encoder reads only part of a text."""
        return self.code[index].excess is not None or self.text[index].excess is not None


NO_TEXTS = TokenizedTexts([], [], [], InputType.QUERY)


@dataclass(frozen=True, slots=True)
class QueryVector:
    """A query, ready to be compared with the stored vectors."""

    vector_V: NDArray[np.float32]
    """(2560,), norm 1 ± 1e-5."""
    scale: float
    """What a cosine with `vector_V` is multiplied by, to be the weighted mean of the encoders' cosines."""
    truncated: bool
    """Whether an encoder read only part of the text."""
    missing_encoder: str
    """Name of the encoder that was down and is left out; empty where none is."""
    plain_V: NDArray[np.float32]
    """(2560,), the same before its halves were weighed by a blend, as far as that is known."""


class Embedder:
    """Embeds texts in one space."""

    def __init__(self, space: Space, encoders: ProvenEncoders | TritonFleet, cache: VectorCache | None = None) -> None:
        """Load the tokenizers of the space.

        Args:
            space: What to embed in.
            encoders: Runs its encoders.
            cache: Where vectors of this space are kept; None for nowhere.

        Raises:
            StartupError: A tokenizer cannot be loaded.
        """
        self.space = space
        self._encoders = encoders
        self.caching = None if cache is None else CachedEncoding(cache)
        self._code_tokenizer = Tokenizer(space.code)
        self._text_tokenizer = Tokenizer(space.text)
        self._later: Role = "code"
        """The encoder that has answered last, in whatever call."""
        self.encoded_count = 0
        """Calls of `encode` that both encoders have answered; where it grows, they are not down but busy."""

    def guess_tokens(self, texts: Sequence[str]) -> int:
        """About how many tokens texts have for both encoders, without tokenizing them."""
        return self._code_tokenizer.guess(texts) + self._text_tokenizer.guess(texts)

    async def tokenize(self, texts: Sequence[str], input_type: InputType) -> TokenizedTexts:
        """Tokenize for both encoders; long texts are cut at the limit, and say so."""
        with stage(Stage.TOKENIZE, duovec__text_count=len(texts)):
            code, text = await asyncio.gather(
                self._code_tokenizer.tokenize(texts, input_type), self._text_tokenizer.tokenize(texts, input_type)
            )
        digests = [hashlib.sha256(text.encode()).digest() for text in texts]
        return TokenizedTexts(code, text, digests, input_type)

    def excess(self, tokenized: TokenizedTexts, index: int, field: str) -> TextTooLong | None:
        """The error for a text that an encoder cannot read to its end, or None.

        Args:
            tokenized: The texts.
            index: Which of them.
            field: Name of the text in the caller's request.
        """
        for tokenizer, rows in ((self._code_tokenizer, tokenized.code), (self._text_tokenizer, tokenized.text)):
            if error := tokenizer.excess(rows[index], field):
                return error
        return None

    def may_exceed(self, passage: str) -> bool:
        """Whether an encoder may be unable to read a text to its end; where not, that is sure without tokenizing it."""
        return any(
            _most_tokens(encoder.prompts[InputType.PASSAGE] + passage) > encoder.max_tokens
            for encoder in (self.space.code, self.space.text)
        )

    def half(self, role: Role) -> HalfEmbedder:
        """What embeds by one of the encoders alone."""
        if role == "code":
            return HalfEmbedder(self.space.code, self._code_tokenizer, self._encoders)
        return HalfEmbedder(self.space.text, self._text_tokenizer, self._encoders)

    async def embed(self, tokenized: TokenizedTexts, *, priority: Priority, timeout_s: float) -> Vectors:
        """As `encode`, but no text twice for one caller: what it had embedded before is read from the cache.

        Of texts that are the same, in this call or in others of the caller that are under way, one is encoded.
        """

        async def compute(positions: Sequence[int]) -> Vectors:
            return await self.encode(tokenized.select(positions), priority=priority, timeout_s=timeout_s)

        if self.caching is None:
            return await self.encode(tokenized, priority=priority, timeout_s=timeout_s)
        return await self.caching.get(tokenized.input_type.value, tokenized.digests, compute)

    async def encode(self, tokenized: TokenizedTexts, *, priority: Priority, timeout_s: float) -> Vectors:
        """Run both encoders at once, each text once, join their parts and normalize.

        Args:
            tokenized: B texts, some of which may be the same.
            priority: Whether somebody waits for them.
            timeout_s: Budget, seconds.

        Returns:
            The vectors, with the unusable ones named.

        Raises:
            TritonUnavailable: Triton is down or does not serve the space's versions; safe to retry.
            SpaceMismatch: It serves other models under their names.
            Overloaded: Triton's queue is full.
            DeadlineExceeded: The budget is spent.
            BackendFault: An encoder answered something else than vectors.
        """
        first, of_B = distinct(tokenized.digests)
        if len(first) < len(of_B):
            vectors = await self.encode(tokenized.select(first), priority=priority, timeout_s=timeout_s)
            return vectors.spread(of_B)
        (code_BC, code_errors), (text_BT, text_errors) = await self._run_both(tokenized, priority, timeout_s)
        self.encoded_count += 1
        vectors_BV = np.empty((len(tokenized.code), VECTOR_DIM), dtype=np.float32)
        np.multiply(code_BC, np.float32(CODE_WEIGHT**0.5), out=vectors_BV[:, :CODE_DIM])
        np.multiply(text_BT, np.float32((1 - CODE_WEIGHT) ** 0.5), out=vectors_BV[:, CODE_DIM:])
        errors = code_errors | text_errors
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):  # rows in `errors` may hold anything
            vectors_BV /= np.sqrt(np.einsum("bv,bv->b", vectors_BV, vectors_BV))[:, None]
        return Vectors(vectors_BV, errors)

    async def _run_both(
        self, tokenized: TokenizedTexts, priority: Priority, timeout_s: float
    ) -> tuple[EncoderOutput, EncoderOutput]:
        outputs: dict[Role, EncoderOutput] = {}

        async def run(role: Role, encoder: Encoder, rows: list[Tokens]) -> None:
            ids = [row.ids_T for row in rows]
            outputs[role] = await self._encoders.encode(
                encoder, ids, tokenized.input_type, priority=priority, timeout_s=timeout_s
            )
            self._later = role

        code, text = run("code", self.space.code, tokenized.code), run("text", self.space.text, tokenized.text)
        # To make a request takes a fraction of a millisecond, in which whoever is asked second does nothing.
        await run_all([code, text] if self._later == "code" else [text, code])
        return outputs["code"], outputs["text"]

    async def tokenize_query(
        self, query: str, *, field: str, truncate: bool, input_type: InputType = InputType.QUERY
    ) -> TokenizedTexts:
        """Tokenize one query.

        Args:
            query: The text.
            field: Its name in the caller's request.
            truncate: Cut it at the encoders' limit instead of raising.
            input_type: Passage, where code is to be found that resembles the query.

        Raises:
            TextTooLong: The query is longer than an encoder reads and `truncate` is false.
        """
        tokenized = await self.tokenize([query], input_type)
        if not truncate and (error := self.excess(tokenized, 0, field)):
            raise error
        return tokenized

    async def embed_query(
        self,
        tokenized: TokenizedTexts,
        *,
        timeout_s: float,
        blend: float = CODE_WEIGHT,
        allow_degraded: bool = False,
        use_cache: bool = False,
    ) -> QueryVector:
        """Embed one query.

        Args:
            tokenized: It alone.
            timeout_s: Budget, seconds.
            blend: The code encoder's share of the similarity, 0 to 1; see `gateway.embedding.blend`.
            allow_degraded: Go on with one encoder where the other is down; `blend` then has no meaning.
            use_cache: Take the vector that the caller's earlier query of this text got (`embed`). A half vector, for
                which an encoder was down, is never kept.

        Raises:
            BadVector: An encoder answered no usable vector.
            TritonUnavailable, Overloaded, DeadlineExceeded, BackendFault: As `encode`.
        """
        missing: Encoder | None = None
        encode = self.embed if use_cache else self.encode
        try:
            vectors = await encode(tokenized, priority=Priority.INTERACTIVE, timeout_s=timeout_s)
            if vectors.errors:
                raise vectors.errors[0]
            vector_V = vectors.vectors_BV[0]
        except (TritonUnavailable, BackendFault) as failure:
            if not allow_degraded:
                raise
            vector_V, missing = await self._encode_by_each(tokenized, failure, timeout_s)
        if missing is not None:
            blend = 1.0 if missing is self.space.text else 0.0
        blended_V, scale = reweighted(vector_V, blend)
        missing_encoder = missing.name if missing is not None else ""
        return QueryVector(blended_V, scale, tokenized.is_truncated(0), missing_encoder, plain_V=vector_V)

    async def _encode_by_each(
        self, tokenized: TokenizedTexts, failure: Exception, timeout_s: float
    ) -> tuple[NDArray[np.float32], Encoder | None]:
        """The vector of one text, with zeros for the half whose encoder is down, and that encoder; None where none is.

        Raises:
            Exception: `failure`, when neither encoder answers.
        """
        halves = (
            (self.space.code, tokenized.code, slice(None, CODE_DIM), CODE_WEIGHT),
            (self.space.text, tokenized.text, slice(CODE_DIM, None), 1 - CODE_WEIGHT),
        )
        vector_V = np.zeros(VECTOR_DIM, dtype=np.float32)
        weight_sum = 0.0
        missing: list[Encoder] = []
        for encoder, rows, half, weight in halves:
            try:
                vectors_BD, errors = await self._encoders.encode(
                    encoder,
                    [rows[0].ids_T],
                    tokenized.input_type,
                    priority=Priority.INTERACTIVE,
                    timeout_s=timeout_s,
                )
            except (TritonUnavailable, BackendFault):
                missing.append(encoder)
                continue
            if errors:
                missing.append(encoder)
            else:
                vector_V[half] = vectors_BD[0] * np.float32(weight**0.5)
                weight_sum += weight
        if len(missing) == len(halves):
            raise failure
        vector_V *= np.float32(weight_sum**0.5) / np.linalg.norm(vector_V)
        return vector_V, missing[0] if missing else None

    async def close(self) -> None:
        """Wait for vectors that are on their way into the cache."""
        if self.caching is not None:
            await self.caching.close()

    async def check_ready(self, *, timeout_s: float) -> None:
        """Check that Triton serves both versions of the space.

        Raises:
            TritonUnavailable: It does not.
        """
        for encoder in (self.space.code, self.space.text):
            await self._encoders.check_ready(encoder, timeout_s=timeout_s)

    async def prove(self, *, timeout_s: float) -> None:
        """Check that Triton's versions are those that were published, unless that was seen before.

        Raises:
            SpaceMismatch: They are not.
            TritonUnavailable, Overloaded, DeadlineExceeded, BackendFault: As `encode`.
        """
        for encoder in (self.space.code, self.space.text):
            await self._encoders.prove(encoder, timeout_s=timeout_s)

    def doubt(self) -> None:
        """Check again before the next vector."""
        for encoder in (self.space.code, self.space.text):
            self._encoders.doubt(encoder)


def _most_tokens(text: str) -> int:
    """Tokens that a text can have at most: each is of a byte of it at least, after normalization."""
    size_bytes = len(text.encode())
    # A character beyond ASCII has two bytes at least, one of them beyond its count.
    foreign_bytes = 2 * (size_bytes - len(text))
    return size_bytes + (_NORMALIZED_BYTES - 1) * foreign_bytes + _FRAME_TOKENS
