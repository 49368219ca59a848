"""Backup by pg_dump and restoring into another server, by the commands of the README, with the bundled PostgreSQL's."""

import os
import re
import shlex
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import numpy as np
import pytest
from logged_searches import make_search, write
from store_callers import make_caller, set_role
from store_samples import make_chunk, make_vectors, sha256
from test_migrating import schema

from gateway.errors import NotFound
from gateway.local import postgres as local_postgres
from gateway.local.postgres import Postgres
from gateway.store.cached_embeddings import CachedEmbeddings
from gateway.store.caller import acting_with
from gateway.store.chunks import ChunkStore
from gateway.store.codebases import CodebaseStore
from gateway.store.feedback import FeedbackStore, Said
from gateway.store.migrations import migrate
from gateway.store.pool import Database
from gateway.store.recall_watch import RecallStore, RecallWatch
from gateway.store.rows import HitRow, NewRevision, SearchQuery, SpaceRow
from gateway.store.search import SearchStore
from gateway.store.search_plan import Method
from gateway.store.spaces import SpaceStore

README = Path(__file__).parents[3] / "README.md"
ROWS = 500


@pytest.fixture
async def other_server(postgres_root: Path) -> AsyncIterator[str]:
    """A server that never saw duovec, not even its roles; its URL, of a database that is not there."""
    server = Postgres(postgres_root / "other", log_path=postgres_root / "other.log")
    await server.start()
    connection = await asyncpg.connect(server.url)
    assert await connection.fetch("SELECT FROM pg_roles WHERE rolname LIKE 'duovec\\_%'") == []
    await connection.close()
    yield server.url.rsplit("/", 1)[0] + "/restored"
    await server.stop()


def documented_commands() -> list[list[str]]:
    """The lines of the README's section on backup, split into words."""
    section = README.read_text(encoding="utf-8").split("## Back up and restore\n")[1].split("\n## ")[0]
    block = re.findall(r"^```bash\n(.*?)^```", section, re.MULTILINE | re.DOTALL)[0]
    lines = block.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def run_documented(programs: set[str], environment: dict[str, str], folder: Path) -> list[str]:
    """Run those of the commands that call some programs; the names of all that were run."""
    ran = []
    path = os.pathsep.join([str(local_postgres._find_bin_dir()), os.defpath])
    for words in documented_commands():
        if words[0] in programs:
            filled = [re.sub(r"\$(\w+)", lambda match: environment[match[1]], word) for word in words]
            done = subprocess.run(
                filled, cwd=folder, env={"PATH": path, "LC_ALL": "C"}, capture_output=True, text=True, timeout=120
            )
            assert done.returncode == 0, f"{words[0]}: {done.stderr}"
            ran.append(words[0])
    return ran


async def contents(url: str, persistence: str = "p") -> dict[str, str | None]:
    """A digest of the rows of every table that PostgreSQL logs ("p"), or does not ("u"); None for no rows."""
    connection = await asyncpg.connect(url)
    names = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
        " AND relpersistence::text = $1",
        persistence,
    )
    digest = """SELECT md5(string_agg(t::text, '|' ORDER BY t::text COLLATE "C")) FROM {} t"""
    found = {name: await connection.fetchval(digest.format(name)) for (name,) in names}
    await connection.close()
    return found


def brief(hits: tuple[HitRow, ...]) -> list[tuple[int, float, str]]:
    return [(hit.chunk_id, hit.score, hit.chunk.content) for hit in hits]


async def searches(database: Database, space: SpaceRow, method: Method) -> list[list[tuple[int, float, str]]]:
    """Hits of ten queries with words, by one method."""
    store = SearchStore(database, exact_limit=100 if method is Method.HNSW else 10_000)
    found = []
    for number, query_D in enumerate(make_vectors(10, seed=3)):
        query = SearchQuery(query_D, limit=20, text=f"f{number}", lexical_weight=0.4)
        result = await store.search(["demo"], space.space_key, query, timeout_s=10)
        assert (result.method, result.searched_chunk_count) == (method, ROWS)
        found.append(brief(result.hits))
    return found


async def test_a_dump_restores_everything_into_another_server(
    url: str,
    caller_database: Database,
    database: Database,
    chunks: ChunkStore,
    codebase_key: int,
    space: SpaceRow,
    other_server: str,
    tmp_path: Path,
) -> None:
    """Schema, policies, partition, index, recall checks, keys and grants; the same hits by index and exactly."""
    ids = await chunks.insert(
        codebase_key, space.space_key, [make_chunk(i) for i in range(ROWS)], make_vectors(ROWS), timeout_s=60
    )
    await SpaceStore(database, binary_above_count=10**6).build_hnsw_index(space.space_key, above_chunk_count=100)
    await RecallWatch(database, target=0.9, period_s=60, duty=1.0, exact_limit=100).check_due(space.space_key)
    reader, outsider = await make_caller(database, "reader"), await make_caller(database, "outsider")
    await set_role(database, reader, codebase_key, "READ")
    with acting_with(reader):
        cache = CachedEmbeddings(caller_database, space.fingerprint, max_texts=100)
        await cache.write("query", {sha256("a"): make_vectors(1)[0]}, timeout_s=5)
        [search_id] = await write(database, [make_search(reader, [codebase_key], [(ids[0], codebase_key)])])
        await FeedbackStore(caller_database, None).record(search_id, {ids[0]: Said(useful=True)}, timeout_s=5)
    revision = NewRevision("1c" * 20, "", "main", None, modified=False)
    await CodebaseStore(database).set_revision("demo", revision, expected_version=None, timeout_s=5)
    before = {method: await searches(database, space, method) for method in (Method.EXACT, Method.HNSW)}

    server = other_server.rsplit("/", 1)[0]
    names = {"DUOVEC_DATABASE_URL": url, "NEW_DATABASE_URL": other_server, "NEW_SERVER_URL": f"{server}/postgres"}
    assert run_documented({"pg_dump"}, names, tmp_path) == ["pg_dump"]
    assert run_documented({"psql", "pg_restore"}, names, tmp_path)[-1] == "pg_restore"

    rows = await contents(url)
    assert await contents(other_server) == rows
    assert {"searches", "feedback", "revisions", "audit_events", "grants"} <= {name for name in rows if rows[name]}
    assert set(await contents(url, persistence="u")) == {"cached_embeddings"}
    assert await migrate(other_server) == []
    assert await schema(other_server) == await schema(url)
    restored = await Database.connect(other_server)
    system = restored.as_system()
    try:
        for method, hits in before.items():
            now = await searches(system, space, method)
            if method is Method.EXACT:
                assert now == hits
            else:
                # The graph is built anew, by chance levels: what it finds may differ in the last places.
                same = np.mean(
                    [len({x[0] for x in a} & {x[0] for x in b}) / 20 for a, b in zip(now, hits, strict=True)]
                )
                assert same >= 0.95
        [check] = await RecallStore(system).list(space.space_key, timeout_s=5)
        assert check.codebase_id == "demo"
        # Row-level security holds in the new place: a grant is worth what it was, and no grant is worth nothing.
        query = SearchQuery(make_vectors(1)[0], limit=5)
        search = SearchStore(restored)
        with acting_with(reader):
            assert len((await search.search(["demo"], space.space_key, query, timeout_s=5)).hits) == 5
        with acting_with(outsider), pytest.raises(NotFound):
            await search.search(["demo"], space.space_key, query, timeout_s=5)
        # The cache begins empty, and works; chunks can be added, in a new identity and with their words.
        with acting_with(reader):
            cache = CachedEmbeddings(restored, space.fingerprint, max_texts=100)
            assert await cache.read("query", [sha256("a")], timeout_s=5) == {}
            await cache.write("query", {sha256("a"): make_vectors(1)[0]}, timeout_s=5)
        added = await ChunkStore(system).insert(
            codebase_key, space.space_key, [make_chunk(ROWS)], make_vectors(1, seed=8), timeout_s=10
        )
        assert added[0] > max(hit[0] for hit in before[Method.EXACT][0])
        async with system.acquire(5) as connection:
            assert await connection.fetchval("SELECT count(*) FROM chunk_words") == ROWS + 1
        assert await CodebaseStore(system).delete("demo", timeout_s=30) == ROWS + 1
    finally:
        await restored.close()
