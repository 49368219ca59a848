"""Measures how much of what exact search finds the index of a space finds, in every large codebase."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gateway.errors import SpaceNotReady
from gateway.spaces.serving import ServedSpace
from gateway.store.pool import Database
from gateway.store.recall_watch import K, recall
from gateway.store.rows import SearchQuery
from gateway.store.search import SearchStore
from gateway.store.search_plan import MIN_POOL, Method, Plan, asks_index, index_plan
from gateway.store.space_vectors import LargeCodebase, SpaceVectorStore

QUERIES = 50
"""To a codebase: stored vectors of it. Each looks for other chunks than its own, which almost any graph finds."""


@dataclass(frozen=True, slots=True)
class CodebaseRecall:
    """Recall@10 of the index in a codebase: the mean of its queries, and that of the worst one."""

    codebase_id: str
    query_count: int
    mean: float
    minimum: float


@dataclass(frozen=True, slots=True)
class Recall:
    """What was found in the codebases; `mean` and `minimum` are the least of theirs."""

    method: str
    mean: float
    minimum: float
    codebases: list[CodebaseRecall]


async def searched_by_index(
    database: Database, space_key: int, codebases: Sequence[LargeCodebase], *, exact_limit: int, timeout_s: float
) -> list[LargeCodebase]:
    """Those of the codebases whose own searches ask the index, in the same order; the first, where none does.

    A small part of a space is compared whole. Searches of several codebases at once ask the index all the same.
    """
    indexes = await SearchStore(database).get_indexes(space_key, timeout_s=timeout_s)
    asking = [
        codebase
        for codebase in codebases
        if asks_index(replace(indexes, searched=codebase.vector_count), exact_limit=exact_limit)
    ]
    return asking or list(codebases[:1])


async def measure_recall(
    database: Database, space: ServedSpace, codebases: Sequence[LargeCodebase], *, seed: int, timeout_s: float
) -> Recall:
    """Ask the index of a space as a search by vectors alone does, and compare with exact search.

    Args:
        database: As the system.
        space: The space.
        codebases: At least one.
        seed: Draws the queries.
        timeout_s: Budget of each query, seconds.

    Raises:
        SpaceNotReady: The index is not there yet.
        DuovecError: A query could not be asked: nothing was found out.
    """
    search, vectors = SearchStore(database), SpaceVectorStore(database)
    indexes = await search.get_indexes(space.space_key, timeout_s=timeout_s)
    if not (indexes.has_hnsw or indexes.has_binary):
        # A gateway that was killed leaves the building of it behind.
        raise SpaceNotReady(f"the index of space {space.fingerprint} is not built yet")

    async def ask(codebase: LargeCodebase, query: SearchQuery, plan: Plan) -> list[float]:
        hits = await search.rank_by(codebase.codebase_key, space.space_key, query, plan, timeout_s=timeout_s)
        return [hit.similarity for hit in hits]

    found = []
    for codebase in codebases:
        plan = index_plan(replace(indexes, searched=codebase.vector_count), pool=MIN_POOL)
        drawn = await vectors.sample_codebase(
            space.space_key, codebase.codebase_key, QUERIES, seed=seed, timeout_s=timeout_s
        )
        recalls = []
        for chunk_id, vector_D in drawn.items():
            query = SearchQuery(vector_D, limit=K, excluded_chunk_id=chunk_id)
            truth = await ask(codebase, query, Plan(Method.EXACT, 0))
            recalls.append(recall(truth, await ask(codebase, query, plan)))
        found.append(CodebaseRecall(codebase.codebase_id, len(recalls), float(np.mean(recalls)), min(recalls)))
    return Recall(plan.method.value, min(one.mean for one in found), min(one.minimum for one in found), found)
