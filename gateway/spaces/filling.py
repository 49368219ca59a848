"""Gives chunks that are stored already their vectors in a space."""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.embedding.space import InputType, passage_of
from gateway.embedding.triton import Priority
from gateway.errors import BadVector, DeadlineExceeded
from gateway.spaces.serving import ServedSpace, Serving
from gateway.store.rows import PendingChunk
from gateway.store.space_vectors import SpaceVectorStore

logger = logging.getLogger(__name__)

# The encoders of a space beside the active one may hang: no batch waits longer for them, and none at all for a while
# after one has waited in vain.
_BESIDE_TIMEOUT_S = 10.0
_BESIDE_PAUSE_S = 30.0


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
    errors: dict[int, BadVector] = {}
    if taken:
        encoded = await space.embedder.encode(tokenized.select(taken), priority=Priority.BULK, timeout_s=timeout_s)
        errors = {lacking[taken[row]].chunk_id: error for row, error in encoded.errors.items()}
        good = [row for row in range(len(taken)) if row not in encoded.errors]
        chunks_of_good = [lacking[taken[row]] for row in good]
        await vectors.insert(space.space_key, chunks_of_good, encoded.vectors_BV[good], timeout_s=timeout_s)
    return FillOutcome(
        truncated_count=sum(tokenized.is_truncated(index) for index in taken),
        left_count=len(lacking) - len(taken),
        errors=errors,
    )


class BesideFiller:
    """Gives chunks that were just stored their vectors in the spaces beside the active one."""

    def __init__(self, vectors: SpaceVectorStore, serving: Serving) -> None:
        """Args: vectors: As the caller. serving: Says which spaces those are."""
        self._vectors = vectors
        self._serving = serving
        self._paused_until: dict[int, float] = {}

    async def fill(self, chunks: Sequence[PendingChunk], *, timeout_s: float) -> None:
        """Embed chunks in each of the spaces, and fail never.

        What this leaves out, and what fails or takes too long, the re-embedding that runs there finds.

        Args:
            chunks: What is stored in the active space.
            timeout_s: Budget of each step, seconds.
        """
        if not chunks:
            return
        for space in self._serving.filled:
            if time.monotonic() < self._paused_until.get(space.space_key, 0.0):
                continue
            try:
                async with asyncio.timeout(_BESIDE_TIMEOUT_S):
                    # Texts that the other encoders would cut are left to the re-embedding, which counts them.
                    await fill(self._vectors, space, chunks, truncate=False, timeout_s=timeout_s)
            except (TimeoutError, DeadlineExceeded):
                self._paused_until[space.space_key] = time.monotonic() + _BESIDE_PAUSE_S
                logger.warning(
                    "new chunks are left to the re-embedding of space %s for %g s: its encoders take too long",
                    space.fingerprint,
                    _BESIDE_PAUSE_S,
                )
            except Exception as exc:  # noqa: BLE001 - the chunks are stored, whatever ails the other space
                logger.warning(
                    "%d chunks are left to the re-embedding of space %s: %r", len(chunks), space.fingerprint, exc
                )
