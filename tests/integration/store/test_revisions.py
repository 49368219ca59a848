"""Which commit a codebase was brought into line with, and whether that still holds."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from store_callers import make_caller, set_role
from store_samples import make_chunk, make_vectors

from gateway.errors import NotFound, PermissionDenied, RevisionChanged
from gateway.store.caller import acting_with
from gateway.store.chunks import ChunkStore, _hold_codebase
from gateway.store.codebases import CodebaseStore
from gateway.store.pool import Database
from gateway.store.rows import FileSelector, NewRevision, RevisionRow, SearchQuery, SpaceRow
from gateway.store.search import SearchStore

NEW = NewRevision(
    commit_id="1c" * 20, folder="src", branch="main", commit_time=datetime(2026, 11, 1, tzinfo=UTC), modified=False
)


async def record(
    codebases: CodebaseStore, expected_version: int | None = None, update_number: int = 0, **changes: Any
) -> RevisionRow:
    return await codebases.set_revision(
        "demo",
        replace(NEW, **changes),
        expected_version=expected_version,
        update_number=update_number,
        timeout_s=5,
    )


async def recorded(codebases: CodebaseStore, space: SpaceRow) -> RevisionRow | None:
    return (await codebases.get("demo", space_key=space.space_key, timeout_s=5)).revision


async def test_what_was_recorded_is_given_wherever_the_codebase_is(
    database: Database, codebases: CodebaseStore, space: SpaceRow, codebase_key: int
) -> None:
    assert await recorded(codebases, space) is None
    row = await record(codebases)
    assert asdict(NEW).items() <= asdict(row).items()
    assert (row.version, row.outdated) == (1, False)
    assert await recorded(codebases, space) == row
    assert [one.revision for one in await codebases.list("", 10, space_key=space.space_key, timeout_s=5)] == [row]
    query = SearchQuery(make_vectors(1)[0], limit=1)
    found = await SearchStore(database).search(["demo"], space.space_key, query, timeout_s=5)
    assert found.revisions == {codebase_key: row}
    again = await record(codebases, commit_id="2d" * 32, folder="", branch="", commit_time=None, modified=True)
    assert (again.version, again.commit_id, again.commit_time, again.modified) == (2, "2d" * 32, None, True)


async def test_whoever_writes_outdates_it(
    chunks: ChunkStore, codebases: CodebaseStore, space: SpaceRow, codebase_key: int
) -> None:
    """In the same transaction, and whoever it is: an interrupted update must not pass for a whole one."""
    one, two, space_key = make_chunk(1), make_chunk(2), space.space_key
    writes: dict[str, Callable[[], Awaitable[object]]] = {
        "insert": lambda: chunks.insert(codebase_key, space_key, [one], make_vectors(1), timeout_s=5),
        "insert_reused": lambda: chunks.insert_reused(codebase_key, space_key, [replace(one, path="b")], timeout_s=5),
        "insert more": lambda: chunks.insert(codebase_key, space_key, [two], make_vectors(1), timeout_s=5),
        "delete_files": lambda: chunks.delete_files(codebase_key, [FileSelector(one.path)]),
    }
    for name, write in writes.items():
        row = await record(codebases)
        # What reads outdates nothing.
        await chunks.find_existing(codebase_key, space_key, [one])
        assert await recorded(codebases, space) == row, name
        await write()
        assert await recorded(codebases, space) == replace(row, outdated=True), name


async def test_of_two_updates_at_once_the_later_one_is_told(
    codebases: CodebaseStore, space: SpaceRow, codebase_key: int
) -> None:
    """And nobody takes what the first recorded for true, as the second wrote beside it."""
    await record(codebases, expected_version=0)
    await record(codebases, expected_version=1)
    with pytest.raises(RevisionChanged, match="it has revision 2, and this update began from 1; run it again"):
        await record(codebases, expected_version=1, commit_id="2d" * 20)
    row = await recorded(codebases, space)
    assert row is not None
    assert (row.version, row.commit_id, row.outdated) == (2, NEW.commit_id, True)


async def test_writers_record_and_readers_see(
    caller_database: Database, database: Database, space: SpaceRow, codebase_key: int
) -> None:
    """Row-level security holds the table as it holds chunks."""
    store, caller = CodebaseStore(caller_database), await make_caller(database, "somebody")
    with acting_with(caller):
        with pytest.raises(NotFound):
            await record(store)
        await set_role(database, caller, codebase_key, "READ")
        with pytest.raises(PermissionDenied, match="takes the role WRITE"):
            await record(store)
        await set_role(database, caller, codebase_key, "WRITE")
        row = await record(store)
        await set_role(database, caller, codebase_key, "READ")
        assert await recorded(store, space) == row
        async with caller_database.acquire(5) as connection:
            assert await connection.execute("UPDATE revisions SET commit_id = repeat('0', 40)") == "UPDATE 0"
        await set_role(database, caller, codebase_key, None)
        async with caller_database.acquire(5) as connection:
            assert await connection.fetch("SELECT FROM revisions") == []


async def test_the_database_refuses_what_is_no_commit(codebases: CodebaseStore, codebase_key: int) -> None:
    for commit_id in ("", "1c", "1C" * 20, "1c" * 20 + "\n", "1c" * 21):
        with pytest.raises(asyncpg.CheckViolationError):
            await record(codebases, commit_id=commit_id)


async def test_an_update_that_others_wrote_beside_is_not_recorded(
    chunks: ChunkStore, codebases: CodebaseStore, space: SpaceRow, codebase_key: int
) -> None:
    """With a revision before it or without, before it wrote itself or after; what it wrote itself is no matter."""
    one, two, space_key = make_chunk(1), make_chunk(2), space.space_key
    writes: dict[str, Callable[[int], Awaitable[object]]] = {
        "insert": lambda number: chunks.insert(
            codebase_key, space_key, [one], make_vectors(1), update_number=number, timeout_s=5
        ),
        "insert_reused": lambda number: chunks.insert_reused(
            codebase_key, space_key, [replace(one, path="b")], update_number=number, timeout_s=5
        ),
        "delete_files": lambda number: chunks.delete_files(
            codebase_key, [FileSelector(two.path)], update_number=number
        ),
    }
    row: RevisionRow | None = None
    for name, write in writes.items():
        for other in (0, "the update before"):
            before, _ = await codebases.begin_update("demo", timeout_s=5)
            mine, held = await codebases.begin_update("demo", timeout_s=5)
            assert (held is None) == (row is None)
            await write(mine)
            await write(before if other else 0)
            await write(mine)
            with pytest.raises(RevisionChanged, match="others wrote into codebase 'demo', or began"):
                await record(codebases, update_number=mine)
            row = await recorded(codebases, space)
            assert row is None or row.outdated, (name, other)
        mine, _ = await codebases.begin_update("demo", timeout_s=5)
        await write(mine)
        row = await record(codebases, update_number=mine)
        assert not row.outdated


async def test_nobody_waits_for_a_codebase_that_is_being_deleted(
    database: Database, codebases: CodebaseStore, codebase_key: int
) -> None:
    """Deleting a large one takes a minute, and whoever waited would hold a connection, and the writers behind it."""
    async with database.acquire(30) as other:
        await other.execute("SELECT pg_advisory_xact_lock(hashtext('duovec.codebase'), $1::integer)", codebase_key)
        for ask in (lambda: codebases.begin_update("demo", timeout_s=5), lambda: record(codebases)):
            with pytest.raises(NotFound, match="is being deleted"):
                await ask()
        async with database.acquire(5) as writer:
            with pytest.raises(NotFound, match="is being deleted"):
                await _hold_codebase(writer, codebase_key, 0)


async def test_of_two_updates_the_one_that_began_last_may_be_recorded(
    codebases: CodebaseStore, codebase_key: int
) -> None:
    """And no longer once another commit was recorded. A codebase that is made anew does not take the old one's."""
    first, _ = await codebases.begin_update("demo", timeout_s=5)
    last, _ = await codebases.begin_update("demo", timeout_s=5)
    with pytest.raises(RevisionChanged):
        await record(codebases, update_number=first)
    row = await record(codebases, update_number=last)
    assert row.version == 1
    # Asked again, as after a reply that was lost, it is what it is.
    assert await record(codebases, update_number=last) == row
    with pytest.raises(RevisionChanged):
        await record(codebases, commit_id="2d" * 20, update_number=last)
    third, held = await codebases.begin_update("demo", timeout_s=5)
    assert held is not None
    assert (held.version, held.outdated) == (1, False)
    await record(codebases, commit_id="2d" * 20)
    with pytest.raises(RevisionChanged):
        await record(codebases, update_number=third)
    await codebases.delete("demo", timeout_s=5)
    await codebases.create("demo", "demo", timeout_s=5)
    anew, held = await codebases.begin_update("demo", timeout_s=5)
    assert (held, anew > third) == (None, True)


@pytest.mark.parametrize("what", ["begin", "record"])
async def test_a_write_in_flight_is_before_an_update_or_a_revision_or_after(
    database: Database, codebases: CodebaseStore, space: SpaceRow, codebase_key: int, what: str
) -> None:
    """Else it would be of neither: not seen by who lists what is stored, and noted nowhere."""
    await record(codebases)
    async with database.acquire(5) as other:
        # As every write begins. The next one has nothing to note.
        await _hold_codebase(other, codebase_key, 0)
    async with database.acquire(5) as other:
        await _hold_codebase(other, codebase_key, 0)
        begins = codebases.begin_update("demo", timeout_s=5) if what == "begin" else record(codebases)
        waits = asyncio.ensure_future(begins)
        async with database.acquire(5) as watching:
            while not await watching.fetchval(
                "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
                " WHERE NOT l.granted AND d.datname = current_database())"
            ):
                assert not waits.done()
        assert not waits.done()
    await waits
    row = await recorded(codebases, space)
    assert row is not None
    assert row.outdated == (what == "begin")
