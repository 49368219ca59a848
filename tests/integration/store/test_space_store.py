"""Spaces on the real PostgreSQL: which one is active, what may be written into which, and how they change places."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from store_samples import make_chunk, make_vectors

from gateway.errors import (
    BadVector,
    SpaceExists,
    SpaceIncomplete,
    SpaceInUse,
    SpaceMismatch,
    SpaceNotFound,
    SpaceNotReady,
)
from gateway.store import spaces as spaces_module
from gateway.store.chunks import ChunkStore
from gateway.store.codebases import CodebaseStore
from gateway.store.pool import Database
from gateway.store.rows import Coverage, FileSelector, PendingChunk, SearchQuery, SpaceRow
from gateway.store.search import SearchStore
from gateway.store.search_plan import Method
from gateway.store.space_vectors import SpaceVectorStore
from gateway.store.spaces import SpaceStore

A, B = "a" * 64, "b" * 64


@pytest.fixture
def spaces(database: Database) -> SpaceStore:
    return SpaceStore(database)


@pytest.fixture
def vectors(database: Database) -> SpaceVectorStore:
    return SpaceVectorStore(database)


async def fill(vectors: SpaceVectorStore, space: SpaceRow, *, seed: int = 1) -> None:
    """Give every pending chunk some vector."""
    pending = await vectors.find_pending(space.space_key, 0, 1000, timeout_s=5)
    await vectors.insert(space.space_key, pending, make_vectors(len(pending), seed=seed), timeout_s=5)


async def make_ready(spaces: SpaceStore, vectors: SpaceVectorStore, fingerprint: str = B) -> SpaceRow:
    """A space beside the active one, filled and verified."""
    space = await spaces.build(fingerprint, {}, timeout_s=5)
    await fill(vectors, space)
    coverage = await vectors.count(space.space_key, timeout_s=5)
    await spaces.set_verification(space.space_key, {"passed": True, "chunk_count": coverage.chunk_count})
    return space


async def test_the_first_space_becomes_active_and_stays_the_same(spaces: SpaceStore) -> None:
    assert await spaces.get_active() is None
    first, again = await asyncio.gather(*(spaces.ensure_active(A, {"weight": 0.5}) for _ in range(2)))
    assert first == again == await spaces.get_active()
    assert (first.fingerprint, first.manifest, first.state) == (A, {"weight": 0.5}, "ACTIVE")


async def test_an_empty_space_gives_way_to_another_and_may_come_back(spaces: SpaceStore) -> None:
    await spaces.ensure_active(A, {})
    second = await spaces.ensure_active(B, {})
    assert [space.fingerprint for space in await spaces.list()] == [B]
    assert second.state == "ACTIVE"
    assert (await spaces.ensure_active(A, {})).fingerprint == A


async def test_a_space_with_vectors_does_not_give_way(
    spaces: SpaceStore, codebases: CodebaseStore, chunks: ChunkStore, codebase_key: int
) -> None:
    space = await spaces.ensure_active(A, {})
    await chunks.insert(codebase_key, space.space_key, [make_chunk(1)], make_vectors(1), timeout_s=5)
    assert await spaces.ensure_active(B, {}) == space
    await codebases.delete("demo", timeout_s=5)
    assert (await spaces.ensure_active(B, {})).fingerprint == B


async def test_an_empty_space_that_was_chosen_among_others_does_not_give_way(
    spaces: SpaceStore, vectors: SpaceVectorStore, space: SpaceRow
) -> None:
    """A gateway that starts with other models must not undo what an administrator activated."""
    ready = await make_ready(spaces, vectors)
    await spaces.activate(ready.space_key, timeout_s=5)
    assert (await spaces.ensure_active(space.fingerprint, {})).fingerprint == B


async def test_a_space_is_built_once(spaces: SpaceStore, space: SpaceRow) -> None:
    built = await spaces.build(B, {"code": "two"}, timeout_s=5)
    assert (built.state, built.filling, built.verification) == ("BUILDING", False, None)
    for fingerprint in (A, B):
        with pytest.raises(SpaceExists, match=fingerprint):
            await spaces.build(fingerprint, {}, timeout_s=5)


async def test_filling_covers_what_is_there_and_what_comes_meanwhile(
    spaces: SpaceStore, vectors: SpaceVectorStore, chunks: ChunkStore, codebase_key: int, space: SpaceRow
) -> None:
    await chunks.insert(codebase_key, space.space_key, [make_chunk(n) for n in range(5)], make_vectors(5), timeout_s=5)
    built = await spaces.build(B, {}, timeout_s=5)
    assert await vectors.count(built.space_key, timeout_s=5) == Coverage(5, 5)
    first = await vectors.find_pending(built.space_key, 0, 3, timeout_s=5)
    assert [chunk.content for chunk in first] == [make_chunk(n).content for n in range(3)]
    rest = await vectors.find_pending(built.space_key, first[-1].chunk_id, 3, timeout_s=5)
    assert len(rest) == 2
    await vectors.insert(built.space_key, first, make_vectors(3, seed=2), timeout_s=5)
    await chunks.insert(codebase_key, space.space_key, [make_chunk(9)], make_vectors(1), timeout_s=5)
    assert await vectors.count(built.space_key, timeout_s=5) == Coverage(6, 3)
    await fill(vectors, built)
    assert await vectors.count(built.space_key, timeout_s=5) == Coverage(6, 0)


async def test_a_chunk_that_changed_while_it_was_embedded_gets_no_vector_of_its_old_text(
    spaces: SpaceStore, vectors: SpaceVectorStore, chunks: ChunkStore, codebase_key: int, space: SpaceRow
) -> None:
    """Nobody could ever tell that it was wrong."""
    old, gone = make_chunk(1), make_chunk(2)
    await chunks.insert(codebase_key, space.space_key, [old, gone], make_vectors(2), timeout_s=5)
    built = await spaces.build(B, {}, timeout_s=5)
    pending = await vectors.find_pending(built.space_key, 0, 10, timeout_s=5)
    new = replace(make_chunk(1, text="def other(): ..."), file_sha256=old.file_sha256)
    await chunks.insert(codebase_key, space.space_key, [new], make_vectors(1), timeout_s=5)
    await chunks.delete_files(codebase_key, [FileSelector(gone.path)], timeout_s=5)
    await vectors.insert(built.space_key, pending, make_vectors(2), timeout_s=5)
    assert await vectors.count(built.space_key, timeout_s=5) == Coverage(1, 1)


async def test_equal_texts_of_a_codebase_share_a_vector(
    spaces: SpaceStore, vectors: SpaceVectorStore, chunks: ChunkStore, codebases: CodebaseStore, space: SpaceRow
) -> None:
    keys = [(await codebases.create(name, name, timeout_s=5)).codebase_key for name in ("one", "two")]
    for key in keys:
        rows = [make_chunk(n, text="the same") for n in range(2)]
        await chunks.insert(key, space.space_key, rows, make_vectors(2), timeout_s=5)
    built = await spaces.build(B, {}, timeout_s=5)
    pending = await vectors.find_pending(built.space_key, 0, 10, timeout_s=5)
    assert await vectors.copy(built.space_key, pending, timeout_s=5) == pending
    await vectors.insert(built.space_key, pending[:1], make_vectors(1), timeout_s=5)
    # Its own and its twin's are there; another codebase's is nobody's business.
    assert [c.codebase_key for c in await vectors.copy(built.space_key, pending, timeout_s=5)] == [keys[1]] * 2
    stored = await vectors.sample(built.space_key, 50, seed=1, timeout_s=5)
    assert len(stored) == 2
    np.testing.assert_array_equal(stored[0].vector_D, stored[1].vector_D)
    np.testing.assert_allclose(stored[0].vector_D, make_vectors(1)[0], atol=1e-3)


async def test_a_bad_vector_fills_nothing(
    spaces: SpaceStore, vectors: SpaceVectorStore, chunks: ChunkStore, codebase_key: int, space: SpaceRow
) -> None:
    await chunks.insert(codebase_key, space.space_key, [make_chunk(1), make_chunk(2)], make_vectors(2), timeout_s=5)
    built = await spaces.build(B, {}, timeout_s=5)
    pending = await vectors.find_pending(built.space_key, 0, 10, timeout_s=5)
    broken = make_vectors(2)
    broken[1] = np.nan
    with pytest.raises(BadVector):
        await vectors.insert(built.space_key, pending, broken, timeout_s=5)
    assert (await vectors.count(built.space_key, timeout_s=5)).pending_chunk_count == 2


async def test_activation_takes_full_coverage_and_a_verification(
    spaces: SpaceStore, vectors: SpaceVectorStore, chunks: ChunkStore, codebase_key: int, space: SpaceRow
) -> None:
    await chunks.insert(codebase_key, space.space_key, [make_chunk(1)], make_vectors(1), timeout_s=5)
    built = await spaces.build(B, {}, timeout_s=5)
    with pytest.raises(SpaceNotReady, match="not verified yet"):
        await spaces.activate(built.space_key, timeout_s=5)
    await spaces.set_verification(built.space_key, {"passed": False})
    with pytest.raises(SpaceNotReady, match="did not pass"):
        await spaces.activate(built.space_key, timeout_s=5)
    await spaces.set_verification(built.space_key, {"passed": True, "chunk_count": 1})
    with pytest.raises(SpaceIncomplete, match="1 chunks have no vector"):
        await spaces.activate(built.space_key, timeout_s=5)
    assert await spaces.get_active() == space
    await fill(vectors, built)
    assert (await spaces.activate(built.space_key, timeout_s=5)).state == "ACTIVE"
    former = await spaces.get(space.space_key)
    assert (former.state, former.filling) == ("STANDBY", True)
    assert (await spaces.activate(built.space_key, timeout_s=5)).activate_time is not None


@pytest.mark.parametrize(("change", "holds"), [(20, True), (21, False), (-20, True), (-21, False)])
async def test_a_verdict_holds_for_as_many_chunks_as_it_was_given_of(
    spaces: SpaceStore,
    vectors: SpaceVectorStore,
    chunks: ChunkStore,
    codebase_key: int,
    space: SpaceRow,
    change: int,
    holds: bool,
) -> None:
    """Of those that came, or stayed, after that nobody has looked at a vector."""
    rows = [make_chunk(number) for number in range(100 + max(change, 0))]
    await chunks.insert(codebase_key, space.space_key, rows[:100], make_vectors(100), timeout_s=20)
    ready = await make_ready(spaces, vectors)
    if change > 0:
        await chunks.insert(codebase_key, space.space_key, rows[100:], make_vectors(change), timeout_s=20)
        await fill(vectors, ready)
    else:
        await chunks.delete_files(codebase_key, [FileSelector(row.path) for row in rows[:-change]], timeout_s=20)
    if holds:
        assert (await spaces.activate(ready.space_key, timeout_s=5)).state == "ACTIVE"
        return
    with pytest.raises(
        SpaceNotReady, match=rf"100 chunks were there .*, {100 + change} are now; verify it again"
    ) as why:
        await spaces.activate(ready.space_key, timeout_s=5)
    # It is not waited for: only a verification changes it.
    assert not isinstance(why.value, SpaceIncomplete)
    assert await spaces.get_active() == space
    await spaces.set_verification(ready.space_key, {"passed": True, "chunk_count": 100 + change})
    assert (await spaces.activate(ready.space_key, timeout_s=5)).state == "ACTIVE"


async def test_a_space_whose_index_is_not_there_is_not_activated_but_rolled_back_to(
    database: Database,
    spaces: SpaceStore,
    vectors: SpaceVectorStore,
    chunks: ChunkStore,
    codebase_key: int,
    space: SpaceRow,
) -> None:
    """A codebase may have outgrown exact search since the space was verified; a way back must be open all the same."""
    rows = [make_chunk(number) for number in range(20)]
    await chunks.insert(codebase_key, space.space_key, rows, make_vectors(20), timeout_s=20)
    ready = await make_ready(spaces, vectors)
    index = f"embeddings_s{ready.space_key}_binary"

    async def is_refused() -> None:
        with pytest.raises(SpaceNotReady, match=f"without an index; verify it again: `duovec space reembed {B[:12]}`"):
            await spaces.activate(ready.space_key, above_chunk_count=19, timeout_s=5)

    await is_refused()
    assert await spaces.build_hnsw_index(ready.space_key, above_chunk_count=19)
    async with database.acquire(5) as connection:
        await connection.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = $1::text::regclass", index)
    await is_refused()  # as a build leaves it that was broken off
    assert await spaces.build_hnsw_index(ready.space_key, above_chunk_count=19)
    await spaces.activate(ready.space_key, above_chunk_count=19, timeout_s=5)
    assert (await spaces.activate(space.space_key, above_chunk_count=19, timeout_s=5)).fingerprint == A


async def test_a_request_of_the_former_space_neither_writes_nor_finds(
    spaces: SpaceStore,
    vectors: SpaceVectorStore,
    chunks: ChunkStore,
    database: Database,
    codebase_key: int,
    space: SpaceRow,
) -> None:
    """Its vector would be compared with those of another model, or be missing where everyone looks."""
    await chunks.insert(codebase_key, space.space_key, [make_chunk(1)], make_vectors(1), timeout_s=5)
    ready = await make_ready(spaces, vectors)
    query = SearchQuery(vector_D=make_vectors(1)[0], limit=10)
    search = SearchStore(database)
    with pytest.raises(SpaceMismatch):
        await search.search(["demo"], ready.space_key, query, timeout_s=5)
    await spaces.activate(ready.space_key, timeout_s=5)
    with pytest.raises(SpaceMismatch):
        await search.search(["demo"], space.space_key, query, timeout_s=5)
    with pytest.raises(SpaceMismatch):
        await chunks.insert(codebase_key, space.space_key, [make_chunk(2)], make_vectors(1), timeout_s=5)
    with pytest.raises(SpaceMismatch):
        await chunks.insert_reused(codebase_key, space.space_key, [make_chunk(1, path="copy.py")], timeout_s=5)
    assert (await vectors.count(space.space_key, timeout_s=5)).chunk_count == 1
    found = await search.search(["demo"], ready.space_key, query, timeout_s=5)
    assert (found.method, len(found.hits)) == (Method.EXACT, 1)


async def test_an_activation_waits_for_writes_that_began_before(
    spaces: SpaceStore, vectors: SpaceVectorStore, database: Database, chunks: ChunkStore, space: SpaceRow
) -> None:
    """A write between the last look and the change would leave a chunk that nobody finds."""
    ready = await make_ready(spaces, vectors)
    async with database.acquire(10) as writer:
        await spaces_module.hold_active(writer, space.space_key)
        activation = asyncio.create_task(spaces.activate(ready.space_key, timeout_s=5))
        done, _ = await asyncio.wait({activation}, timeout=0.2)
        assert not done
    assert (await activation).state == "ACTIVE"


async def test_a_roll_back_brings_the_former_space_back(
    spaces: SpaceStore, vectors: SpaceVectorStore, chunks: ChunkStore, codebase_key: int, space: SpaceRow
) -> None:
    with pytest.raises(SpaceNotFound, match="no space is kept"):
        await spaces.find_rollback_target()
    ready = await make_ready(spaces, vectors)
    await spaces.activate(ready.space_key, timeout_s=5)
    assert await spaces.find_rollback_target() == space.space_key
    await chunks.insert(codebase_key, ready.space_key, [make_chunk(1)], make_vectors(1), timeout_s=5)
    with pytest.raises(SpaceIncomplete, match="1 chunks"):
        await spaces.activate(space.space_key, timeout_s=5)
    await fill(vectors, space)
    assert (await spaces.activate(space.space_key, timeout_s=5)).fingerprint == A
    assert (await spaces.get(ready.space_key)).state == "STANDBY"


async def test_a_dropped_space_takes_its_vectors_along_and_nothing_else(
    spaces: SpaceStore,
    vectors: SpaceVectorStore,
    chunks: ChunkStore,
    database: Database,
    codebase_key: int,
    space: SpaceRow,
) -> None:
    await chunks.insert(codebase_key, space.space_key, [make_chunk(1)], make_vectors(1), timeout_s=5)
    ready = await make_ready(spaces, vectors)
    with pytest.raises(SpaceInUse, match="the active one"):
        await spaces.drop(space.space_key, timeout_s=5)
    await spaces.drop(ready.space_key, timeout_s=5)
    with pytest.raises(SpaceNotFound):
        await spaces.get(ready.space_key)
    pending = PendingChunk(1, codebase_key, "", "x", b"")
    with pytest.raises(SpaceNotFound):
        await vectors.insert(ready.space_key, [pending], make_vectors(1), timeout_s=5)
    assert (await vectors.count(space.space_key, timeout_s=5)).pending_chunk_count == 0
    async with database.acquire(5) as connection:
        tables = await connection.fetch(
            "SELECT relname FROM pg_class WHERE relname LIKE 'embeddings%' AND relkind IN ('r','p')"
        )
    assert {record["relname"] for record in tables} == {"embeddings", f"embeddings_s{space.space_key}"}
    # The models may make it again.
    assert (await spaces.build(B, {}, timeout_s=5)).state == "BUILDING"


async def test_a_space_that_was_active_a_moment_ago_is_not_dropped(
    spaces: SpaceStore, vectors: SpaceVectorStore, space: SpaceRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other gateways search it until they have looked again."""
    await spaces.activate((await make_ready(spaces, vectors)).space_key, timeout_s=5)
    with pytest.raises(SpaceInUse, match="drop it in"):
        await spaces.drop(space.space_key, timeout_s=5)
    monkeypatch.setattr(spaces_module, "MIN_IDLE_S", 0.0)
    await spaces.drop(space.space_key, timeout_s=5)


async def test_a_drop_that_was_broken_off_is_ended_by_the_next(
    spaces: SpaceStore, vectors: SpaceVectorStore, database: Database, space: SpaceRow
) -> None:
    ready = await make_ready(spaces, vectors)
    async with database.acquire(5, autocommit=True) as connection:
        await connection.execute("UPDATE spaces SET state = 'DROPPING' WHERE space_key = $1", ready.space_key)
        await connection.execute(f"ALTER TABLE embeddings DETACH PARTITION embeddings_s{ready.space_key}")
    with pytest.raises(SpaceNotReady, match="being dropped"):
        await spaces.activate(ready.space_key, timeout_s=5)
    with pytest.raises(SpaceInUse, match="being dropped"):
        await spaces.set_filling(ready.space_key, filling=True, timeout_s=5)
    await spaces.drop(ready.space_key, timeout_s=5)
    assert [row.space_key for row in await spaces.list()] == [space.space_key]


async def test_a_fill_is_started_stopped_and_noted(spaces: SpaceStore, space: SpaceRow) -> None:
    built = await spaces.build(B, {}, timeout_s=5)
    await spaces.set_verification(built.space_key, {"passed": False})
    started = await spaces.set_filling(built.space_key, filling=True, rate=20.0, timeout_s=5)
    assert (started.filling, started.fill_rate, started.verification) == (True, 20.0, None)
    await spaces.note_fill_error(built.space_key, "Triton is away")
    await spaces.add_truncated(built.space_key, 3)
    noted = await spaces.get(built.space_key)
    assert (noted.fill_error, noted.truncated_chunk_count) == ("Triton is away", 3)
    stopped = await spaces.set_filling(built.space_key, filling=False, timeout_s=5)
    assert (stopped.filling, stopped.fill_error) == (False, "")
    with pytest.raises(SpaceInUse, match="indexing fills it"):
        await spaces.set_filling(space.space_key, filling=True, timeout_s=5)


async def test_one_gateway_fills_a_space_at_a_time(spaces: SpaceStore, space: SpaceRow) -> None:
    lock = spaces.fill_lock
    async with lock(space.space_key, timeout_s=5) as first, lock(space.space_key, timeout_s=5) as second:
        assert (first, second) == (True, False)
    async with spaces.fill_lock(space.space_key, timeout_s=5) as again:
        assert again
