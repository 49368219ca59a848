"""The embedding cache between the real Triton and the real PostgreSQL."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import asyncpg
import cache_writes
import grpc
import numpy as np
import pytest
from open_folder import open_folder
from tritonclient.grpc.aio import InferenceServerClient

from duovec.v1 import embedding_service_pb2 as pb
from duovec.v1 import embedding_service_pb2_grpc as pb_grpc
from gateway.client.client import Client
from gateway.client.errors import ClientError
from gateway.client.indexer import index_tree
from gateway.embedding.embedder import Embedder
from gateway.embedding.proof import ProvenEncoders
from gateway.embedding.space import InputType, Space
from gateway.embedding.triton import Priority, TritonClient
from gateway.embedding.vectors import Vectors
from gateway.local.postgres import Postgres
from gateway.local.triton import Triton
from gateway.server import serve
from gateway.settings import Settings
from gateway.store.api_key import ApiKey
from gateway.store.cached_embeddings import CachedEmbeddings
from gateway.store.caller import acting_with
from gateway.store.migrations import migrate
from gateway.store.pool import Database
from gateway.store.principals import PrincipalStore
from gateway.store.spaces import SpaceStore

Table: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
ENCODERS = ("compact-code", "compact-text")
TEXTS = [f"def function_{number}(value):\n    return value * {number}\n" for number in range(60)]


@pytest.fixture(scope="module")
def cache_dir() -> Iterator[Path]:
    """A folder that the account of PostgreSQL may enter."""
    with open_folder("duovec-cache-") as root:
        yield root


@pytest.fixture(scope="module")
async def postgres(cache_dir: Path) -> AsyncIterator[Postgres]:
    server = Postgres(cache_dir / "postgres", log_path=cache_dir / "postgres.log")
    await server.start()
    await migrate(server.url)
    yield server
    await server.stop()


@pytest.fixture(scope="module")
async def triton(cache_dir: Path, published_models: Path) -> AsyncIterator[Triton]:
    server = Triton(published_models, ENCODERS, work_dir=cache_dir / "triton", log_path=cache_dir / "triton.log")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def cache_client(
    postgres: Postgres, triton: Triton, published_models: Path, cache_dir: Path
) -> AsyncIterator[Client]:
    """As the administrator of a gateway in this process, so that the test can lock its table."""
    settings = Settings(
        database_url=postgres.url,
        triton_url=triton.url,
        model_repository=published_models,
        listen="127.0.0.1:0",
        admin_key_file=cache_dir / "admin.key",
        drain_s=1,
    )
    async with serve(settings) as port:
        key = (cache_dir / "admin.key").read_text().strip()
        with Client(f"127.0.0.1:{port}", api_key=key) as client:
            yield client


@pytest.fixture
def patient_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a look-up may take longer than a call waits for it, and the cache is given up for a while."""
    monkeypatch.setattr("gateway.embedding.cache._READ_TIMEOUT_S", 30.0)


@pytest.fixture
async def table(postgres: Postgres) -> AsyncIterator[Table]:
    """A connection to look at the cache's rows; it begins empty."""
    connection = await asyncpg.connect(postgres.url)
    await connection.execute("DELETE FROM cached_embeddings")
    yield connection
    await connection.close()


async def rows_run(triton: Triton) -> list[int]:
    """Rows that each encoder has run, as Triton itself counts them."""
    async with InferenceServerClient(triton.url) as client:
        statistics = [await client.get_inference_statistics(name) for name in ENCODERS]
    return [sum(model.inference_count for model in entry.model_stats) for entry in statistics]


async def counted_rows(triton: Triton, least: list[int]) -> list[int]:
    """These rows, once they are as many: Triton answers before it counts."""
    async with asyncio.timeout(60):
        while any(now < then for now, then in zip(await rows_run(triton), least, strict=True)):
            await asyncio.sleep(0.05)
    return await rows_run(triton)


async def until_rows(table: Table, count: int) -> None:
    """Replies do not wait for the rows, and until their writer has ended memory answers instead of them."""
    async with asyncio.timeout(60):
        while await table.fetchval("SELECT count(*) FROM cached_embeddings") < count or cache_writes.are_under_way():
            await asyncio.sleep(0.01)


@pytest.mark.usefixtures("patient_cache")
async def test_triton_runs_every_text_once(
    postgres: Postgres, triton: Triton, published_models: Path, table: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand random requests of one principal, 50 at a time: Triton counts each text once an encoder."""
    # On a busy machine Triton would be woken, by rows that count.
    monkeypatch.setattr("gateway.embedding.triton._PATIENCE_S", 60.0)
    space = Space.load(published_models, code_encoder=ENCODERS[0], text_encoder=ENCODERS[1])
    database = await Database.connect(postgres.url)
    system = database.as_system()
    await SpaceStore(system).ensure_active(space.fingerprint, space.identity)
    key = ApiKey.generate()
    async with system.acquire(5) as connection:
        await connection.execute(
            "WITH p AS (INSERT INTO principals (principal_id, display_name) VALUES ('counted', 'x')"
            " RETURNING principal_key)"
            " INSERT INTO api_keys (key_id, principal_key, secret_sha256, display_name)"
            " SELECT $1, principal_key, $2, '' FROM p",
            key.key_id,
            key.secret_sha256,
        )
    client = TritonClient(triton.url, concurrency=8)
    embedder = Embedder(space, ProvenEncoders(client), CachedEmbeddings(database, space.fingerprint, max_texts=1000))
    idle = await rows_run(triton)
    reference_BV = await embed(embedder.encode, embedder, TEXTS)
    # And a row by which the version is proven.
    before = await counted_rows(triton, [count + len(TEXTS) + 1 for count in idle])
    choose = random.Random(3)
    used: set[int] = set()
    distances: list[float] = []

    async def request(numbers: Sequence[int]) -> None:
        used.update(numbers)
        vectors_BV = await embed(embedder.embed, embedder, [TEXTS[number] for number in numbers])
        distances.extend(1 - np.einsum("bv,bv->b", vectors_BV, reference_BV[list(numbers)]))

    with acting_with(key):
        await PrincipalStore(database).check_key(timeout_s=5)
        for _ in range(20):
            await asyncio.gather(
                *(request(choose.choices(range(60), k=choose.choice([1, 1, 2, 9]))) for _ in range(50))
            )
    after = await counted_rows(triton, [count + len(used) for count in before])
    await embedder.close()
    await client.close()
    await database.close()
    assert [now - then for now, then in zip(after, before, strict=True)] == [len(used)] * 2 == [60, 60]
    assert max(distances) <= 1e-4
    assert embedder.caching is not None
    counters = embedder.caching.counters
    assert counters.miss_count == 60
    assert counters.hit_count + counters.miss_count + counters.shared_count == len(distances)


async def embed(how: object, embedder: Embedder, texts: Sequence[str]) -> "np.typing.NDArray[np.float64]":
    tokenized = await embedder.tokenize(texts, InputType.PASSAGE)
    vectors: Vectors = await how(tokenized, priority=Priority.INTERACTIVE, timeout_s=30)  # type: ignore[operator]
    assert not vectors.errors
    return vectors.vectors_BV.astype(np.float64)


def ask(client: Client, *texts: str) -> pb.EmbedResponse:
    return client.embed_response(list(texts), "passage")


@pytest.mark.usefixtures("patient_cache")
async def test_the_reply_says_what_was_cached(cache_client: Client, table: Table) -> None:
    """The same bytes, for the same principal by any of its keys, and in a stream, too; for another it is embedded."""
    first = await asyncio.to_thread(ask, cache_client, "x = 1", "y = 2")
    await until_rows(table, 2)
    again = await asyncio.to_thread(ask, cache_client, "z = 3", "x = 1")
    assert [row.cached for row in first.embeddings] == [False, False]
    assert [row.cached for row in again.embeddings] == [False, True]
    assert again.embeddings[1].vector == first.embeddings[0].vector
    assert again.embeddings[1].code_token_count == first.embeddings[0].code_token_count
    await asyncio.to_thread(cache_client.access.create_principal, "other")
    other_key = (await asyncio.to_thread(cache_client.access.create_api_key, "other")).key
    with Client(cache_client.endpoint, api_key=other_key) as other:
        replies = [await asyncio.to_thread(ask, other, "x = 1")]
        await until_rows(table, 4)
        replies.append(await asyncio.to_thread(ask, other, "x = 1"))
        second_key = (await asyncio.to_thread(other.access.create_api_key)).key
    with Client(cache_client.endpoint, api_key=second_key) as other:
        replies.append(await asyncio.to_thread(ask, other, "x = 1"))
    assert [reply.embeddings[0].cached for reply in replies] == [False, True, True]
    async with grpc.aio.insecure_channel(cache_client.endpoint) as channel:
        call = pb_grpc.EmbeddingServiceStub(channel).StreamEmbed(
            iter([pb.StreamEmbedRequest(item_id="1", text="x = 1", input_type=2)]),
            metadata=[("authorization", f"Bearer {second_key}")],
            timeout=30,
        )
        assert [reply.embedding.cached async for reply in call] == [True]


@pytest.mark.usefixtures("patient_cache")
async def test_a_query_that_repeats_needs_no_encoder(
    cache_client: Client, table: Table, tmp_path: Path, triton: Triton
) -> None:
    """And indexing leaves nothing in the cache."""
    (tmp_path / "a.py").write_text("def add(a, b):\n    return a + b\n")
    await asyncio.to_thread(index_tree, cache_client, tmp_path, "cached")
    assert await table.fetchval("SELECT count(*) FROM cached_embeddings") == 0
    found = await asyncio.to_thread(cache_client.search, "cached", "sum of two")
    await until_rows(table, 1)
    await triton.stop()
    try:
        again = await asyncio.to_thread(cache_client.search, "cached", "sum of two")
        with pytest.raises(ClientError) as failure:
            await asyncio.to_thread(cache_client.search, "cached", "something else")
    finally:
        await triton.start()
    assert failure.value.code == grpc.StatusCode.UNAVAILABLE
    assert [(hit.chunk_id, hit.score) for hit in again.hits] == [(hit.chunk_id, hit.score) for hit in found.hits]


@pytest.mark.usefixtures("patient_cache")
async def test_a_text_that_is_too_long_is_refused_though_its_start_is_cached(
    cache_client: Client, table: Table
) -> None:
    """Cut where the caller asked for it: the next may not want it cut."""
    text = "word " * 3000
    response = await asyncio.to_thread(cache_client.embed_response, [text], "passage", truncate=True)
    assert response.embeddings[0].truncated
    await until_rows(table, 1)
    with pytest.raises(ClientError, match="reads at most"):
        await asyncio.to_thread(ask, cache_client, text)


@pytest.mark.usefixtures("patient_cache")
@pytest.mark.parametrize("fault", ["locked", "missing"])
async def test_a_cache_that_is_out_of_order_costs_no_request(
    cache_client: Client, table: Table, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is slow, the second fails; the encoders answer, and no row is missed afterwards."""
    # After the first write rows are evicted; while that goes on its text is answered from memory.
    await asyncio.to_thread(ask, cache_client, "x = 0")
    await until_rows(table, 1)
    first = await asyncio.to_thread(ask, cache_client, "x = 1")
    await until_rows(table, 2)
    monkeypatch.setattr("gateway.embedding.cache._READ_TIMEOUT_S", 0.25)
    if fault == "locked":
        async with table.transaction():
            await table.execute("LOCK TABLE cached_embeddings")
            during = await asyncio.to_thread(ask, cache_client, "x = 1")
    else:
        await table.execute("ALTER TABLE cached_embeddings RENAME TO away")
        during = await asyncio.to_thread(ask, cache_client, "x = 1")
        await table.execute("ALTER TABLE away RENAME TO cached_embeddings")
    assert not during.embeddings[0].cached
    vectors = [np.frombuffer(reply.embeddings[0].vector.float32_le, dtype="<f4") for reply in (first, during)]
    assert 1 - vectors[0].astype(np.float64) @ vectors[1] <= 1e-4
    async with asyncio.timeout(60):
        while not (await asyncio.to_thread(ask, cache_client, "x = 1")).embeddings[0].cached:
            await asyncio.sleep(0.05)


@pytest.mark.usefixtures("patient_cache")
async def test_a_revoked_key_gets_nothing_from_the_cache(cache_client: Client, table: Table) -> None:
    await asyncio.to_thread(cache_client.access.create_principal, "leaver")
    key = await asyncio.to_thread(cache_client.access.create_api_key, "leaver")
    with Client(cache_client.endpoint, api_key=key.key) as leaver:
        await asyncio.to_thread(ask, leaver, "x = 1")
        await until_rows(table, 1)
        await asyncio.to_thread(cache_client.access.revoke_api_key, key.key.split("_")[1])
        with pytest.raises(ClientError, match="was revoked"):
            await asyncio.to_thread(ask, leaver, "x = 1")
    await asyncio.to_thread(cache_client.access.delete_principal, "leaver")
    assert await table.fetchval("SELECT count(*) FROM cached_embeddings") == 0
