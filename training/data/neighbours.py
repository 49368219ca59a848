"""Hard negatives by embeddings: those that are stored, or those of an encoder."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from training.data.drafts import Draft
from training.data.negatives import MARGIN, Asked, PoolSource, embedded_pools
from training.data.stored import QUERIES, snapshot

if TYPE_CHECKING:
    from training.evaluation.encoding import TextEncoder

_NEIGHBOURS = 30
_CHUNKS_A_QUERY = 100
# As the gateway does: beyond it comparing everything takes longer than asking an index.
_EXACT_LIMIT = 10_000
_STATEMENTS = {
    method: QUERIES["list_neighbours"].format(nearest=QUERIES[f"nearest_{method}"])
    for method in ("exact", "hnsw", "binary")
}


def stored_pools(url: str, on_progress: Callable[[int, int], None]) -> PoolSource:
    """Nearest neighbours of the answer among the stored vectors of its codebase, in the space that is searched now.

    Of a codebase too large to be compared whole, the index that searches ask is asked, where there is one. A chunk
    whose cosine with the answer's is 0.95 or more may be another right answer, and is left out. A codebase without
    vectors in that space gives none. The source raises TrainingError when the database cannot be read.

    Args:
        url: Of the gateway's database.
        on_progress: Is told the answers done, and all.
    """

    def pools(drafts: Sequence[Draft], asked: Sequence[Asked]) -> Iterator[Sequence[int]]:
        by_row = {row: number for number, draft in enumerate(drafts) for row in draft.unit.rows}
        first_rows = {drafts[own].unit.rows[0]: own for own, _ in asked if drafts[own].unit.scope}
        chunk_ids = sorted(int(row.removeprefix("chunk:")) for row in first_rows)
        found: dict[int, list[int]] = defaultdict(list)
        for chunk_id, neighbour_id in asyncio.run(_neighbours(url, chunk_ids, on_progress)):
            own, other = first_rows[f"chunk:{chunk_id}"], by_row.get(f"chunk:{neighbour_id}")
            if other is not None and other != own and other not in found[own]:
                found[own].append(other)
        return (found[own] for own, _ in asked)

    return pools


def encoder_pools(encoder: "TextEncoder", on_progress: Callable[[int, int], None]) -> PoolSource:
    """What an encoder ranks high for the query itself, held below the answer by the positive-aware margin.

    Args:
        encoder: The encoder.
        on_progress: Is told the texts done, and all.
    """

    def pools(drafts: Sequence[Draft], asked: Sequence[Asked]) -> Iterator[Sequence[int]]:
        total = len(drafts) + len(asked)
        passages = [draft.passage for draft in drafts]
        passages_ND = encoder.encode(passages, encoder.spec.passage, lambda done: on_progress(done, total))
        queries = [text for _, text in asked]
        queries_QD = encoder.encode(queries, encoder.spec.query, lambda done: on_progress(len(drafts) + done, total))
        return embedded_pools(queries_QD, passages_ND, np.array([own for own, _ in asked], np.int64))

    return pools


async def _neighbours(
    url: str, chunk_ids: Sequence[int], on_progress: Callable[[int, int], None]
) -> list[tuple[int, int]]:
    """(chunk, neighbour) pairs, nearest first."""
    found: list[tuple[int, int]] = []
    async with snapshot(url) as database:
        active = await database.fetch(QUERIES["get_active_space"])
        if not active:
            return found
        space_key = active[0]["space_key"]
        index = await database.fetch(QUERIES["find_index"], space_key)
        done = 0
        for codebase in await database.fetch(QUERIES["list_codebases_of"], list(chunk_ids), space_key):
            kind = index[0]["kind"] if index and codebase["vector_count"] > _EXACT_LIMIT else "exact"
            await database.fetch(QUERIES["compare_all" if kind == "exact" else "ask_index"])
            for start in range(0, len(codebase["chunk_ids"]), _CHUNKS_A_QUERY):
                asked = codebase["chunk_ids"][start : start + _CHUNKS_A_QUERY]
                rows = await database.fetch(
                    _STATEMENTS[kind],
                    asked,
                    space_key,
                    codebase["codebase_key"],
                    _NEIGHBOURS,
                    1.0 - MARGIN,
                )
                found += [(row["chunk_id"], row["neighbour_id"]) for row in rows]
                done += len(asked)
                on_progress(done, len(chunk_ids))
    return found
