"""Spaces while others work: encoders that are slow or hang, chunks that come meanwhile, drops beside writers."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from store_callers import make_caller, set_role
from store_samples import make_chunk, make_vectors

from duovec.v1 import chunk_pb2, embedding_service_pb2, index_service_pb2, vector_pb2
from gateway.embedding.meter import TokenMeter
from gateway.embedding.vectors import Vectors
from gateway.errors import BackendFault, DatabaseUnavailable, DeadlineExceeded, SpaceInUse, SpaceMismatch
from gateway.rpc.admission import Admission
from gateway.rpc.embedding_service import EmbeddingServicer
from gateway.rpc.index_service import IndexServicer
from gateway.rpc.quotas import Quotas
from gateway.rpc.space_service import SpaceServicer
from gateway.spaces import filling, reembedding
from gateway.spaces.filling import BesideFiller
from gateway.spaces.reembedding import Reembedder
from gateway.spaces.serving import ServedSpace, Serving
from gateway.store import spaces as spaces_module
from gateway.store.access import Quota
from gateway.store.caller import acting_with
from gateway.store.canary import find_canary
from gateway.store.chunks import ChunkStore
from gateway.store.codebases import CodebaseStore
from gateway.store.pool import Database
from gateway.store.rows import PendingChunk, SpaceRow
from gateway.store.space_vectors import SpaceVectorStore
from gateway.store.spaces import SpaceStore, hold_active

A, B = "a" * 64, "b" * 64
VERIFIED = {
    "passed": True,
    "faults": [],
    "time": "2026-01-01T00:00:00+00:00",
    "chunk_count": 0,
    "recomputed_count": 0,
    "min_cosine": 1.0,
    "recall": None,
    "retrieval": None,
}


class Texts(list[str]):
    """Texts that no encoder cuts, of a token each."""

    @property
    def token_count(self) -> int:
        return len(self)

    def select(self, indices: Sequence[int]) -> "Texts":
        return Texts(self[index] for index in indices)

    def is_truncated(self, index: int) -> bool:
        return False


class Embedder:
    """Gives each text a vector of its own, as long as a test lets it. A test double: it runs no model."""

    def __init__(self, fingerprint: str) -> None:
        self.space = SimpleNamespace(fingerprint=fingerprint)
        self.most_at_once = 1000
        self.poison = ""
        self.hangs = False
        self.delay_s = 0.0
        self.call_count = 0

    async def tokenize(self, texts: Sequence[str], input_type: Any) -> Texts:
        return Texts(texts)

    def excess(self, tokenized: Texts, index: int, field: str) -> None:
        return None

    def may_exceed(self, passage: str) -> bool:
        return False

    async def encode(self, tokenized: Texts, **options: Any) -> Vectors:
        self.call_count += 1
        if self.hangs:
            await asyncio.Event().wait()
        # Different ones, so that those who call at once do not go on in step.
        await asyncio.sleep(self.delay_s * random.uniform(0.2, 1.8))
        if len(tokenized) > self.most_at_once:
            raise DeadlineExceeded("too many texts")
        if self.poison and any(self.poison in text for text in tokenized):
            raise BackendFault("a text that breaks the backend")
        seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) for text in tokenized]
        return Vectors(np.concatenate([make_vectors(1, seed=seed) for seed in seeds]), {})

    embed = encode

    async def check_ready(self, *, timeout_s: float) -> None:
        return None

    prove = check_ready


@pytest.fixture
def spaces(database: Database) -> SpaceStore:
    return SpaceStore(database)


@pytest.fixture
def vectors(database: Database) -> SpaceVectorStore:
    return SpaceVectorStore(database)


def serving_of(spaces: SpaceStore, space: SpaceRow, *filled: ServedSpace) -> Serving:
    serving = Serving(spaces, None, ServedSpace(space.space_key, Embedder(A)))  # type: ignore[arg-type]
    serving._filled = filled
    return serving


async def build(spaces: SpaceStore, fingerprint: str, *, rate: float | None = None) -> ServedSpace:
    """A space beside the active one that is being filled."""
    row = await spaces.build(fingerprint, {}, timeout_s=5)
    await spaces.set_filling(row.space_key, filling=True, rate=rate, timeout_s=5)
    return ServedSpace(row.space_key, Embedder(fingerprint))  # type: ignore[arg-type]


async def store(chunks: ChunkStore, codebase_key: int, space: SpaceRow, numbers: Sequence[int]) -> list[PendingChunk]:
    rows = [make_chunk(number) for number in numbers]
    ids = await chunks.insert(codebase_key, space.space_key, rows, make_vectors(len(rows)), timeout_s=20)
    return [
        PendingChunk(chunk_id, codebase_key, row.symbol, row.content, row.text_sha256)
        for chunk_id, row in zip(ids, rows, strict=True)
    ]


@asynccontextmanager
async def reembedding_by(
    database: Database, spaces: SpaceStore, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[None]:
    monkeypatch.setattr(reembedding, "IDLE_PERIOD_S", 0.01)
    monkeypatch.setattr(reembedding, "PAUSE_AFTER_FAILURE_S", 0.01)
    task = asyncio.create_task(Reembedder(database, spaces, serving).run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.02)


async def waiting_locks(database: Database, kind: str) -> bool:
    async with database.acquire(5) as connection:
        found: bool = await connection.fetchval(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND locktype = $1)", kind
        )
    return found


async def test_encoders_that_hang_hold_up_one_batch_for_a_bounded_time(
    spaces: SpaceStore,
    vectors: SpaceVectorStore,
    chunks: ChunkStore,
    codebase_key: int,
    space: SpaceRow,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is stored in the active space must be acknowledged, whatever ails the other."""
    monkeypatch.setattr(filling, "_BESIDE_TIMEOUT_S", 3.0)
    beside = await build(spaces, B)
    beside.embedder.hangs = True
    filler = BesideFiller(vectors, serving_of(spaces, space, beside))
    stored = await store(chunks, codebase_key, space, range(3))
    await filler.fill(stored, timeout_s=60)
    await filler.fill(stored, timeout_s=60)
    assert beside.embedder.call_count == 1  # the second did not even ask
    assert (await vectors.count(beside.space_key, timeout_s=5)).pending_chunk_count == 3


async def test_slow_encoders_get_as_few_texts_as_they_can_answer_in_time(
    database: Database,
    spaces: SpaceStore,
    vectors: SpaceVectorStore,
    chunks: ChunkStore,
    codebase_key: int,
    space: SpaceRow,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A batch that is always broken off at its deadline would be begun anew for ever."""
    await store(chunks, codebase_key, space, range(150))
    beside = await build(spaces, B)
    beside.embedder.most_at_once = 5
    async with reembedding_by(database, spaces, serving_of(spaces, space, beside), monkeypatch):
        await until(lambda: _is_complete(vectors, beside))


async def test_a_text_that_fails_its_batch_holds_up_no_other(
    database: Database,
    spaces: SpaceStore,
    vectors: SpaceVectorStore,
    chunks: ChunkStore,
    codebase_key: int,
    space: SpaceRow,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await store(chunks, codebase_key, space, range(150))
    beside = await build(spaces, B)
    beside.embedder.poison = "def f3()"

    async def only_it_is_left() -> bool:
        pending = await vectors.find_pending(beside.space_key, 0, 2, timeout_s=5)
        told = "breaks the backend" in (await spaces.get(beside.space_key)).fill_error
        return told and [chunk.symbol for chunk in pending] == ["f3"]

    async with reembedding_by(database, spaces, serving_of(spaces, space, beside), monkeypatch):
        await until(only_it_is_left)


async def test_a_slow_fill_leaves_the_others_their_turns(
    database: Database,
    spaces: SpaceStore,
    vectors: SpaceVectorStore,
    chunks: ChunkStore,
    codebase_key: int,
    space: SpaceRow,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While a space is built over days, the one that is rolled back to must stay complete."""
    monkeypatch.setattr(reembedding, "_SLICE_S", 0.1)
    await store(chunks, codebase_key, space, range(200))
    slow, kept = await build(spaces, B, rate=5.0), await build(spaces, "c" * 64)
    async with reembedding_by(database, spaces, serving_of(spaces, space, slow, kept), monkeypatch):
        await until(lambda: _is_complete(vectors, kept))
    assert not await _is_complete(vectors, slow)


async def test_chunks_that_come_while_an_index_is_built_do_not_fail_the_verification(
    database: Database,
    spaces: SpaceStore,
    vectors: SpaceVectorStore,
    chunks: ChunkStore,
    codebase_key: int,
    space: SpaceRow,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise no space could be verified while somebody indexes."""
    await store(chunks, codebase_key, space, range(10))
    beside = await build(spaces, B)
    come = [make_chunk(number) for number in range(100, 103)]

    class Meanwhile(SpaceStore):
        async def build_hnsw_index(self, space_key: int, **options: Any) -> bool:
            if come:
                await chunks.insert(codebase_key, space.space_key, [come.pop()], make_vectors(1), timeout_s=5)
            return await super().build_hnsw_index(space_key, **options)

    async def is_verified() -> bool:
        return (await spaces.get(beside.space_key)).verification is not None

    async with reembedding_by(database, Meanwhile(database), serving_of(spaces, space, beside), monkeypatch):
        await until(is_verified)
    assert come == []
    found = (await spaces.get(beside.space_key)).verification
    assert found is not None
    assert (found["passed"], found["faults"], found["pending_chunk_count"]) == (True, [], 0)


async def _is_complete(vectors: SpaceVectorStore, space: ServedSpace) -> bool:
    return (await vectors.count(space.space_key, timeout_s=5)).pending_chunk_count == 0


async def test_a_drop_and_a_deletion_of_chunks_do_not_wait_for_each_other(
    database: Database,
    spaces: SpaceStore,
    vectors: SpaceVectorStore,
    chunks: ChunkStore,
    codebase_key: int,
    space: SpaceRow,
) -> None:
    """Deleting a chunk deletes its vectors from every table that refers to it, also from one that is being dropped."""
    (stored,) = await store(chunks, codebase_key, space, [1])
    beside = await build(spaces, B)
    await vectors.insert(beside.space_key, [stored], make_vectors(1), timeout_s=5)
    async with database.acquire(5, autocommit=True) as connection:
        await connection.execute("UPDATE spaces SET state = 'DROPPING' WHERE space_key = $1", beside.space_key)
        await connection.execute(f"ALTER TABLE embeddings DETACH PARTITION embeddings_s{beside.space_key}")
    async with database.acquire(20) as writer:
        await writer.execute("UPDATE chunks SET end_line = 3 WHERE chunk_id = $1", stored.chunk_id)
        drop = asyncio.create_task(spaces.drop(beside.space_key, timeout_s=20))
        await until(lambda: waiting_locks(database, "relation"))
        await writer.execute("DELETE FROM chunks WHERE chunk_id = $1", stored.chunk_id)
    await drop
    assert [row.space_key for row in await spaces.list()] == [space.space_key]
    assert (await vectors.count(space.space_key, timeout_s=5)).chunk_count == 0


async def test_a_drop_waits_for_another_that_was_broken_off(
    database: Database, spaces: SpaceStore, space: SpaceRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spaces_module, "_LOCK_TIMEOUT", "SET lock_timeout = '200ms'")
    first, second = await build(spaces, B), await build(spaces, "c" * 64)
    async with database.acquire(20) as reader:
        await reader.fetch("SELECT count(*) FROM embeddings")
        with pytest.raises(SpaceInUse, match="are being read"):
            await spaces.drop(first.space_key, timeout_s=10)
        with pytest.raises(SpaceInUse, match="the drop of another one"):
            await spaces.drop(second.space_key, timeout_s=10)
    for dropped in (first, second):
        await spaces.drop(dropped.space_key, timeout_s=10)
    assert [row.space_key for row in await spaces.list()] == [space.space_key]


async def test_the_time_before_a_drop_counts_from_the_change_itself(
    database: Database, spaces: SpaceStore, space: SpaceRow
) -> None:
    """An activation may wait long for its lock; others search the space to the end of that."""
    beside = await build(spaces, B)
    await spaces.set_verification(beside.space_key, {"passed": True, "chunk_count": 0})
    async with database.acquire(10) as writer:
        await hold_active(writer, space.space_key)
        activation = asyncio.create_task(spaces.activate(beside.space_key, timeout_s=10))
        await until(lambda: waiting_locks(database, "advisory"))
        released = await writer.fetchval("SELECT clock_timestamp()")
    await activation
    deactivated = (await spaces.get(space.space_key)).deactivate_time
    assert deactivated is not None
    assert deactivated >= released


async def test_what_is_there_is_not_judged_by_a_space_that_is_not_active(
    spaces: SpaceStore, chunks: ChunkStore, codebase_key: int, space: SpaceRow
) -> None:
    """It could be called unchanged without a vector where everyone looks."""
    await store(chunks, codebase_key, space, [1])
    beside = await build(spaces, B)
    with pytest.raises(SpaceMismatch):
        await chunks.find_existing(codebase_key, beside.space_key, [make_chunk(1)])


async def test_the_canary_is_only_found_in_the_active_space(
    database: Database, spaces: SpaceStore, space: SpaceRow
) -> None:
    beside = await build(spaces, B)
    (vector_D,) = make_vectors(1)
    for key in (space.space_key, beside.space_key):
        finding = find_canary(database, key, text="x", passage_D=vector_D, query_D=vector_D, timeout_s=5)
        if key == space.space_key:
            assert await finding > 0.99
        else:
            with pytest.raises(SpaceMismatch):
                await finding


def item(name: str, relied_on: str = "") -> index_service_pb2.IndexChunksRequest:
    return index_service_pb2.IndexChunksRequest(
        codebase_id="demo",
        item_id=name,
        space=relied_on,
        chunk=chunk_pb2.Chunk(
            path=f"{name}.py",
            language="python",
            kind="function",
            start_line=1,
            end_line=1,
            content=name,
            file_sha256=bytes(32),
            file_chunk_count=1,
        ),
    )


class Changing(Serving):
    """Another gateway activated another space, which this one sees when it looks."""

    async def refresh(self) -> None:
        (self._active,) = self._filled


async def test_a_text_is_not_embedded_in_another_space_than_it_names(spaces: SpaceStore, space: SpaceRow) -> None:
    """One item of a batch makes the gateway look; the others were checked against the space before."""
    beside = await build(spaces, B)
    serving = Changing(spaces, None, ServedSpace(space.space_key, Embedder(A)))  # type: ignore[arg-type]
    serving._filled = (beside,)

    async def check_key(**options: Any) -> None:
        return None

    servicer = EmbeddingServicer(
        serving,
        SimpleNamespace(check_key=check_key),  # type: ignore[arg-type]
        Admission(TokenMeter(), max_pending_tokens=1000, max_streams=1),
        Quotas(Quota()),
        timeout_s=5,
    )
    beside.embedder.embed = _embedding_nothing  # type: ignore[method-assign]
    replies = await servicer._answer(
        [
            embedding_service_pb2.StreamEmbedRequest(
                item_id=name[0], text="x", input_type=vector_pb2.INPUT_TYPE_PASSAGE, space=name
            )
            for name in (A, B)
        ]
    )
    assert [(reply.item_id, "caller relies on" in reply.error.message) for reply in replies] == [
        ("a", True),
        ("b", False),
    ]


async def _embedding_nothing(tokenized: Texts, **options: Any) -> Vectors:
    assert len(tokenized) == 1
    raise BackendFault("enough was seen")


async def test_an_item_is_not_stored_in_another_space_than_it_names(
    database: Database,
    spaces: SpaceStore,
    vectors: SpaceVectorStore,
    chunks: ChunkStore,
    codebases: CodebaseStore,
    codebase_key: int,
    space: SpaceRow,
) -> None:
    beside = await build(spaces, B)
    await spaces.set_verification(beside.space_key, {"passed": True, "chunk_count": 0})
    await spaces.activate(beside.space_key, timeout_s=5)
    serving = Changing(spaces, None, ServedSpace(space.space_key, Embedder(A)))  # type: ignore[arg-type]
    serving._filled = (beside,)
    servicer = IndexServicer(
        serving,
        chunks,
        vectors,
        codebases,
        Admission(TokenMeter(), max_pending_tokens=1000, max_streams=1),
        Quotas(Quota()),
        timeout_s=5,
        on_indexed=lambda: None,
    )
    items = [item(name, relied_on) for name, relied_on in (("before", A), ("now", B), ("any", ""), ("wrong", "d" * 64))]
    replies = await servicer._answer(items[0], codebase_key, items)
    assert {reply.item_id: reply.WhichOneof("outcome") for reply in replies} == {
        "before": "error",
        "now": "indexed",
        "any": "indexed",
        "wrong": "error",
    }
    assert len(replies) == len(items)
    assert (await vectors.count(beside.space_key, timeout_s=5)).chunk_count == 2


async def test_a_space_is_activated_while_chunks_stream_in(
    database: Database,
    spaces: SpaceStore,
    vectors: SpaceVectorStore,
    chunks: ChunkStore,
    codebases: CodebaseStore,
    codebase_key: int,
    space: SpaceRow,
) -> None:
    """There is always some batch that is stored in the active space and not yet in the other."""
    encoders = {"encoder": "x", "dimension": 1, "precision": "fp32"}
    row = await spaces.build(B, {"code": encoders, "text": encoders}, timeout_s=5)
    # So many that those which stream in meanwhile do not make it another space than was verified.
    stored = await store(chunks, codebase_key, space, range(1000))
    await vectors.insert(row.space_key, stored, make_vectors(len(stored)), timeout_s=20)
    await spaces.set_verification(row.space_key, VERIFIED | {"chunk_count": len(stored)})
    beside = ServedSpace(row.space_key, Embedder(B))  # type: ignore[arg-type]
    beside.embedder.delay_s = 1.0

    class Following(Serving):
        async def refresh(self) -> None:
            self._active, self._filled = beside, (ServedSpace(space.space_key, Embedder(A)),)  # type: ignore[arg-type]

    serving = Following(spaces, None, ServedSpace(space.space_key, Embedder(A)))  # type: ignore[arg-type]
    serving._filled = (beside,)
    indexing = IndexServicer(
        serving,
        chunks,
        vectors,
        codebases,
        Admission(TokenMeter(), max_pending_tokens=1000, max_streams=1),
        Quotas(Quota()),
        timeout_s=20,
        on_indexed=lambda: None,
    )
    replies: list[index_service_pb2.IndexChunksResponse] = []

    async def stream(name: int) -> None:
        number = 0
        while True:
            one = item(f"n{name}-{number}")
            replies.extend(await indexing._answer(one, codebase_key, [one]))
            number += 1

    async def embedder(*args: Any) -> Any:
        return beside.embedder

    async def find(*args: Any) -> None:
        return None

    catalog: Any = SimpleNamespace(embedder=embedder, find=find)
    changing = SpaceServicer(spaces, vectors, catalog, serving, None, timeout_s=30)  # type: ignore[arg-type]
    streams = [asyncio.create_task(stream(name)) for name in range(8)]
    try:
        while len(replies) < 16:
            assert not any(task.done() for task in streams)
            await asyncio.sleep(0.02)
        await changing._activate(row)
        count = len(replies)
        while len(replies) < count + 16:
            assert not any(task.done() for task in streams)
            await asyncio.sleep(0.02)
    finally:
        for task in streams:
            task.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
    assert all(reply.HasField("indexed") for reply in replies)
    assert (await vectors.count(beside.space_key, timeout_s=5)).pending_chunk_count == 0


async def test_those_who_may_write_fill_the_other_spaces_as_themselves(
    database: Database,
    caller_database: Database,
    spaces: SpaceStore,
    vectors: SpaceVectorStore,
    chunks: ChunkStore,
    codebase_key: int,
    space: SpaceRow,
) -> None:
    """Under row-level security, and nothing where they may only read."""
    stored = await store(chunks, codebase_key, space, range(4))
    beside = await build(spaces, B)
    filler = BesideFiller(SpaceVectorStore(caller_database), serving_of(spaces, space, beside))
    for name, role, left in (("reader", "READ", 4), ("stranger", None, 4), ("writer", "WRITE", 0)):
        key = await make_caller(database, name)
        await set_role(database, key, codebase_key, role)
        with acting_with(key):
            await filler.fill(stored, timeout_s=10)
        assert (await vectors.count(beside.space_key, timeout_s=5)).pending_chunk_count == left


async def test_a_change_that_was_made_is_not_said_to_have_failed(
    spaces: SpaceStore, vectors: SpaceVectorStore, space: SpaceRow
) -> None:
    """Who rolls back again because of it goes forth."""
    encoders = {"encoder": "x", "dimension": 1, "precision": "fp32"}
    row = await spaces.build(B, {"code": encoders, "text": encoders}, timeout_s=5)
    await spaces.set_verification(row.space_key, VERIFIED)

    class Blind(Serving):
        async def refresh(self) -> None:
            raise DatabaseUnavailable("gone for a moment")

    async def embedder(*args: Any) -> Any:
        return Embedder(B)

    async def find(*args: Any) -> None:
        return None

    serving = Blind(spaces, None, ServedSpace(space.space_key, Embedder(A)))  # type: ignore[arg-type]
    catalog: Any = SimpleNamespace(embedder=embedder, find=find)
    changing = SpaceServicer(spaces, vectors, catalog, serving, None, timeout_s=30)  # type: ignore[arg-type]
    assert (await changing._activate(row)).fingerprint == B
