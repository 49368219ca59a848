"""What is kept of searches, and that no search waits for it or fails with it."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from uuid import UUID

import numpy as np
import pytest
from logged_searches import SPACE, make_search, set_time, text_of, write
from store_callers import make_caller
from store_samples import make_chunk, make_vectors

from gateway.store.api_key import ApiKey
from gateway.store.chunks import ChunkStore
from gateway.store.codebases import CodebaseStore
from gateway.store.pool import Database
from gateway.store.rows import SpaceRow
from gateway.store.search_log import SearchLog, SearchLogKeeper


@pytest.fixture
async def caller(database: Database) -> ApiKey:
    return await make_caller(database, "caller")


async def test_a_search_is_kept_as_it_was_answered(database: Database, codebase_key: int, caller: ApiKey) -> None:
    """Every codebase that it named has its hits, with the ranks that they had among all."""
    other = (await CodebaseStore(database).create("other", "Other", timeout_s=5)).codebase_key
    empty = (await CodebaseStore(database).create("empty", "Empty", timeout_s=5)).codebase_key
    [vector_D] = make_vectors(1)
    hits = [(7, codebase_key), (3, other), (9, codebase_key)]
    before = datetime.now(UTC)
    [search_id] = await write(
        database, [make_search(caller, [codebase_key, other, empty], hits, text="open ä socket", vector_D=vector_D)]
    )
    async with database.acquire(5) as connection:
        search = await connection.fetchrow(
            "SELECT s.*, p.principal_id FROM searches s JOIN principals p USING (principal_key)"
        )
        named = await connection.fetch("SELECT * FROM searched_codebases ORDER BY codebase_key")
    assert search is not None
    assert (search["search_id"], search["principal_id"], search["space"]) == (search_id, "caller", SPACE)
    assert (search["query_kind"], search["query_text"], search["hit_count"]) == ("QUERY", "open ä socket", 3)
    assert before <= search["create_time"] <= datetime.now(UTC)
    np.testing.assert_allclose(search["query_vector"].to_numpy(), vector_D, atol=1e-3)
    assert [(row["codebase_key"], row["chunk_ids"], row["ranks"]) for row in named] == [
        (codebase_key, [7, 9], [1, 3]),
        (other, [3], [2]),
        (empty, [], []),
    ]
    assert named[0]["scores"] == pytest.approx([0.99, 0.97])
    assert named[0]["content_sha256s"] == [text_of(7), text_of(9)]
    assert {row["principal_key"] for row in named} == {search["principal_key"]}


async def test_a_search_for_the_like_of_a_chunk_keeps_what_text_it_had(
    database: Database, codebase_key: int, caller: ApiKey, chunks: ChunkStore, space: SpaceRow
) -> None:
    [chunk_id] = await chunks.insert(codebase_key, space.space_key, [make_chunk(1)], make_vectors(1), timeout_s=5)
    await write(database, [make_search(caller, [codebase_key], [], kind="LIKE", text="", like_chunk_id=chunk_id)])
    async with database.acquire(5) as connection:
        search = await connection.fetchrow("SELECT * FROM searches")
    assert search is not None
    assert (search["query_text"], search["like_chunk_id"], search["like_codebase_key"]) == (
        None,
        chunk_id,
        codebase_key,
    )
    assert search["like_content_sha256"] == make_chunk(1).text_sha256
    assert search["query_vector"] is None


async def test_ids_are_128_random_bits(database: Database, caller: ApiKey) -> None:
    """No bit of them is fixed, as those of a version 4 UUID are."""
    log = SearchLog(database)
    ids = [UUID(log.add(make_search(caller, [1], []))).int for _ in range(200)]
    assert len(set(ids)) == 200
    ones = np.array([[id_ >> bit & 1 for bit in range(128)] for id_ in ids]).sum(axis=0)
    # 7 standard deviations of 200 fair coins.
    assert np.all(abs(ones - 100) < 50)


async def test_what_waits_is_bounded_and_who_finds_no_room_is_told(database: Database, caller: ApiKey) -> None:
    """Nothing is written here: the log is not running."""
    log = SearchLog(database, max_waiting_bytes=100_000)
    ids = [log.add(make_search(caller, [1], [])) for _ in range(20)]
    assert sum(id_ != "" for id_ in ids) == 8
    assert ids[8:] == [""] * 12
    assert SearchLog(database).add(make_search(caller, [1], [], text="x" * 20_000_000)) == ""


async def test_adding_does_not_wait_for_a_database_that_is_stuck(
    database: Database, codebase_key: int, caller: ApiKey
) -> None:
    """And what waited is written when the database goes on."""
    log = SearchLog(database)
    async with log.running():
        async with database.acquire(30) as connection:
            await connection.execute("LOCK TABLE searches")
            search_id = UUID(log.add(make_search(caller, [codebase_key], [])))
            await log.wait_for(search_id, timeout_s=0.3)
            assert log.is_waiting(search_id, caller.key_id)
            assert not log.is_waiting(search_id, "0" * 12)
        await log.wait_for(search_id, timeout_s=20)
        assert not log.is_waiting(search_id, caller.key_id)
    async with database.acquire(5) as connection:
        assert await connection.fetchval("SELECT search_id FROM searches") == search_id


async def test_a_search_that_cannot_be_written_now_is_written_later(
    database: Database, codebase_key: int, caller: ApiKey, caplog: pytest.LogCaptureFixture
) -> None:
    """As with a disk that was full: the log says so, keeps what waits, and goes on when it can."""
    async with database.acquire(5) as connection:
        await connection.execute("ALTER TABLE searches RENAME TO hidden")
    log = SearchLog(database)
    with caplog.at_level(logging.ERROR):
        async with log.running():
            search_id = UUID(log.add(make_search(caller, [codebase_key], [])))
            while "are not logged yet" not in caplog.text:
                await asyncio.sleep(0.01)
            assert log.is_waiting(search_id, caller.key_id)
            async with database.acquire(5) as connection:
                await connection.execute("ALTER TABLE hidden RENAME TO searches")
            await log.wait_for(search_id, timeout_s=20)
    async with database.acquire(5) as connection:
        assert await connection.fetchval("SELECT search_id FROM searches") == search_id


async def test_a_connection_that_breaks_in_the_middle_costs_nothing(
    database: Database, codebase_key: int, caller: ApiKey, caplog: pytest.LogCaptureFixture
) -> None:
    """The batch is written again by another, once."""
    log = SearchLog(database)
    with caplog.at_level(logging.WARNING):
        async with log.running():
            async with database.acquire(30) as connection:
                # The log can add searches, and then waits here.
                await connection.execute("LOCK TABLE searched_codebases")
                ids = [UUID(log.add(make_search(caller, [codebase_key], []))) for _ in range(5)]
                killed = []
                while not killed:
                    killed = await connection.fetch(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                        " AND datname = current_database() AND pid <> pg_backend_pid()"
                    )
                while "are not logged yet" not in caplog.text:
                    await asyncio.sleep(0.01)
            await log.wait_for(ids[-1], timeout_s=20)
    async with database.acquire(5) as connection:
        assert {row[0] for row in await connection.fetch("SELECT search_id FROM searches")} == set(ids)
        assert await connection.fetchval("SELECT count(*) FROM searched_codebases") == 5


async def test_what_postgresql_never_takes_does_not_hold_up_the_rest(
    database: Database, codebase_key: int, caller: ApiKey, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        bad, good = await write(
            database,
            [
                make_search(caller, [codebase_key], [], space="no fingerprint"),
                make_search(caller, [codebase_key], []),
            ],
        )
    async with database.acquire(5) as connection:
        assert [row[0] for row in await connection.fetch("SELECT search_id FROM searches")] == [good]
    assert f"search {bad} is lost to the log" in caplog.text


async def test_a_batch_whose_commit_was_not_seen_is_not_written_twice(
    database: Database, codebase_key: int, caller: ApiKey
) -> None:
    """The second attempt finds its searches, and leaves them as they are."""
    log = SearchLog(database)
    for _ in range(3):
        log.add(make_search(caller, [codebase_key], [(1, codebase_key)]))
    waiting = dict(log._waiting)
    await log._write_batch()
    log._waiting = waiting
    await log._write_batch()
    async with database.acquire(5) as connection:
        assert await connection.fetchval("SELECT count(*) FROM searches") == 3
        assert await connection.fetchval("SELECT count(*) FROM searched_codebases") == 3


async def test_what_was_deleted_meanwhile_is_left_out(database: Database, codebase_key: int, caller: ApiKey) -> None:
    """A principal, a codebase of two, the only codebase: between the answer and the log."""
    gone = await make_caller(database, "gone")
    doomed = (await CodebaseStore(database).create("doomed", "Doomed", timeout_s=5)).codebase_key
    log = SearchLog(database)
    log.add(make_search(gone, [codebase_key], []))
    log.add(make_search(caller, [doomed], [(1, doomed)]))
    kept = log.add(make_search(caller, [doomed, codebase_key], [(1, doomed), (2, codebase_key)]))
    async with database.acquire(5) as connection:
        await connection.execute("DELETE FROM principals WHERE principal_id = 'gone'")
    await CodebaseStore(database).delete("doomed", timeout_s=5)
    await log._write_batch()
    async with database.acquire(5) as connection:
        assert [str(row[0]) for row in await connection.fetch("SELECT search_id FROM searches")] == [kept]
        named = await connection.fetch("SELECT codebase_key, chunk_ids, ranks FROM searched_codebases")
    assert [tuple(row) for row in named] == [(codebase_key, [2], [2])]


async def test_what_waits_when_the_gateway_ends_is_written(
    database: Database, codebase_key: int, caller: ApiKey
) -> None:
    log = SearchLog(database)
    async with log.running():
        for _ in range(600):
            log.add(make_search(caller, [codebase_key], []))
    async with database.acquire(5) as connection:
        assert await connection.fetchval("SELECT count(*) FROM searches") == 600


async def test_searches_are_deleted_when_they_are_old(database: Database, codebase_key: int, caller: ApiKey) -> None:
    """More than a batch of them, and nothing younger."""
    ids = await write(database, [make_search(caller, [codebase_key], []) for _ in range(4)])
    now = datetime.now(UTC)
    for search_id, days in zip(ids, (0, 29.9, 30.1, 400), strict=True):
        await set_time(database, search_id, now - timedelta(days=days))
    async with database.acquire(5) as connection:
        await connection.execute(
            "INSERT INTO searches (search_id, principal_key, space, query_kind, query_text, hit_count, create_time)"
            " SELECT gen_random_uuid(), principal_key, space, 'QUERY', 'x', 0, create_time - interval '60 days'"
            " FROM searches s, generate_series(1, 1500) WHERE s.search_id = $1",
            ids[1],
        )
    keeper = SearchLogKeeper(database, retention=timedelta(days=30))
    assert await keeper.delete_expired() == 1502
    assert await keeper.delete_expired() == 0
    async with database.acquire(5) as connection:
        left = {row[0] for row in await connection.fetch("SELECT search_id FROM searches")}
    assert left == set(ids[:2])


async def test_deleting_a_codebase_deletes_what_was_sought_in_it(
    database: Database, codebase_key: int, caller: ApiKey, chunks: ChunkStore, space: SpaceRow
) -> None:
    """Its hits everywhere, searches that named nothing else, and those that began from one of its chunks."""
    other = (await CodebaseStore(database).create("other", "Other", timeout_s=5)).codebase_key
    [chunk_id] = await chunks.insert(codebase_key, space.space_key, [make_chunk(1)], make_vectors(1), timeout_s=5)
    alone, both, like, elsewhere = await write(
        database,
        [
            make_search(caller, [codebase_key], [(1, codebase_key)]),
            make_search(caller, [codebase_key, other], [(1, codebase_key), (2, other)]),
            make_search(caller, [codebase_key, other], [(2, other)], kind="LIKE", text="", like_chunk_id=chunk_id),
            make_search(caller, [other], [(2, other)]),
        ],
    )
    await CodebaseStore(database).delete("demo", timeout_s=5)
    async with database.acquire(5) as connection:
        left = {row[0] for row in await connection.fetch("SELECT search_id FROM searches")}
        named = await connection.fetch("SELECT DISTINCT codebase_key, chunk_ids FROM searched_codebases")
    assert left == {both, elsewhere}
    assert {alone, like}.isdisjoint(left)
    assert [tuple(row) for row in named] == [(other, [2])]


async def test_deleting_a_principal_deletes_its_searches(database: Database, codebase_key: int, caller: ApiKey) -> None:
    other = await make_caller(database, "other")
    _, kept = await write(database, [make_search(caller, [codebase_key], []), make_search(other, [codebase_key], [])])
    async with database.acquire(5) as connection:
        await connection.execute("DELETE FROM principals WHERE principal_id = 'caller'")
        assert [row[0] for row in await connection.fetch("SELECT search_id FROM searches")] == [kept]
        assert await connection.fetchval("SELECT count(*) FROM searched_codebases") == 1
