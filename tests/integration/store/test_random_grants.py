"""Thousands of grants and searches at random: no hit ever comes from a codebase that its searcher may not read."""

import asyncio
import random

import pytest
from store_callers import make_caller, set_role
from store_samples import make_chunk, make_vectors

from gateway.errors import NotFound
from gateway.store import search as search_module
from gateway.store.api_key import ApiKey
from gateway.store.caller import acting_with
from gateway.store.chunks import ChunkStore
from gateway.store.codebases import CodebaseStore
from gateway.store.pool import Database
from gateway.store.rows import SearchQuery, SpaceRow
from gateway.store.search import SearchStore
from gateway.store.search_plan import Method, Plan
from gateway.store.search_words import NO_WORDS, WordQuery
from gateway.store.spaces import SpaceStore

CODEBASES, CALLERS, CHUNKS = 30, 25, 4
ROUNDS, CHANGES, SEARCHES = 25, 40, 80
ROLES = (None, "READ", "WRITE", "OWNER")


@pytest.mark.parametrize("method", list(Method))
async def test_no_hit_comes_from_a_codebase_without_read(
    caller_database: Database, database: Database, space: SpaceRow, method: Method
) -> None:
    """The statement that ranks gets codebases as after a check that was forgotten; what was granted is kept in a dict.

    All chunks are alike, so that whatever may be found is found; exact searches find all of it.
    """
    generator = random.Random(2560)
    vectors_BD = make_vectors(CODEBASES * CHUNKS) * 0 + make_vectors(1)
    keys = []
    for number in range(CODEBASES):
        row = await CodebaseStore(database).create(f"c{number}", "x", timeout_s=5)
        keys.append(row.codebase_key)
        await ChunkStore(database).insert(
            row.codebase_key, space.space_key, [make_chunk(i) for i in range(CHUNKS)], vectors_BD[:CHUNKS], timeout_s=5
        )
    if method is not Method.EXACT:
        spaces = SpaceStore(database, binary_above_count=0 if method is Method.BINARY else 10**6)
        assert await spaces.build_hnsw_index(space.space_key, above_chunk_count=0)
    callers = [await make_caller(database, f"p{number}", is_admin=number == 0) for number in range(CALLERS)]
    granted: dict[tuple[str, int], str | None] = {}
    store = SearchStore(caller_database, exact_limit=10_000 if method is Method.EXACT else 0)

    async def search(caller: ApiKey, named: list[int], lexical_weight: float) -> None:
        query = SearchQuery(vectors_BD[0], limit=500, text="def f1", lexical_weight=lexical_weight)
        readable = {key for key in named if caller == callers[0] or granted.get((caller.key_id, key))}
        with acting_with(caller):
            found = await rank_unchecked(caller_database, store, space.space_key, named, query, method)
            assert set(found) <= readable
            if method is Method.EXACT:
                assert len(found) == CHUNKS * len(readable)
            # By the ids that callers name, nothing is found where one of them may not be read.
            asked = sorted(readable) if len(searches) % 2 else named
            ids = [f"c{keys.index(key)}" for key in asked]
            if set(asked) <= readable and asked:
                result = await store.search(ids, space.space_key, query, timeout_s=60)
                assert {hit.codebase_key for hit in result.hits} <= readable
                allowed.append(len(result.hits))
            elif asked:
                with pytest.raises(NotFound):
                    await store.search(ids, space.space_key, query, timeout_s=60)
                refused.append(caller)
        searches.append(len(set(found)))

    allowed: list[int] = []
    refused: list[ApiKey] = []
    searches: list[int] = []
    for _ in range(ROUNDS):
        for _ in range(CHANGES):
            caller, key, role = generator.choice(callers[1:]), generator.choice(keys), generator.choice(ROLES)
            await set_role(database, caller, key, role)
            granted[caller.key_id, key] = role
        await asyncio.gather(
            *(
                search(
                    generator.choice(callers),
                    generator.sample(keys, generator.randint(1, CODEBASES)),
                    generator.choice((0.0, 0.3)),
                )
                for _ in range(SEARCHES)
            )
        )
    assert len(searches) == ROUNDS * SEARCHES
    # Something was there to be found, and something not to be.
    assert sum(found > 0 for found in searches) > len(searches) / 2
    assert sum(found == 0 for found in searches) > 10
    assert len(allowed) > 100
    assert len(refused) > 100


async def rank_unchecked(
    database: Database, store: SearchStore, space_key: int, named: list[int], query: SearchQuery, method: Method
) -> list[int]:
    """The codebase of every hit of the statement that ranks, by keys that nobody has looked at before."""
    plan = Plan(method, 0 if method is Method.EXACT else 500)
    words = WordQuery(("def", "f1"), (None, None), (None, None), "'f1'") if query.words else NO_WORDS
    values = search_module._values(space_key, query) | {"codebase_keys": named, "searched": CODEBASES * CHUNKS}
    async with database.acquire(60) as connection:
        await search_module._configure(connection, plan, 60)
        records = await store._rank(connection, plan, query, words, values)
    return [record["codebase_key"] for record in records if record["score"] is not None]
