"""The cache's rows in the real PostgreSQL: the numbers that went in, for who put them there, within the limit."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from store_callers import make_caller
from store_samples import make_vectors, sha256

from gateway.embedding.cache import CachedEncoding
from gateway.embedding.vectors import Vectors
from gateway.errors import ApiKeyRevoked, DeadlineExceeded
from gateway.store.api_key import ApiKey
from gateway.store.cached_embeddings import CachedEmbeddings
from gateway.store.caller import acting_with
from gateway.store.pool import Database
from gateway.store.principals import PrincipalStore
from gateway.store.rows import SpaceRow


@pytest.fixture
def cache(caller_database: Database, space: SpaceRow) -> CachedEmbeddings:
    return CachedEmbeddings(caller_database, space.fingerprint, max_texts=1000)


@pytest.fixture
async def alice(database: Database) -> ApiKey:
    return await make_caller(database, "alice")


def batch(*texts: str) -> dict[bytes, NDArray[np.float32]]:
    """Vectors of texts, by their hash."""
    return {sha256(text): make_vectors(1, seed=sum(text.encode()))[0] for text in texts}


async def count(database: Database) -> int:
    async with database.acquire(5) as connection:
        found: int = await connection.fetchval("SELECT count(*) FROM cached_embeddings")
    return found


async def execute(database: Database, sql: str, *arguments: Any) -> str:
    async with database.acquire(5) as connection:
        return await connection.execute(sql, *arguments)


async def test_the_same_bytes_come_back(cache: CachedEmbeddings, alice: ApiKey) -> None:
    """Not rounded to half precision: a repeated text has the identical vector."""
    vectors = batch("a", "b")
    with acting_with(alice):
        await cache.write("query", vectors, timeout_s=5)
        found = await cache.read("query", [sha256("b"), sha256("c"), sha256("a")], timeout_s=5)
        assert await cache.read("passage", [sha256("a")], timeout_s=5) == {}
    assert {digest: vector_V.tobytes() for digest, vector_V in found.items()} == {
        digest: vector_V.tobytes() for digest, vector_V in vectors.items()
    }
    assert {(vector_V.dtype, vector_V.shape) for vector_V in found.values()} == {(np.dtype("float32"), (2560,))}


async def test_a_row_that_is_there_stays(cache: CachedEmbeddings, alice: ApiKey, database: Database) -> None:
    """Two gateways may embed a text at once; the second changes nothing."""
    with acting_with(alice):
        await cache.write("query", batch("a"), timeout_s=5)
        await cache.write("query", {sha256("a"): make_vectors(1, seed=9)[0]} | batch("b"), timeout_s=5)
        found = await cache.read("query", [sha256("a")], timeout_s=5)
    np.testing.assert_array_equal(found[sha256("a")], batch("a")[sha256("a")])
    assert await count(database) == 2


@pytest.mark.parametrize("is_admin", [False, True])
async def test_nobody_finds_what_another_put_there(
    cache: CachedEmbeddings, caller_database: Database, database: Database, alice: ApiKey, is_admin: bool
) -> None:
    """By the store, and by row-level security under any SQL; administrators neither."""
    with acting_with(alice):
        await cache.write("query", batch("a"), timeout_s=5)
    bob = await make_caller(database, "bob", is_admin=is_admin)
    with acting_with(bob):
        assert await cache.read("query", [sha256("a")], timeout_s=5) == {}
        async with caller_database.acquire(5) as connection:
            assert await connection.fetch("SELECT principal_key FROM cached_embeddings") == []
            assert await connection.execute("UPDATE cached_embeddings SET use_time = now()") == "UPDATE 0"
        for sql in (
            "INSERT INTO cached_embeddings (principal_key, space_key, input_type, text_sha256, vector)"
            " SELECT principal_key - 1, 1, 'query', sha256('x'), repeat('x', 10240)::bytea FROM principals"
            " WHERE principal_key = current_principal()",
            "DELETE FROM cached_embeddings",
            "UPDATE cached_embeddings SET vector = vector",
        ):
            with pytest.raises(Exception, match="may not write|permission denied"):
                await execute(caller_database, sql)
        # The same text of another's is a row of its own, and does not collide.
        await cache.write("query", batch("a"), timeout_s=5)
    assert await count(database) == 2


async def test_a_space_finds_what_is_its_own(
    cache: CachedEmbeddings, caller_database: Database, database: Database, alice: ApiKey
) -> None:
    with acting_with(alice):
        await cache.write("query", batch("a"), timeout_s=5)
        await execute(
            database, "INSERT INTO spaces (fingerprint, manifest, state) VALUES ($1, '{}', 'BUILDING')", "b" * 64
        )
        other = CachedEmbeddings(caller_database, "b" * 64, max_texts=1000)
        assert await other.read("query", [sha256("a")], timeout_s=5) == {}
        await other.write("query", batch("b"), timeout_s=5)
        assert len(await cache.read("query", [sha256("a"), sha256("b")], timeout_s=5)) == 1


async def test_a_revoked_key_reads_nothing(cache: CachedEmbeddings, database: Database, alice: ApiKey) -> None:
    with acting_with(alice):
        await cache.write("query", batch("a"), timeout_s=5)
        await execute(database, "UPDATE api_keys SET revoke_time = now() WHERE key_id = $1", alice.key_id)
        with pytest.raises(ApiKeyRevoked):
            await cache.read("query", [sha256("a")], timeout_s=5)


@pytest.mark.parametrize("deleted", ["principals WHERE principal_id = 'alice'", "spaces"])
async def test_rows_go_with_their_principal_and_their_space(
    cache: CachedEmbeddings, database: Database, alice: ApiKey, deleted: str
) -> None:
    with acting_with(alice):
        await cache.write("query", batch("a", "b"), timeout_s=5)
    assert await count(database) == 2
    await execute(database, f"DELETE FROM {deleted}")
    assert await count(database) == 0


async def test_a_principal_that_is_deleted_meanwhile_leaves_no_row(
    cache: CachedEmbeddings, database: Database, alice: ApiKey
) -> None:
    """Its vectors are on their way to the table when it goes."""
    async with database.acquire(5) as connection:
        await connection.execute("DELETE FROM principals WHERE principal_id = 'alice'")
        with acting_with(alice):
            writing = asyncio.create_task(cache.write("query", batch("a"), timeout_s=5))
            while not await connection.fetchval(
                "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid)))"
            ):
                await asyncio.sleep(0.01)
    with pytest.raises(Exception, match="principal was deleted"):
        await writing
    assert await count(database) == 0


async def test_the_longest_unused_go_first(
    caller_database: Database, space: SpaceRow, database: Database, alice: ApiKey
) -> None:
    """Use counts by the hour, so that a hit seldom writes; beyond the limit the longest unused are deleted."""
    cache = CachedEmbeddings(caller_database, space.fingerprint, max_texts=4)
    with acting_with(alice):
        await cache.write("query", batch("a", "b", "c", "d"), timeout_s=5)
        await execute(database, "UPDATE cached_embeddings SET use_time = now() - interval '2 hours'")
        before = await use_times(database)
        await cache.read("query", [sha256("a"), sha256("c")], timeout_s=5)
        touched = await use_times(database)
        assert {digest for digest in before if touched[digest] != before[digest]} == {sha256("a"), sha256("c")}
        await cache.read("query", [sha256("a"), sha256("c")], timeout_s=5)
        assert await use_times(database) == touched
        await cache.write("query", batch("e", "f"), timeout_s=5)
    assert set(await use_times(database)) == {sha256(text) for text in "acef"}
    assert cache.evicted_count == 2


async def use_times(database: Database) -> dict[bytes, Any]:
    async with database.acquire(5) as connection:
        records = await connection.fetch("SELECT text_sha256, use_time FROM cached_embeddings")
    return {record["text_sha256"]: record["use_time"] for record in records}


async def test_the_table_stays_within_its_limit(
    caller_database: Database, space: SpaceRow, database: Database, alice: ApiKey
) -> None:
    """Counted each time a twentieth was added, so that it is at most that much over."""
    cache = CachedEmbeddings(caller_database, space.fingerprint, max_texts=100)
    with acting_with(alice):
        for number in range(60):
            await cache.write("query", batch(*(f"{number} {i}" for i in range(3))), timeout_s=5)
            assert await count(database) <= 105
    assert await count(database) >= 100
    lowered = CachedEmbeddings(caller_database, space.fingerprint, max_texts=10)
    with acting_with(alice):
        await lowered.write("query", batch("x"), timeout_s=5)
    assert await count(database) == 10


async def test_a_table_that_is_locked_is_given_up_in_time(
    cache: CachedEmbeddings, database: Database, alice: ApiKey
) -> None:
    async with database.acquire(5) as connection:
        await connection.execute("LOCK TABLE cached_embeddings")
        with acting_with(alice), pytest.raises(DeadlineExceeded):
            await cache.read("query", [sha256("a")], timeout_s=0.1)


async def test_it_is_there_after_a_restart_of_the_gateway(
    cache: CachedEmbeddings, caller_database: Database, space: SpaceRow, alice: ApiKey, url: str
) -> None:
    with acting_with(alice):
        await cache.write("query", batch("a"), timeout_s=5)
        other = await Database.connect(url)
        found = await CachedEmbeddings(other, space.fingerprint, max_texts=9).read("query", [sha256("a")], timeout_s=5)
        await other.close()
    assert list(found) == [sha256("a")]


async def test_thousands_of_random_requests_embed_every_text_once(
    caller_database: Database, database: Database, space: SpaceRow, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two keys of one principal and one of another, 40 requests at a time, through a pool of ten connections."""
    # For a quarter of a second, which a busy machine takes, the encoders would be asked instead.
    monkeypatch.setattr("gateway.embedding.cache._READ_TIMEOUT_S", 60.0)
    monkeypatch.setattr("gateway.embedding.write_behind._WRITE_TIMEOUT_S", 60.0)
    choose = random.Random(7)
    caching = CachedEncoding(CachedEmbeddings(caller_database, space.fingerprint, max_texts=10_000))
    keys = {"alice": [await make_caller(database, "alice")], "bob": [await make_caller(database, "bob")]}
    second = ApiKey.generate()
    await execute(
        database,
        "INSERT INTO api_keys (key_id, principal_key, secret_sha256, display_name)"
        " SELECT $1, principal_key, $2, '' FROM principals WHERE principal_id = 'alice'",
        second.key_id,
        second.secret_sha256,
    )
    keys["alice"].append(second)
    texts = [f"text {number}" for number in range(200)]
    vectors_BV = make_vectors(200)
    embedded: list[tuple[str, str, int]] = []
    asked: set[tuple[str, str, int]] = set()

    async def request(owner: str, input_type: str, chosen: Sequence[int]) -> bool:
        async def compute(positions: Sequence[int]) -> Vectors:
            numbers = [chosen[position] for position in positions]
            embedded.extend((owner, input_type, number) for number in numbers)
            await asyncio.sleep(choose.random() * 0.002)
            return Vectors(vectors_BV[numbers] if input_type == "query" else -vectors_BV[numbers], {})

        with acting_with(choose.choice(keys[owner])):
            await PrincipalStore(caller_database).check_key(timeout_s=10)
            asked.update((owner, input_type, number) for number in chosen)
            digests = [sha256(texts[number]) for number in chosen]
            vectors = await caching.get(input_type, digests, compute)
        expected_BV = vectors_BV[list(chosen)] if input_type == "query" else -vectors_BV[list(chosen)]
        return not vectors.errors and np.array_equal(vectors.vectors_BV, expected_BV)

    right: list[bool] = []
    for _ in range(75):
        requests = [
            request(
                choose.choice(["alice", "bob"]),
                choose.choice(["query", "passage"]),
                choose.choices(range(200), k=choose.choice([1, 1, 1, 8])),
            )
            for _ in range(40)
        ]
        right += await asyncio.gather(*requests)
    await caching.close()
    assert len(right) == 3000
    assert all(right)
    assert caching.counters.read_failure_count == caching.counters.write_failure_count == 0
    assert sorted(embedded) == sorted(asked)
    assert await count(database) == len(asked)


async def test_a_look_up_reads_the_index_of_its_key(
    caller_database: Database, database: Database, cache: CachedEmbeddings, space: SpaceRow, alice: ApiKey
) -> None:
    """A hit's cost must not grow with what others have there."""
    from gateway.store.cached_embeddings import _QUERIES

    with acting_with(alice):
        await cache.write("query", batch(*map(str, range(400))), timeout_s=5)
        await execute(database, "ANALYZE cached_embeddings")
        async with caller_database.acquire(5) as connection:
            plan = await connection.fetch(f"EXPLAIN {_QUERIES['find']}", space.fingerprint, "query", [sha256("1")])
    assert "cached_embeddings_pkey" in "\n".join(record[0] for record in plan)
