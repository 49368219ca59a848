"""Data sets from the real database: stored chunks, scopes, feedback, and the stored vectors' neighbours."""

import asyncio
import hashlib
import json
import shutil
import sysconfig
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import asyncpg
import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from open_folder import open_folder
from pgvector.asyncpg import register_vector
from typer.testing import CliRunner

from gateway.client.chunking import chunk_file
from gateway.client.files import find_files, read_source
from gateway.local.postgres import Postgres
from gateway.store.chunks import ChunkStore
from gateway.store.codebases import CodebaseStore
from gateway.store.migrations import migrate
from gateway.store.pool import Database
from gateway.store.rows import ChunkRow
from gateway.store.spaces import SpaceStore
from training.cli.main import app
from training.data import neighbours as neighbours_module
from training.data.mining import MiningSettings, mine
from training.data.sources import list_sources, read_units
from training.data.stored import QUERIES, read_stored
from training.data.unit import SPLITS, Example
from training.errors import TrainingError

SPACE = "a" * 64
LIBRARY = ("email", "http", "json", "logging", "wsgiref")


@dataclass(frozen=True)
class Filled:
    """A database with two codebases, and the files that they were made of."""

    url: str
    folder: Path


@pytest.fixture(scope="module")
async def filled(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Filled]:
    folder = tmp_path_factory.mktemp("files")
    for codebase, packages in (("library", LIBRARY), ("other", ("html", "xmlrpc"))):
        for name in packages:
            source = Path(sysconfig.get_path("stdlib"), name)
            shutil.copytree(source, folder / codebase / name, ignore=shutil.ignore_patterns("__pycache__"))
    with open_folder("duovec-mining-") as root:
        server = Postgres(root / "data", log_path=root / "postgres.log")
        await server.start()
        await migrate(server.url)
        database = (await Database.connect(server.url)).as_system()
        space = await SpaceStore(database).ensure_active(SPACE, {"code": "one"})
        for codebase in ("library", "other"):
            row = await CodebaseStore(database).create(codebase, codebase, timeout_s=5)
            rows = _chunks(folder / codebase)
            vectors = _unit_vectors(np.random.default_rng(len(rows)).standard_normal((len(rows), 2560)))
            await ChunkStore(database).insert(row.codebase_key, space.space_key, rows, vectors, timeout_s=60)
        async with database.acquire(10) as connection:
            await connection.execute(
                "INSERT INTO principals (principal_id, display_name) VALUES ('reader', 'R'), ('stranger', 'S')"
            )
            await connection.execute(
                "INSERT INTO grants (principal_key, codebase_key, role) SELECT principal_key, codebase_key, 'READ'"
                " FROM principals, codebases WHERE principal_id = 'reader' AND codebase_id = 'library'"
            )
        await database.close()
        yield Filled(server.url, folder)
        await server.stop()


def _chunks(folder: Path) -> list[ChunkRow]:
    """As the indexer sends them."""
    tree = find_files(folder)
    rows = []
    for path in tree.paths:
        source = read_source(tree, path)
        if not isinstance(source, bytes):
            continue
        chunks = chunk_file(path, source)
        for ordinal, one in enumerate(chunks):
            rows.append(
                ChunkRow(
                    path,
                    one.language,
                    one.symbol,
                    one.kind,
                    one.start_line,
                    one.end_line,
                    one.content,
                    hashlib.sha256(f"{one.symbol}\n{one.content}".encode()).digest(),
                    hashlib.sha256(source).digest(),
                    ordinal,
                    len(chunks),
                )
            )
    return rows


def _unit_vectors(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


async def _mine(filled: Filled, output: Path, *arguments: str) -> tuple[int, list[Example], str]:
    command = ["mine", "--database-url", filled.url, "--output", str(output), *arguments]
    result = await asyncio.to_thread(CliRunner().invoke, app, command)
    examples: list[Example] = []
    if result.exit_code == 0:
        for split in SPLITS:
            examples += [
                Example(**{name: tuple(value) if isinstance(value, list) else value for name, value in row.items()})
                for row in pq.read_table(output / f"{split}.parquet").to_pylist()
            ]
    return result.exit_code, examples, " ".join(result.stderr.split())


async def _chunk(connection: "asyncpg.Connection[asyncpg.Record]", symbol: str) -> asyncpg.Record:
    [row] = await connection.fetch(
        "SELECT chunk_id, codebase_key, content_sha256 FROM chunks WHERE symbol = $1 AND kind <> 'class'", symbol
    )
    return row


async def test_what_is_stored_gives_the_examples_that_the_files_give(filled: Filled) -> None:
    """A definition that was cut into chunks is whole again; nested ones alone are cut in another way."""
    settings, quiet = MiningSettings(negatives=0), lambda stage, done, total: None
    [listing] = list_sources([filled.folder / "library"], [])
    units = list(read_units(listing, Counter()))
    stored = await read_stored(filled.url, ["library"], principal=None, by_codebase=False, counts=Counter())
    assert {unit.package for unit in stored.units} == {unit.package for unit in units} >= {"library/email"}
    from_files = mine(units, settings, pools=[], counts=Counter(), report=quiet)
    from_chunks = mine(stored.units, settings, pools=[], counts=Counter(), report=quiet)
    files, chunks = (
        {(one.query, one.query_style, one.positive) for split in SPLITS for one in mined.examples[split]}
        for mined in (from_files, from_chunks)
    )
    assert len(files & chunks) > 0.9 * len(files | chunks) > 500


async def test_every_example_cites_its_chunks_and_what_one_must_be_allowed_to_read(
    filled: Filled, tmp_path: Path
) -> None:
    code, examples, err = await _mine(filled, tmp_path / "set")
    assert code == 0, err
    assert {one.scope for one in examples} >= {("library",), ("other",)}
    assert json.loads((tmp_path / "set" / "card.json").read_text())["scope"] == ["library", "other"]
    connection = await asyncpg.connect(filled.url)
    chunks = {
        f"chunk:{row['chunk_id']}": row
        for row in await connection.fetch(
            "SELECT chunk_id, codebase_id, content FROM chunks JOIN codebases USING (codebase_key)"
        )
    }
    await connection.close()
    for example in examples:
        cited = [chunks[row] for row in example.rows]
        others = [chunks[row] for row in example.negative_rows]
        assert {one["codebase_id"] for one in [*cited, *others]} == set(example.scope)
        for negative in example.negatives if example.query_style != "symbol" else ():
            assert any(row in one["content"] for row in negative.split("\n")[1:3] for one in others)
        code_row = example.positive.split("\n")[1]
        assert example.query_style == "symbol" or any(code_row in one["content"] for one in cited)


async def test_a_principal_sees_its_own_codebases_and_a_missing_one_is_named(filled: Filled, tmp_path: Path) -> None:
    code, examples, _ = await _mine(filled, tmp_path / "set", "--principal", "reader")
    assert code == 0
    assert {one.scope for one in examples} == {("library",)}
    for arguments, message in (
        (("--principal", "reader", "--codebase", "other"), "no codebase that reader may read"),
        (("--principal", "stranger"), "no codebase that stranger may read"),
        (("--principal", "nobody"), "--principal nobody: no such principal"),
        (("--codebase", "missing"), "--codebase missing: the database holds no codebase of that id"),
        (("--codebase", "other"), "INSUFFICIENT_TRAINING_DATA"),
    ):
        code, _, err = await _mine(filled, tmp_path / "none", *arguments)
        assert code == 1
        assert message in err or "packages with examples" in err
    assert not (tmp_path / "none").exists()


async def test_feedback_is_learned_from_and_stays_its_owners(filled: Filled) -> None:
    """Useful is the answer, useless the first negative; who mines for another principal does not get it."""
    connection = await asyncpg.connect(filled.url)
    useful = await _chunk(connection, "HTTPConnection.putheader")
    useless = await _chunk(connection, "HTTPConnection.endheaders")
    principal_key = await connection.fetchval("SELECT principal_key FROM principals WHERE principal_id = 'reader'")
    search = await connection.fetchrow(
        "INSERT INTO searches (search_id, principal_key, space, query_kind, query_text, hit_count, create_time)"
        " VALUES (gen_random_uuid(), $1, $2, 'QUERY', 'send one header of a request', 2, now())"
        " RETURNING search_key, search_id",
        principal_key,
        SPACE,
    )
    hits = [useful, useless]
    await connection.execute(
        "INSERT INTO searched_codebases VALUES ($1, $2, $3, $4, $5, '{1,2}', '{0.5,0.4}')",
        search["search_key"],
        useful["codebase_key"],
        principal_key,
        [hit["chunk_id"] for hit in hits],
        [hit["content_sha256"] for hit in hits],
    )
    for rank, hit in enumerate(hits, start=1):
        await connection.execute(
            "INSERT INTO feedback (search_key, codebase_key, chunk_id, content_sha256, rank, codebase_rank, useful,"
            " judge_time) VALUES ($1, $2, $3, $4, $5, $5, $6, now())",
            search["search_key"],
            hit["codebase_key"],
            hit["chunk_id"],
            hit["content_sha256"],
            rank,
            hit is useful,
        )
    try:
        for principal in (None, "reader"):
            stored = await read_stored(
                filled.url, ["library"], principal=principal, by_codebase=False, counts=Counter()
            )
            mined = mine(
                stored.units,
                MiningSettings(negatives=2),
                pools=[],
                counts=Counter(),
                report=lambda stage, done, total: None,
                extra=stored.feedback,
            )
            [example] = [one for split in SPLITS for one in mined.examples[split] if one.query_style == "feedback"]
            assert (example.query, example.symbol) == ("send one header of a request", "HTTPConnection.putheader")
            assert [negative.partition("\n")[0] for negative in example.negatives] == ["HTTPConnection.endheaders"]
            assert example.rows == (f"chunk:{useful['chunk_id']}", f"search:{search['search_id']}")
        await connection.execute(
            "INSERT INTO grants (principal_key, codebase_key, role)"
            " SELECT principal_key, $1, 'OWNER' FROM principals WHERE principal_id = 'stranger'",
            useful["codebase_key"],
        )
        stored = await read_stored(filled.url, [], principal="stranger", by_codebase=True, counts=Counter())
        assert stored.feedback == {}
        assert {unit.package for unit in stored.units} == {"library"}
    finally:
        await connection.execute("DELETE FROM searches")
        await connection.execute(
            "DELETE FROM grants WHERE principal_key IN (SELECT principal_key FROM principals"
            " WHERE principal_id = 'stranger')"
        )
        await connection.close()


async def test_stored_vectors_give_hard_negatives_but_not_what_is_as_near_as_an_answer(
    filled: Filled, tmp_path: Path
) -> None:
    """Cosine 0.8 to the answer is hard; 0.99 may be another answer."""
    connection = await asyncpg.connect(filled.url)
    generator = np.random.default_rng(5)
    answer, aside, beside = _unit_vectors(generator.standard_normal((3, 2560)))
    vectors = {
        "Message.get_content_charset": answer,
        "Message.get_boundary": 0.8 * answer + 0.6 * aside,
        "Message.get_content_disposition": 0.99 * answer + 0.14 * beside,
    }
    for symbol, vector in vectors.items():
        text = "[" + ",".join(f"{number:.6f}" for number in _unit_vectors(vector[None])[0]) + "]"
        row = await _chunk(connection, symbol)
        await connection.execute(
            "UPDATE embeddings SET embedding = $1::text::halfvec WHERE chunk_id = $2", text, row["chunk_id"]
        )
    await connection.close()
    code, examples, err = await _mine(filled, tmp_path / "set", "--codebase", "library", "--negatives", "1")
    assert code == 0, err
    asked = [one for one in examples if one.symbol == "Message.get_content_charset" and one.query_style != "symbol"]
    assert asked
    assert {negative.partition("\n")[0] for one in asked for negative in one.negatives} == {"Message.get_boundary"}


# Signs rank random vectors coarsely, which have no near ones.
@pytest.mark.parametrize(("index", "binary_above", "least"), [("binary", 0, 0.5), ("hnsw", 10**6, 0.9)])
async def test_neighbours_in_a_large_codebase_come_from_the_index_that_searches_ask(
    filled: Filled, monkeypatch: pytest.MonkeyPatch, index: str, binary_above: int, least: float
) -> None:
    """Compared whole, without any, they are those of numpy; an index gives nearly the same ones."""
    database = (await Database.connect(filled.url)).as_system()
    connection = await asyncpg.connect(filled.url)
    await register_vector(connection)
    rows = await connection.fetch(
        "SELECT chunk_id, embedding FROM embeddings JOIN codebases USING (codebase_key) WHERE codebase_id = 'library'"
        " ORDER BY chunk_id"
    )
    ids = [row["chunk_id"] for row in rows]
    vectors_ND = np.stack([row["embedding"].to_numpy().astype(np.float64) for row in rows])
    vectors_ND /= np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    asked = ids[:40]
    nearest = [np.argsort(-vectors_ND @ vectors_ND[own])[1:20] for own in range(40)]
    expected = {(ids[own], ids[other]) for own, others in enumerate(nearest) for other in others}
    progress: list[tuple[int, int]] = []

    async def neighbours() -> set[tuple[int, int]]:
        found = await neighbours_module._neighbours(filled.url, asked, lambda *now: progress.append(now))
        assert progress[-1] == (40, 40)
        by_chunk: dict[int, list[int]] = {}
        for own, other in found:
            by_chunk.setdefault(own, []).append(other)
        return {(own, other) for own, others in by_chunk.items() for other in others[:19]}

    assert len(await neighbours() & expected) >= len(expected) - 5  # equal to the last bit of a half, or nearly
    try:
        spaces = SpaceStore(database, binary_above_count=binary_above)
        assert await spaces.build_hnsw_index(1, above_chunk_count=0)
        monkeypatch.setattr(neighbours_module, "_EXACT_LIMIT", 100)
        assert len(await neighbours() & expected) >= least * len(expected)
        async with connection.transaction():
            await connection.execute(QUERIES["ask_index"])
            statement = neighbours_module._STATEMENTS[index]
            key = await connection.fetchval("SELECT codebase_key FROM codebases WHERE codebase_id = 'library'")
            plan = await connection.fetch(f"EXPLAIN {statement}", asked, 1, key, 30, 0.05)
        assert any(f"Index Scan using embeddings_s1_{index}" in line[0] for line in plan), plan
    finally:
        await connection.execute("DROP INDEX IF EXISTS embeddings_s1_hnsw, embeddings_s1_binary")
        await connection.close()
        await database.close()


async def test_a_deleted_codebase_is_in_no_later_set(filled: Filled, tmp_path: Path) -> None:
    database = (await Database.connect(filled.url)).as_system()
    codebase = await CodebaseStore(database).create("passing", "Passing", timeout_s=5)
    space = await SpaceStore(database).get_active()
    assert space is not None
    rows = [
        replace(row, path=f"again/{row.path}", content=row.content.replace("self", "this"))
        for row in _chunks(filled.folder / "other")
    ]
    vectors = _unit_vectors(np.random.default_rng(1).standard_normal((len(rows), 2560)))
    await ChunkStore(database).insert(codebase.codebase_key, space.space_key, rows, vectors, timeout_s=60)
    before = await read_stored(filled.url, [], principal=None, by_codebase=True, counts=Counter())
    assert "passing" in {unit.package for unit in before.units}
    await CodebaseStore(database).delete("passing", timeout_s=30)
    await database.close()
    after = await read_stored(filled.url, [], principal=None, by_codebase=True, counts=Counter())
    assert {unit.package for unit in after.units} == {"library", "other"}
    with pytest.raises(TrainingError, match="--codebase passing"):
        await read_stored(filled.url, ["passing"], principal=None, by_codebase=True, counts=Counter())
