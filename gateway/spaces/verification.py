"""Looks at a space that is complete, before anybody is served by it."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.embedding.embedder import Embedder
from gateway.embedding.space import InputType, passage_of
from gateway.embedding.triton import Priority
from gateway.errors import SpaceNotReady
from gateway.spaces.serving import ServedSpace
from gateway.store.pool import Database
from gateway.store.rows import Coverage, SearchQuery
from gateway.store.search import SearchStore
from gateway.store.search_plan import EXACT_LIMIT, Method
from gateway.store.space_vectors import SpaceVectorStore, StoredVector

SAMPLE_COUNT = 200
RECOMPUTED_COUNT = 64
RECALL_COUNT = 50
QUESTION_COUNT = 100
MIN_QUESTIONS = 20
DEPTH = 10

MIN_COSINE = 0.998
"""Of a stored vector and the same text embedded again. Batch mates move a vector by up to 1e-3 (int8), half floats by
less than 1e-6, another text or another model by a hundred times as much."""
MIN_RECALL = 0.95
MAX_MRR_LOSS = 0.05
"""How much less MRR@10 the space may have than the active one: of 100 questions, the standard error is about 0.04."""

_SEED = 2560
_EVERYTHING = 2**62
# So few that slow encoders answer them in time.
_TEXTS_AT_ONCE = 8
# A chunk may have a million characters, of whoever may write: these are searched for in time linear in them.
_OPENING = re.compile(r'"""|\'\'\'|/\*')
_CLOSING = {'"""': '"""', "'''": "'''", "/*": "*/"}
_COMMENT = re.compile(r"^[ \t]*(?://+|#+|--)[!/]?[ \t]?(.*)$", re.MULTILINE)
_WORDS = re.compile(r"[^\W\d_]{2,}")


@dataclass(frozen=True, slots=True)
class Recall:
    """How many of the exact best hits an index gives, over questions to the largest codebase."""

    query_count: int
    method: str
    mean: float
    minimum: float


@dataclass(frozen=True, slots=True)
class Retrieval:
    """MRR@10 of the chunks that questions were taken from, in the space and in the active one."""

    query_count: int
    mrr: float
    active_mrr: float


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found.

    Attributes:
        passed: Whether nothing is wrong.
        faults: What is wrong, one line each.
        chunk_count: Chunks of all codebases.
        recomputed_count: Chunks that were embedded again.
        min_cosine: The least cosine of a stored vector and the new one; 1 where nothing is stored.
        recall: None where no codebase is large enough for an index.
        retrieval: None where too few chunks have words to ask for them by.
    """

    passed: bool
    faults: list[str]
    chunk_count: int
    pending_chunk_count: int
    recomputed_count: int
    min_cosine: float
    recall: Recall | None
    retrieval: Retrieval | None
    time: str

    def to_json(self) -> dict[str, Any]:
        """As it is stored."""
        return asdict(self)


async def verify(database: Database, space: ServedSpace, active: ServedSpace, *, timeout_s: float) -> Verification:
    """Compare a space with its encoders, its index with exact search, and its hits with those of the active space.

    Args:
        database: As the system.
        space: Whose chunks all have vectors.
        active: What it is to replace.
        timeout_s: Budget of each step, seconds.

    Raises:
        SpaceNotReady: Its index is not there yet.
        DuovecError: A part of the service is not there: nothing was found out.
    """
    vectors = SpaceVectorStore(database)
    coverage = await vectors.count(space.space_key, timeout_s=timeout_s)
    sample = await vectors.sample(space.space_key, SAMPLE_COUNT, seed=_SEED, timeout_s=timeout_s)
    recomputed = sample[:: max(1, len(sample) // RECOMPUTED_COUNT)][:RECOMPUTED_COUNT]
    min_cosine = await _min_cosine(space.embedder, recomputed, timeout_s)
    recall = await _recall(database, space, sample, timeout_s)
    retrieval = await _compare(database, space, active, sample, timeout_s)
    faults = list(_faults(coverage, min_cosine, recall, retrieval))
    return Verification(
        passed=not faults,
        faults=faults,
        chunk_count=coverage.chunk_count,
        pending_chunk_count=coverage.pending_chunk_count,
        recomputed_count=len(recomputed),
        min_cosine=min_cosine,
        recall=recall,
        retrieval=retrieval,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _faults(coverage: Coverage, min_cosine: float, recall: Recall | None, retrieval: Retrieval | None) -> list[str]:
    faults = []
    if coverage.pending_chunk_count:
        faults.append(f"{coverage.pending_chunk_count} of {coverage.chunk_count} chunks have no vector")
    # Written so that NaN fails too.
    if not min_cosine >= MIN_COSINE:
        faults.append(
            f"a stored vector has cosine {min_cosine:.4f} to its text embedded again, at least {MIN_COSINE} is needed"
        )
    if recall is not None and not recall.mean >= MIN_RECALL:
        faults.append(f"recall@{DEPTH} of the index is {recall.mean:.3f}, at least {MIN_RECALL} is needed")
    if retrieval is not None and not retrieval.mrr >= retrieval.active_mrr - MAX_MRR_LOSS:
        faults.append(
            f"MRR@{DEPTH} is {retrieval.mrr:.3f}, that of the active space {retrieval.active_mrr:.3f}; "
            f"at most {MAX_MRR_LOSS} may be lost"
        )
    return faults


async def _min_cosine(embedder: Embedder, sample: Sequence[StoredVector], timeout_s: float) -> float:
    if not sample:
        return 1.0
    texts = [passage_of(stored.chunk.symbol, stored.chunk.content) for stored in sample]
    vectors_BV = await _embed(embedder, texts, InputType.PASSAGE, timeout_s)
    stored_BV = np.stack([stored.vector_D for stored in sample])
    norms_B = np.linalg.norm(stored_BV, axis=1)
    return float(np.min(np.einsum("bv,bv->b", vectors_BV, stored_BV) / norms_B))


async def _recall(
    database: Database, space: ServedSpace, sample: Sequence[StoredVector], timeout_s: float
) -> Recall | None:
    """Look for the sampled chunks of the codebase that has most of them, by the index and exactly."""
    by_codebase: dict[str, list[StoredVector]] = {}
    for stored in sample:
        by_codebase.setdefault(stored.codebase_id, []).append(stored)
    if not by_codebase:
        return None
    codebase_id, drawn = max(by_codebase.items(), key=lambda item: len(item[1]))
    by_index, exactly = SearchStore(database, exact_limit=0), SearchStore(database, exact_limit=_EVERYTHING)
    shares, methods = [], []
    for stored in drawn[:RECALL_COUNT]:
        query = SearchQuery(stored.vector_D, limit=DEPTH)
        found = await by_index.search([codebase_id], space.space_key, query, timeout_s=timeout_s, only_if_active=False)
        if found.searched_chunk_count <= EXACT_LIMIT:
            return None
        if found.method is Method.EXACT and found.pool == 0:
            # A gateway that was killed leaves the building of it behind.
            raise SpaceNotReady(f"the index of space {space.fingerprint} is not built yet")
        right = await exactly.search([codebase_id], space.space_key, query, timeout_s=timeout_s, only_if_active=False)
        # By score: among copies of a text chance decides which are the best.
        worst = right.hits[-1].score
        shares.append(sum(hit.score >= worst - 1e-6 for hit in found.hits) / len(right.hits))
        methods.append(found.method.value)
    return Recall(len(shares), methods[0], float(np.mean(shares)), float(np.min(shares)))


async def _compare(
    database: Database, space: ServedSpace, active: ServedSpace, sample: Sequence[StoredVector], timeout_s: float
) -> Retrieval | None:
    asked = [(stored, question) for stored in sample if (question := question_of(stored.chunk.content))]
    asked = asked[:QUESTION_COUNT]
    if len(asked) < MIN_QUESTIONS:
        return None
    search = SearchStore(database)
    means = []
    for served in (space, active):
        questions = [question for _, question in asked]
        vectors_BV = await _embed(served.embedder, questions, InputType.QUERY, timeout_s)
        reciprocals = []
        for (stored, _), vector_V in zip(asked, vectors_BV, strict=True):
            result = await search.search(
                [stored.codebase_id],
                served.space_key,
                SearchQuery(vector_V, limit=DEPTH),
                timeout_s=timeout_s,
                only_if_active=False,
            )
            ranks = [
                rank for rank, hit in enumerate(result.hits, 1) if hit.chunk.text_sha256 == stored.chunk.text_sha256
            ]
            reciprocals.append(1 / ranks[0] if ranks else 0.0)
        means.append(float(np.mean(reciprocals)))
    return Retrieval(len(asked), *means)


async def _embed(
    embedder: Embedder, texts: Sequence[str], input_type: InputType, timeout_s: float
) -> NDArray[np.float32]:
    parts = []
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        tokenized = await embedder.tokenize(texts[start : start + _TEXTS_AT_ONCE], input_type)
        encoded = await embedder.encode(tokenized, priority=Priority.BULK, timeout_s=timeout_s)
        for error in encoded.errors.values():
            raise error
        parts.append(encoded.vectors_BV)
    return np.concatenate(parts)


def question_of(content: str) -> str | None:
    """The first sentence of a chunk's first comment or docstring; None where it has none of three words."""
    comment, text = _COMMENT.search(content), None
    if opening := _OPENING.search(content):
        end = content.find(_CLOSING[opening.group()], opening.end())
        if end > opening.end() and (comment is None or opening.start() < comment.start()):
            text = content[opening.end() : end]
    if text is None and comment is not None:
        text = comment.group(1)
    if text is None:
        return None
    sentence = re.split(r"\.\s|\n\s*\n", text.strip(" *\n"), maxsplit=1)[0]
    words = " ".join(sentence.replace("*", " ").split())
    return words if len(_WORDS.findall(words)) >= 3 else None
