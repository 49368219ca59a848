"""Gives chunks that are stored already their vectors in a space."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.embedding.space import InputType, passage_of
from gateway.embedding.triton import Priority
from gateway.errors import BadVector
from gateway.spaces.serving import ServedSpace
from gateway.store.rows import PendingChunk
from gateway.store.space_vectors import SpaceVectorStore


@dataclass(frozen=True, slots=True)
class FillOutcome:
    """What became of a batch.

    Attributes:
        truncated_count: Chunks whose text was cut at an encoder's limit.
        left_count: Chunks that were not embedded since they would have been cut.
        errors: By chunk id, why it got no vector.
    """

    truncated_count: int
    left_count: int
    errors: dict[int, BadVector]


async def fill(
    vectors: SpaceVectorStore,
    space: ServedSpace,
    chunks: Sequence[PendingChunk],
    *,
    truncate: bool,
    timeout_s: float,
) -> FillOutcome:
    """Embed chunks in a space; those whose text has a vector in their codebase get a copy.

    Repeating it is harmless, and so is whatever happens to the chunks meanwhile.

    Args:
        vectors: Where they go.
        space: The space.
        chunks: What lacks a vector in it; of equal texts one is embedded.
        truncate: Whether texts that are too long for an encoder are cut; they are left out otherwise.
        timeout_s: Budget of each step, seconds.

    Raises:
        SpaceNotFound: The space was dropped.
        TritonUnavailable, Overloaded, DeadlineExceeded, BackendFault, SpaceMismatch: As `Embedder.encode`.
        DatabaseUnavailable: PostgreSQL cannot be reached.
    """
    lacking = await vectors.copy(space.space_key, chunks, timeout_s=timeout_s)
    texts = [passage_of(chunk.symbol, chunk.content) for chunk in lacking]
    tokenized = await space.embedder.tokenize(texts, InputType.PASSAGE)
    taken = [index for index in range(len(lacking)) if truncate or not tokenized.is_truncated(index)]
    first: dict[bytes, int] = {}
    for index in taken:
        first.setdefault(lacking[index].text_sha256, index)
    row_of = {text_sha256: row for row, text_sha256 in enumerate(first)}
    errors: dict[int, BadVector] = {}
    if taken:
        encoded = await space.embedder.encode(
            tokenized.select(list(first.values())), priority=Priority.BULK, timeout_s=timeout_s
        )
        good = []
        for index in taken:
            chunk = lacking[index]
            if error := encoded.errors.get(row_of[chunk.text_sha256]):
                errors[chunk.chunk_id] = error
            else:
                good.append(chunk)
        vectors_BV = encoded.vectors_BV[[row_of[chunk.text_sha256] for chunk in good]]
        await vectors.insert(space.space_key, good, vectors_BV, timeout_s=timeout_s)
    return FillOutcome(
        truncated_count=sum(tokenized.is_truncated(index) for index in taken),
        left_count=len(lacking) - len(taken),
        errors=errors,
    )
