"""What embedding does for a call, or for a batch of a stream, by whichever door it came."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from gateway.embedding.embedder import Embedder, TokenizedTexts
from gateway.embedding.half import Role, TokenizedHalf
from gateway.embedding.space import InputType
from gateway.embedding.triton import Priority
from gateway.embedding.vectors import Vectors
from gateway.errors import DuovecError, TextTooLong, Unauthenticated
from gateway.rpc import validation
from gateway.rpc.admission import Admission, OpenStream
from gateway.rpc.quotas import Quotas
from gateway.spaces.serving import Serving
from gateway.store.principals import PrincipalStore

Tokenized = TypeVar("Tokenized", TokenizedTexts, TokenizedHalf)


class TextEmbedder(Protocol[Tokenized]):
    """What embeds by both encoders, or by one."""

    def guess_tokens(self, texts: Sequence[str]) -> int:
        """See `Embedder.guess_tokens`."""

    async def tokenize(self, texts: Sequence[str], input_type: InputType) -> Tokenized:
        """See `Embedder.tokenize`."""

    def excess(self, tokenized: Tokenized, index: int, field: str) -> TextTooLong | None:
        """See `Embedder.excess`."""

    async def embed(self, tokenized: Tokenized, *, priority: Priority, timeout_s: float) -> Vectors:
        """See `Embedder.embed`."""


@dataclass(frozen=True, slots=True)
class Embedded(Generic[Tokenized]):
    """Texts with their vectors, all of them sound, in the space of this fingerprint."""

    space: str
    tokenized: Tokenized
    vectors: Vectors


def whole(embedder: Embedder) -> Embedder:
    """Both encoders."""
    return embedder


def part(role: Role | None) -> Callable[[Embedder], TextEmbedder[Any]]:
    """One of the encoders, or both."""
    return whole if role is None else lambda embedder: embedder.half(role)


@dataclass(frozen=True, slots=True)
class Row(Generic[Tokenized]):
    """One text of a batch with its vector: row `index` of both."""

    tokenized: Tokenized
    vectors: Vectors
    index: int

    @property
    def token_count(self) -> int:
        """Of the text."""
        return self.tokenized.select([self.index]).token_count


@dataclass(frozen=True, slots=True)
class StreamedText:
    """One item of a stream.

    Attributes:
        space: Fingerprint of the space that its caller relies on; empty for any.
        truncate: Cut it at the encoders' limits instead of failing.
    """

    text: str
    space: str = ""
    truncate: bool = False


class EmbeddingCalls:
    """Embeds texts within what is admitted and what their caller may ask for."""

    def __init__(
        self, serving: Serving, principals: PrincipalStore, admission: Admission, quotas: Quotas, *, timeout_s: float
    ) -> None:
        """Args: timeout_s: Budget of a call, or of a batch of a stream, seconds."""
        self._serving = serving
        self._principals = principals
        self._admission = admission
        self._quotas = quotas
        self._timeout_s = timeout_s

    async def embed(
        self,
        choose: Callable[[Embedder], TextEmbedder[Tokenized]],
        texts: Sequence[str],
        input_type: InputType,
        *,
        fields: Sequence[str],
        truncate: bool,
        space: str = "",
    ) -> Embedded[Tokenized]:
        """Embed texts; a bad one fails the call.

        Args:
            choose: Of the active space's embedder what is to embed: `whole`, or half of it.
            texts: One at least; more than a gRPC call may have go as bulk work, behind those of other callers.
            input_type: Query or passage.
            fields: Names of the texts in the caller's request.
            truncate: Cut texts at the encoders' limits instead of raising.
            space: Fingerprint of the space that the caller relies on; empty for any.

        Raises:
            InvalidInput: A text is empty, too long, or has a null character.
            SpaceMismatch: Another space is active, or Triton serves other models.
            Overloaded, QuotaExceeded: There is no room, or none for so many tokens.
            BadVector, TritonUnavailable, DeadlineExceeded, BackendFault: As `Embedder.encode`.
        """
        for field, text in zip(fields, texts, strict=True):
            validation.text(field, text)
        served = await self._serving.expect(space)
        self._quotas.check_tokens()
        embedder = choose(served.embedder)
        # By a guess: tokenizing is work, too.
        with self._admission.tokens(embedder.guess_tokens(texts)) as held:
            tokenized = await embedder.tokenize(texts, input_type)
            if not truncate:
                for index, field in enumerate(fields):
                    if error := embedder.excess(tokenized, index, field):
                        raise error
            held.correct(tokenized.token_count)
            priority = Priority.INTERACTIVE if len(texts) <= validation.MAX_TEXTS else Priority.BULK
            with self._quotas.spend(tokenized.token_count):
                vectors = await embedder.embed(tokenized, priority=priority, timeout_s=self._timeout_s)
                for bad_vector in vectors.errors.values():
                    raise bad_vector
        return Embedded(served.fingerprint, tokenized, vectors)

    def stream(self) -> AbstractAsyncContextManager[OpenStream]:
        """Hold room for one stream; see `Admission.stream`."""
        return self._admission.stream()

    async def check_key(self) -> None:
        """Prove the key again, for every batch: one that is revoked ends a stream that is open, too."""
        await self._principals.check_key(timeout_s=self._timeout_s)

    async def embed_batch(
        self,
        choose: Callable[[Embedder], TextEmbedder[Tokenized]],
        items: Sequence[StreamedText],
        input_type: InputType,
        *,
        field: str = "text",
    ) -> tuple[str, list[Row[Tokenized] | DuovecError]]:
        """Embed items of a stream, as bulk work, when their turn has come; a bad one fails alone.

        Args:
            choose: Of the active space's embedder what is to embed: `whole`, or half of it.
            items: Texts that `validation.text` takes.
            input_type: Query or passage.
            field: Name of the text in an item.

        Returns:
            The fingerprint of the space, and the outcome of each item, in order; QuotaExceeded for those whose turn
            does not come within a minute.

        Raises:
            Unauthenticated: The key was revoked while the items waited for their quota.
        """
        space = self._serving.active
        embedder = choose(space.embedder)
        tokenized = await embedder.tokenize([item.text for item in items], input_type)
        outcomes: dict[int, Row[Tokenized] | DuovecError] = {}
        for index, item in enumerate(items):
            # Another space may have been activated since the item was looked at.
            error: DuovecError | None = space.mismatch(item.space)
            if error is None and not item.truncate:
                error = embedder.excess(tokenized, index, field)
            if error is not None:
                outcomes[index] = error
        good = [index for index in range(len(items)) if index not in outcomes]
        if good:
            selected = tokenized.select(good)
            try:
                async with self._quotas.wait(selected.token_count) as waited:
                    if waited:
                        await self.check_key()
                    async with self._admission.turn(selected.token_count):
                        vectors = await embedder.embed(selected, priority=Priority.BULK, timeout_s=self._timeout_s)
            except Unauthenticated:
                raise
            except DuovecError as exc:
                outcomes |= dict.fromkeys(good, exc)
            else:
                rows = {index: Row(selected, vectors, row) for row, index in enumerate(good)}
                outcomes |= rows | {good[row]: error for row, error in vectors.errors.items()}
        return space.fingerprint, [outcomes[index] for index in range(len(items))]
