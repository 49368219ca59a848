"""What filling gives and verifying finds, on the real encoders, PostgreSQL and a corpus of real functions."""

import argparse
import inspect
import json.decoder
import json.encoder
import textwrap
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest
from open_folder import open_folder

from gateway.embedding.embedder import Embedder
from gateway.embedding.proof import ProvenEncoders
from gateway.embedding.space import InputType, Space, passage_of
from gateway.embedding.triton import Priority, TritonClient
from gateway.errors import SpaceNotReady
from gateway.local.postgres import Postgres
from gateway.local.triton import Triton
from gateway.spaces import verification
from gateway.spaces.filling import fill
from gateway.spaces.serving import ServedSpace
from gateway.spaces.verification import Verification, question_of, verify
from gateway.store.migrations import migrate
from gateway.store.pool import Database
from gateway.store.rows import PendingChunk
from gateway.store.space_vectors import SpaceVectorStore
from gateway.store.spaces import SpaceStore

ENCODERS = ("compact-code", "compact-text")
CODEBASE = 1
# Beyond an encoder's 512 tokens.
LONG = "def long():\n" + "\n".join(f"    value_{number} = compute(value_{number})" for number in range(120))


@dataclass
class Site:
    """A database with an active space and one beside it, both of the same encoders."""

    database: Database
    embedder: Embedder
    active: ServedSpace
    beside: ServedSpace
    connection: "asyncpg.Connection[asyncpg.Record]"

    async def verify(self) -> Verification:
        return await verify(self.database, self.beside, self.active, seed=2560, timeout_s=60)


@pytest.fixture(scope="module")
def site_dir() -> Iterator[Path]:
    """A folder that the account of PostgreSQL may enter."""
    with open_folder("duovec-spaces-") as root:
        yield root


@pytest.fixture(scope="module")
async def embedder(site_dir: Path, published_models: Path) -> AsyncIterator[Embedder]:
    server = Triton(published_models, ENCODERS, work_dir=site_dir / "triton", log_path=site_dir / "triton.log")
    await server.start()
    client = TritonClient(server.url, concurrency=8)
    yield Embedder(
        Space.load(published_models, code_encoder=ENCODERS[0], text_encoder=ENCODERS[1]), ProvenEncoders(client)
    )
    await client.close()
    await server.stop()


@pytest.fixture(scope="module")
async def postgres(site_dir: Path) -> AsyncIterator[Postgres]:
    server = Postgres(site_dir / "postgres", log_path=site_dir / "postgres.log")
    await server.start()
    await migrate(server.url)
    yield server
    await server.stop()


def functions() -> list[str]:
    """Real functions, many of them with docstrings; short ones, for every verification embeds them again."""
    sources = set()
    for module in (argparse, json.decoder, json.encoder, textwrap):
        classes = [owner for _, owner in inspect.getmembers(module, inspect.isclass)]
        for owner in (module, *classes):
            for _, function in inspect.getmembers(owner, inspect.isfunction):
                if function.__module__ == module.__name__:
                    sources.add(inspect.getsource(function))
    return sorted(source for source in sources if len(source) <= 1000)


@pytest.fixture(scope="module")
async def site(postgres: Postgres, embedder: Embedder) -> AsyncIterator[Site]:
    """Every chunk has its vector in both spaces, given by `fill`."""
    database = (await Database.connect(postgres.url)).as_system()
    store, vectors = SpaceStore(database), SpaceVectorStore(database)
    first = await store.ensure_active(embedder.space.fingerprint, embedder.space.identity)
    second = await store.build("b" * 64, embedder.space.identity, timeout_s=10)
    active, beside = ServedSpace(first.space_key, embedder), ServedSpace(second.space_key, embedder)
    connection = await asyncpg.connect(postgres.url)
    await connection.execute("INSERT INTO codebases (codebase_id, display_name) VALUES ('real', 'Real')")
    texts = [*functions(), LONG]
    await connection.execute(
        "INSERT INTO chunks (codebase_key, path, language, symbol, kind, start_line, end_line, content, content_sha256,"
        " file_sha256, ordinal, file_chunk_count)"
        " SELECT $1, n || '.py', 'python', '', 'function', 1, 1, content, sha256(content::bytea), sha256('1'), 0, 1"
        " FROM unnest($2::text[]) WITH ORDINALITY AS t (content, n)",
        CODEBASE,
        [text.replace("\\", "/") for text in texts],
    )
    for space in (active, beside):
        while pending := await vectors.find_pending(space.space_key, 0, 64, timeout_s=10):
            outcome = await fill(vectors, space, pending, truncate=True, timeout_s=60)
            assert outcome.errors == {}
    yield Site(database, embedder, active, beside, connection)
    await connection.close()
    await database.close()


async def test_a_sound_space_passes(site: Site) -> None:
    found = await site.verify()
    assert (found.passed, found.faults, found.notices) == (True, [], [])
    assert found.pending_chunk_count == 0
    assert found.recomputed_count >= 50
    assert found.min_cosine > 0.9999
    assert found.recall is None  # everything is compared
    assert found.retrieval is not None
    # The same encoders: the same ranks.
    assert found.retrieval.mrr == found.retrieval.active_mrr > 0.5
    assert found.retrieval.query_count >= 20


async def test_filled_vectors_are_those_of_the_texts(site: Site) -> None:
    """Against the embedder alone, one text at a time, by numpy."""
    sample = await SpaceVectorStore(site.database).sample(site.beside.space_key, 10, seed=1, timeout_s=10)
    for stored in sample:
        passage = passage_of(stored.chunk.symbol, stored.chunk.content)
        tokenized = await site.embedder.tokenize([passage], InputType.PASSAGE)
        alone = await site.embedder.encode(tokenized, priority=Priority.BULK, timeout_s=30)
        assert float(alone.vectors_BV[0] @ stored.vector_D) > 0.999


async def test_what_would_be_cut_is_left_out_or_counted(site: Site) -> None:
    vectors = SpaceVectorStore(site.database)
    record = await site.connection.fetchrow("SELECT * FROM chunks WHERE content = $1", LONG)
    await site.connection.execute(
        "DELETE FROM embeddings WHERE chunk_id = $1 AND space_key = $2", record["chunk_id"], site.beside.space_key
    )
    chunk = PendingChunk(record["chunk_id"], CODEBASE, "", LONG, record["content_sha256"])
    left = await fill(vectors, site.beside, [chunk], truncate=False, timeout_s=30)
    assert (left.left_count, left.truncated_count) == (1, 0)
    assert "1 of" in (await site.verify()).faults[0]
    cut = await fill(vectors, site.beside, [chunk], truncate=True, timeout_s=30)
    assert (cut.left_count, cut.truncated_count) == (0, 1)
    assert (await site.verify()).passed


async def test_vectors_of_other_texts_are_seen(site: Site) -> None:
    """Each is a sound vector of this very model, only of another chunk."""
    await site.connection.execute("CREATE TEMP TABLE kept (LIKE embeddings)")
    await site.connection.execute(
        "INSERT INTO kept SELECT * FROM embeddings WHERE space_key = $1", site.beside.space_key
    )
    await site.connection.execute(
        "UPDATE embeddings e SET embedding = o.embedding FROM ("
        " SELECT chunk_id, lag(embedding, 3) OVER (ORDER BY chunk_id) AS embedding FROM kept) o"
        " WHERE e.space_key = $1 AND e.chunk_id = o.chunk_id AND o.embedding IS NOT NULL",
        site.beside.space_key,
    )
    found = await site.verify()
    assert not found.passed
    assert "embedded again" in found.faults[0]
    assert "MRR@10" in found.faults[1]
    await site.connection.execute(
        "UPDATE embeddings e SET embedding = k.embedding FROM kept k WHERE e.space_key = k.space_key"
        " AND e.chunk_id = k.chunk_id"
    )
    await site.connection.execute("DROP TABLE kept")
    assert (await site.verify()).passed


async def test_an_index_that_is_not_there_yet_is_waited_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that was killed may have left the building of it behind: exact search would be compared with itself."""
    monkeypatch.setattr(verification, "EXACT_LIMIT", 10)
    with pytest.raises(SpaceNotReady, match="not built yet"):
        await site.verify()


async def test_an_index_is_compared_with_numpy(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "EXACT_LIMIT", 10)
    assert await SpaceStore(site.database).build_hnsw_index(site.beside.space_key, above_chunk_count=-1)
    found = await site.verify()
    assert found.recall is not None
    assert (found.recall.method, found.passed) == ("BINARY", True)
    assert found.recall.mean >= 0.99
    for least in ("MIN_RECALL", "MIN_QUERY_RECALL"):
        with monkeypatch.context() as patch:
            patch.setattr(verification, least, 1.01)
            [fault] = (await site.verify()).faults
            assert "recall@10" in fault


async def test_what_cannot_be_compared_is_said(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A space that retrieves nothing would pass in silence where chunks have no comments."""
    monkeypatch.setattr(verification, "MIN_QUESTIONS", 1000)
    found = await site.verify()
    assert (found.passed, found.retrieval) == (True, None)
    [notice] = found.notices
    assert "retrieval was not compared" in notice and "at least 1000 are needed" in notice


@pytest.mark.parametrize(
    ("content", "question"),
    [
        ('def f():\n    """Parse the header of a request.\n\n    Args:"""', "Parse the header of a request"),
        ("// Opens a socket and listens.\nfunc f() {}", "Opens a socket and listens."),
        ("/** Adds two numbers together. */\nint add();", "Adds two numbers together."),
        ("# Counts all words\ndef f(): '''other one here'''", "Counts all words"),
        ("def f(): return 1", None),
        ('"""Short."""', None),
        ("// See https://example.org for more\nint f();", "See https://example.org for more"),
        # As long as a chunk may be: in time that grows with the square, each would stop the gateway for hours.
        ("/" + "*" * 999_999, None),
        ("x" + "\n" * 999_999, None),
        ("/*" * 500_000, None),
    ],
)
def test_a_question_is_what_a_chunk_says_about_itself(content: str, question: str | None) -> None:
    assert question_of(content) == question
