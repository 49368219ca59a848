"""Feedback: on what was shown, by whom it was shown to, and with all that training needs."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from logged_searches import SPACE, make_search, missing_id, text_of, write
from store_callers import make_caller, set_role
from store_samples import make_chunk, make_vectors

from gateway.errors import ChunkNotFound, DatabaseUnavailable, InvalidInput, PermissionDenied, SearchNotFound
from gateway.store.api_key import ApiKey
from gateway.store.caller import acting_with
from gateway.store.chunks import ChunkStore
from gateway.store.codebases import CodebaseStore
from gateway.store.feedback import FeedbackStore, Said
from gateway.store.pool import Database
from gateway.store.rows import FileSelector, SpaceRow
from gateway.store.search_log import SearchLog

USEFUL, USELESS, OPENED = Said(useful=True), Said(useful=False), Said(opened=True)


@pytest.fixture
async def caller(database: Database, codebase_key: int) -> ApiKey:
    key = await make_caller(database, "caller")
    await set_role(database, key, codebase_key, "READ")
    return key


@pytest.fixture
def store(caller_database: Database) -> FeedbackStore:
    return FeedbackStore(caller_database, None)


@pytest.fixture
async def search_id(database: Database, codebase_key: int, caller: ApiKey) -> UUID:
    """A search of the caller's that showed chunks 11, 12 and 13."""
    [search_id] = await write(
        database, [make_search(caller, [codebase_key], [(chunk_id, codebase_key) for chunk_id in (11, 12, 13)])]
    )
    return search_id


async def said(database: Database) -> list[tuple[Any, ...]]:
    async with database.acquire(5) as connection:
        records = await connection.fetch(
            "SELECT chunk_id, rank, opened_time IS NOT NULL, useful, gain FROM feedback ORDER BY chunk_id"
        )
    return [tuple(record) for record in records]


async def everything(database: Database) -> list[asyncpg.Record]:
    async with database.acquire(5) as connection:
        return await connection.fetch("SELECT * FROM feedback ORDER BY chunk_id")


async def test_what_is_said_adds_up_and_the_same_again_changes_nothing(
    database: Database, store: FeedbackStore, caller: ApiKey, search_id: UUID
) -> None:
    """Opened stays; of useful and not useful the last word counts, and with it its time."""
    with acting_with(caller):
        await store.record(search_id, {12: OPENED, 13: USELESS}, timeout_s=5)
        assert await said(database) == [(12, 2, True, None, 1), (13, 3, False, False, 0)]
        first = await everything(database)
        await store.record(search_id, {12: OPENED, 13: USELESS}, timeout_s=5)
        assert await everything(database) == first
        await store.record(search_id, {12: USEFUL, 13: OPENED}, timeout_s=5)
        assert await said(database) == [(12, 2, True, True, 2), (13, 3, True, False, 0)]
        second = await everything(database)
        assert second[0]["opened_time"] == first[0]["opened_time"]
        assert second[1]["judge_time"] == first[1]["judge_time"]
        await store.record(search_id, {12: USEFUL}, timeout_s=5)
        assert await everything(database) == second
        await store.record(search_id, {12: USELESS}, timeout_s=5)
        assert await said(database) == [(12, 2, True, False, 0), (13, 3, True, False, 0)]
        assert (await everything(database))[0]["judge_time"] > second[0]["judge_time"]


async def test_a_chunk_that_was_not_shown_is_refused_and_nothing_is_recorded(
    database: Database, store: FeedbackStore, caller: ApiKey, search_id: UUID
) -> None:
    with (
        acting_with(caller),
        pytest.raises(InvalidInput, match=r"items\[1\].chunk_id: is 14, which the search's first page did not"),
    ):
        await store.record(search_id, {11: USEFUL, 14: replace(USEFUL, item=1)}, timeout_s=5)
    assert await said(database) == []


async def test_another_s_search_is_as_one_that_does_not_exist(
    database: Database, store: FeedbackStore, codebase_key: int, search_id: UUID
) -> None:
    """For an owner of the codebase and an administrator too: feedback is that of who searched."""
    owner, admin = await make_caller(database, "owner"), await make_caller(database, "admin", is_admin=True)
    await set_role(database, owner, codebase_key, "OWNER")
    for key in (owner, admin, await make_caller(database, "outsider")):
        messages = []
        for id_ in (search_id, missing_id()):
            with acting_with(key), pytest.raises(SearchNotFound) as refused:
                await store.record(id_, {11: USEFUL}, timeout_s=5)
            messages.append(str(refused.value).replace(str(id_), "ID"))
        assert messages == ["search ID is not in the log, or is not one of yours"] * 2
    assert await said(database) == []


async def test_what_one_may_not_read_any_more_is_not_found(
    database: Database, store: FeedbackStore, codebase_key: int, caller: ApiKey, search_id: UUID
) -> None:
    """The whole search where nothing of it is left; of another the hits that are hidden."""
    other = (await CodebaseStore(database).create("other", "Other", timeout_s=5)).codebase_key
    await set_role(database, caller, other, "READ")
    [of_two] = await write(database, [make_search(caller, [codebase_key, other], [(11, codebase_key), (12, other)])])
    with acting_with(caller):
        await store.record(of_two, {11: OPENED}, timeout_s=5)
        await set_role(database, caller, codebase_key, None)
        with pytest.raises(SearchNotFound):
            await store.record(search_id, {11: USEFUL}, timeout_s=5)
        for chunk_id in (11, 99):
            with pytest.raises(ChunkNotFound, match=f"chunk {chunk_id} is not among the hits .* may still see"):
                await store.record(of_two, {chunk_id: USEFUL}, timeout_s=5)
        await store.record(of_two, {12: USEFUL}, timeout_s=5)
        assert await said(database) == [(11, 1, True, None, 1), (12, 2, False, True, 2)]
        await set_role(database, caller, codebase_key, "READ")
        await store.record(search_id, {11: USEFUL}, timeout_s=5)


async def test_feedback_waits_for_the_search_to_be_written(
    database: Database, caller_database: Database, codebase_key: int, caller: ApiKey
) -> None:
    """Which comes right after the reply, before the batch is due; and where it cannot be written, one may try again."""
    log = SearchLog(database)
    store = FeedbackStore(caller_database, log)
    async with log.running():
        for _ in range(3):
            id_ = UUID(log.add(make_search(caller, [codebase_key], [(11, codebase_key)])))
            with acting_with(caller):
                await store.record(id_, {11: USEFUL}, timeout_s=5)
    stuck = SearchLog(database)
    id_ = UUID(stuck.add(make_search(caller, [codebase_key], [(11, codebase_key)])))
    with acting_with(caller), pytest.raises(DatabaseUnavailable, match="not in the log yet, try again"):
        await FeedbackStore(caller_database, stuck).record(id_, {11: USEFUL}, timeout_s=5)
    stranger = await make_caller(database, "stranger")
    with acting_with(stranger), pytest.raises(SearchNotFound):
        await FeedbackStore(caller_database, stuck).record(id_, {11: USEFUL}, timeout_s=5)
    assert len(await said(database)) == 3


@pytest.fixture
async def stored(database: Database, chunks: ChunkStore, space: SpaceRow, codebase_key: int) -> list[int]:
    """Ids of three chunks."""
    return await chunks.insert(
        codebase_key, space.space_key, [make_chunk(i) for i in range(3)], make_vectors(3), timeout_s=5
    )


async def examples(database: Database) -> list[tuple[Any, ...]]:
    """What training reads: the query, the text, and where it stands now."""
    async with database.acquire(5) as connection:
        records = await connection.fetch(
            "SELECT query_text, content, path, chunk_id, gain, codebase_id, space FROM feedback_examples ORDER BY rank"
        )
    return [tuple(record) for record in records]


async def record_on_stored(
    database: Database, store: FeedbackStore, codebase_key: int, caller: ApiKey, ids: Sequence[int]
) -> None:
    search = make_search(
        caller,
        [codebase_key],
        [(chunk_id, codebase_key) for chunk_id in ids],
        texts=[make_chunk(i).text_sha256 for i in range(len(ids))],
    )
    [search_id] = await write(database, [search])
    with acting_with(caller):
        await store.record(search_id, {ids[0]: USEFUL, ids[1]: OPENED, ids[2]: USELESS}, timeout_s=5)


async def test_training_reads_the_query_and_the_text_that_was_shown(
    database: Database, store: FeedbackStore, codebase_key: int, caller: ApiKey, stored: list[int]
) -> None:
    await record_on_stored(database, store, codebase_key, caller, stored)
    assert await examples(database) == [
        ("what is sought", make_chunk(i).content, make_chunk(i).path, stored[i], (2, 1, 0)[i], "demo", SPACE)
        for i in range(3)
    ]


async def test_feedback_never_leads_to_another_text(
    database: Database,
    store: FeedbackStore,
    chunks: ChunkStore,
    space: SpaceRow,
    codebase_key: int,
    caller: ApiKey,
    stored: list[int],
) -> None:
    """A chunk that was replaced, one that was deleted; one whose text moved to another file is found there."""
    await record_on_stored(database, store, codebase_key, caller, stored)
    replaced = make_chunk(0, text="something else")
    assert await chunks.insert(codebase_key, space.space_key, [replaced], make_vectors(1), timeout_s=5) == stored[:1]
    await chunks.delete_files(codebase_key, [FileSelector(make_chunk(1).path), FileSelector(make_chunk(2).path)])
    assert await examples(database) == []
    moved = replace(make_chunk(1), path="moved.py")
    [moved_id] = await chunks.insert(codebase_key, space.space_key, [moved], make_vectors(1), timeout_s=5)
    assert await examples(database) == [
        ("what is sought", make_chunk(1).content, "moved.py", moved_id, 1, "demo", SPACE)
    ]
    # What was said stays, with the rank that it was said of: the quality of past weeks does not change with the code.
    assert [row[:2] for row in await said(database)] == [(chunk_id, rank) for rank, chunk_id in enumerate(stored, 1)]


async def test_feedback_goes_with_its_codebase_and_with_its_principal(
    database: Database, store: FeedbackStore, codebase_key: int, caller: ApiKey, search_id: UUID
) -> None:
    other = (await CodebaseStore(database).create("other", "Other", timeout_s=5)).codebase_key
    second = await make_caller(database, "second")
    for key in (caller, second):
        await set_role(database, key, codebase_key, "READ")
        await set_role(database, key, other, "READ")
    hits = [(21, codebase_key), (22, other)]
    ids = await write(database, [make_search(key, [codebase_key, other], hits) for key in (caller, second)])
    for key, id_ in zip((caller, second), ids, strict=True):
        with acting_with(key):
            await store.record(id_, {21: USEFUL, 22: USEFUL}, timeout_s=5)
    with acting_with(caller):
        await store.record(search_id, {11: USEFUL}, timeout_s=5)
    await CodebaseStore(database).delete("demo", timeout_s=5)
    assert [row[0] for row in await said(database)] == [22, 22]
    async with database.acquire(5) as connection:
        await connection.execute("DELETE FROM principals WHERE principal_id = 'caller'")
    assert [row[0] for row in await said(database)] == [22]


# What a caller can write into a statement of its own, were a check forgotten; {search} is another's search.
STATEMENTS = [
    "INSERT INTO feedback (search_key, codebase_key, chunk_id, content_sha256, rank, codebase_rank, opened_time)"
    " VALUES ({search}, {codebase}, 11, sha256('x'), 1, 1, now())",
    "UPDATE feedback SET useful = false, judge_time = now()",
    "UPDATE feedback SET chunk_id = 99",
    "DELETE FROM feedback",
    "DELETE FROM searches",
    "DELETE FROM searched_codebases",
    "UPDATE searches SET principal_key = current_principal()",
    "UPDATE searched_codebases SET principal_key = current_principal()",
    "INSERT INTO searched_codebases SELECT {search}, {codebase}, current_principal(), '{{}}', '{{}}', '{{}}', '{{}}'",
    "INSERT INTO searches (search_id, principal_key, space, query_kind, query_text, hit_count, create_time)"
    " SELECT gen_random_uuid(), current_principal(), repeat('a', 64), 'QUERY', 'x', 0, now()",
    "SELECT query_text FROM searches",
    "SELECT * FROM feedback_examples",
]


@pytest.mark.parametrize("role", [None, "OWNER"])
@pytest.mark.parametrize("statement", STATEMENTS)
async def test_the_database_lets_nobody_write_another_s_feedback_or_read_what_was_sought(
    database: Database,
    caller_database: Database,
    store: FeedbackStore,
    codebase_key: int,
    caller: ApiKey,
    search_id: UUID,
    statement: str,
    role: str | None,
) -> None:
    with acting_with(caller):
        await store.record(search_id, {12: USEFUL}, timeout_s=5)
    before = await everything(database)
    async with database.acquire(5) as connection:
        search_key = await connection.fetchval("SELECT search_key FROM searches")
    other = await make_caller(database, "other")
    await set_role(database, other, codebase_key, role)
    with acting_with(other):
        try:
            async with caller_database.acquire(5) as connection:
                status = await connection.execute(statement.format(search=search_key, codebase=codebase_key))
        except (PermissionDenied, asyncpg.InsufficientPrivilegeError):
            pass
        else:
            assert status.endswith(" 0"), status
    assert await everything(database) == before
    async with database.acquire(5) as connection:
        assert await connection.fetchval("SELECT count(*) FROM searches") == 1


async def test_the_database_takes_feedback_on_what_was_shown_and_nothing_else(
    caller_database: Database, database: Database, codebase_key: int, caller: ApiKey, search_id: UUID
) -> None:
    """As after a check that was forgotten: another chunk, or a codebase that one may not read any more."""
    insert = (
        "INSERT INTO feedback (search_key, codebase_key, chunk_id, content_sha256, rank, codebase_rank, opened_time)"
        " SELECT search_key, $1, $2, sha256('x'), 1, 1, now() FROM searches"
    )
    async with database.acquire(5) as connection:
        before = await connection.fetch("SELECT * FROM searches")
    with acting_with(caller):
        with pytest.raises(PermissionDenied):
            async with caller_database.acquire(5) as connection:
                await connection.execute(insert, codebase_key, 14)
        async with caller_database.acquire(5) as connection:
            await connection.execute(insert, codebase_key, 11)
        await set_role(database, caller, codebase_key, None)
        with pytest.raises(PermissionDenied):
            async with caller_database.acquire(5) as connection:
                await connection.execute(insert, codebase_key, 12)
        async with caller_database.acquire(5) as connection:
            assert await connection.execute("UPDATE feedback SET opened_time = NULL") == "UPDATE 0"
    assert [row[0] for row in await said(database)] == [11]
    async with database.acquire(5) as connection:
        assert await connection.fetch("SELECT * FROM searches") == before


@pytest.mark.parametrize(
    ("role", "seen"), [(None, (0, 0, 0)), ("READ", (0, 0, 0)), ("WRITE", (0, 0, 0)), ("OWNER", (1, 1, 1))]
)
async def test_owners_see_the_log_of_their_codebase_and_nobody_else_another_s(
    database: Database,
    caller_database: Database,
    store: FeedbackStore,
    codebase_key: int,
    caller: ApiKey,
    search_id: UUID,
    role: str | None,
    seen: tuple[int, int, int],
) -> None:
    """Searches, the codebases that they named, and feedback; of a second codebase that was searched nothing."""
    unseen = (await CodebaseStore(database).create("unseen", "Unseen", timeout_s=5)).codebase_key
    await set_role(database, caller, unseen, "READ")
    [of_two] = await write(database, [make_search(caller, [unseen], [(31, unseen)])])
    with acting_with(caller):
        await store.record(search_id, {11: USEFUL}, timeout_s=5)
        await store.record(of_two, {31: USEFUL}, timeout_s=5)
    other = await make_caller(database, "other")
    await set_role(database, other, codebase_key, role)
    counts = []
    with acting_with(other):
        for table in ("searches", "searched_codebases", "feedback"):
            async with caller_database.acquire(5) as connection:
                counts.append(await connection.fetchval(f"SELECT count(*) FROM {table}"))
    assert tuple(counts) == seen
    async with database.acquire(5) as connection:
        assert await connection.fetchval("SELECT content_sha256 FROM feedback WHERE chunk_id = 11") == text_of(11)
