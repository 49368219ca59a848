"""Looks at a space that is complete, before anybody is served by it."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.embedding.embedder import Embedder
from gateway.embedding.space import InputType, passage_of
from gateway.embedding.triton import Priority
from gateway.spaces.index_recall import CodebaseRecall, Recall, measure_recall, searched_by_index
from gateway.spaces.serving import ServedSpace
from gateway.store.pool import Database
from gateway.store.rows import Coverage, SearchQuery
from gateway.store.search import SearchStore
from gateway.store.search_plan import EXACT_LIMIT
from gateway.store.space_vectors import SpaceVectorStore, StoredVector

SAMPLE_COUNT = 200
RECOMPUTED_COUNT = 64
RECALL_CODEBASES = 8
"""Of those too large for exact search so many of the largest and of the smallest, which are all up to twice as many. A
large one gives the graph most to miss; a small one's vectors lie farthest apart among those of the others."""
QUESTION_COUNT = 100
MIN_QUESTIONS = 20
DEPTH = 10

MIN_COSINE = 0.998
"""Of a stored vector and the same text embedded again. Batch mates move a vector by up to 1e-4 (1e-3 in int8 of older
versions), half floats by less than 1e-6, another text or another model by a hundred times as much."""
MIN_RECALL = 0.95
MIN_QUERY_RECALL = 0.5
"""Of the worst query. The index over signs was measured to find 0.9 at least; a query whose neighbours lie in a part of
the graph that scans do not reach finds next to none of them, and one of fifty hardly moves the mean."""
MAX_MRR_LOSS = 0.05
"""How much less MRR@10 the space may have than the active one: of 100 questions, the standard error is about 0.04."""

# So few that slow encoders answer them in time.
_TEXTS_AT_ONCE = 8
# A chunk may have a million characters, of whoever may write: these are searched for in time linear in them.
_OPENING = re.compile(r'"""|\'\'\'|/\*')
_CLOSING = {'"""': '"""', "'''": "'''", "/*": "*/"}
_COMMENT = re.compile(r"^[ \t]*(?://+|#+|--)[!/]?[ \t]?(.*)$", re.MULTILINE)
_WORDS = re.compile(r"[^\W\d_]{2,}")


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
        notices: What was not looked at, and why, one line each.
        seed: What the sample was drawn with.
        chunk_count: Chunks of all codebases.
        recomputed_count: Chunks that were embedded again.
        min_cosine: The least cosine of a stored vector and the new one; 1 where nothing is stored.
        recall: None where no codebase is large enough for an index.
        retrieval: None where too few chunks have words to ask for them by.
    """

    passed: bool
    faults: list[str]
    notices: list[str]
    seed: int
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


async def verify(
    database: Database, space: ServedSpace, active: ServedSpace, *, seed: int, timeout_s: float
) -> Verification:
    """Compare a space with its encoders, its index with exact search, and its hits with those of the active space.

    Args:
        database: As the system.
        space: Whose chunks all have vectors.
        active: What it is to replace.
        seed: Draws what is looked at; another one each time, so that what was missed once is not missed always.
        timeout_s: Budget of each step, seconds.

    Raises:
        SpaceNotReady: Its index is not there yet.
        DuovecError: A part of the service is not there: nothing was found out.
    """
    vectors = SpaceVectorStore(database)
    coverage = await vectors.count(space.space_key, timeout_s=timeout_s)
    sample = await vectors.sample(space.space_key, SAMPLE_COUNT, seed=seed, timeout_s=timeout_s)
    recomputed = sample[:: max(1, len(sample) // RECOMPUTED_COUNT)][:RECOMPUTED_COUNT]
    min_cosine = await _min_cosine(space.embedder, recomputed, timeout_s)
    large = await vectors.list_large(space.space_key, EXACT_LIMIT, timeout_s=timeout_s)
    recall = retrieval = None
    if large:
        large = await searched_by_index(database, space.space_key, large, exact_limit=EXACT_LIMIT, timeout_s=timeout_s)
        measured = [*large[:RECALL_CODEBASES], *large[RECALL_CODEBASES:][-RECALL_CODEBASES:]]
        recall = await measure_recall(database, space, measured, seed=seed, timeout_s=timeout_s)
    asked = [(stored, question) for stored in sample if (question := question_of(stored.chunk.content))]
    if len(asked) >= MIN_QUESTIONS:
        retrieval = await _compare(database, space, active, asked[:QUESTION_COUNT], timeout_s)
    faults = list(_faults(coverage, min_cosine, recall, retrieval))
    return Verification(
        passed=not faults,
        faults=faults,
        notices=list(_notices(len(large), len(asked), len(sample))),
        seed=seed,
        chunk_count=coverage.chunk_count,
        pending_chunk_count=coverage.pending_chunk_count,
        recomputed_count=len(recomputed),
        min_cosine=min_cosine,
        recall=recall,
        retrieval=retrieval,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _faults(coverage: Coverage, min_cosine: float, recall: Recall | None, retrieval: Retrieval | None) -> Iterator[str]:
    if coverage.pending_chunk_count:
        yield f"{coverage.pending_chunk_count} of {coverage.chunk_count} chunks have no vector"
    # Written so that NaN fails too.
    if not min_cosine >= MIN_COSINE:
        yield f"a stored vector has cosine {min_cosine:.4f} to its text embedded again, at least {MIN_COSINE} is needed"
    for found in () if recall is None else recall.codebases:
        yield from _recall_faults(found)
    if retrieval is not None and not retrieval.mrr >= retrieval.active_mrr - MAX_MRR_LOSS:
        yield (
            f"MRR@{DEPTH} is {retrieval.mrr:.3f}, that of the active space {retrieval.active_mrr:.3f}; "
            f"at most {MAX_MRR_LOSS} may be lost"
        )


def _recall_faults(found: CodebaseRecall) -> Iterator[str]:
    for value, least, of in (
        (found.mean, MIN_RECALL, "is"),
        (found.minimum, MIN_QUERY_RECALL, f"of the worst of {found.query_count} queries is"),
    ):
        if not value >= least:
            yield f"recall@{DEPTH} of the index in {found.codebase_id} {of} {value:.3f}, at least {least} is needed"


def _notices(large_count: int, question_count: int, sample_count: int) -> Iterator[str]:
    if large_count > 2 * RECALL_CODEBASES:
        yield (
            f"recall was measured in the {RECALL_CODEBASES} largest and the {RECALL_CODEBASES} smallest of the "
            f"{large_count} codebases that are searched by the index, not in the others"
        )
    if question_count < MIN_QUESTIONS:
        yield (
            f"retrieval was not compared with that of the active space: {question_count} of {sample_count} sampled "
            f"chunks have a comment to ask for them by, at least {MIN_QUESTIONS} are needed"
        )


async def _min_cosine(embedder: Embedder, sample: Sequence[StoredVector], timeout_s: float) -> float:
    if not sample:
        return 1.0
    texts = [passage_of(stored.chunk.symbol, stored.chunk.content) for stored in sample]
    vectors_BV = await _embed(embedder, texts, InputType.PASSAGE, timeout_s)
    stored_BV = np.stack([stored.vector_D for stored in sample])
    norms_B = np.linalg.norm(stored_BV, axis=1)
    return float(np.min(np.einsum("bv,bv->b", vectors_BV, stored_BV) / norms_B))


async def _compare(
    database: Database,
    space: ServedSpace,
    active: ServedSpace,
    asked: Sequence[tuple[StoredVector, str]],
    timeout_s: float,
) -> Retrieval:
    """Ask both spaces the questions that were taken from chunks."""
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
