"""Real vectors for the search benchmark: the standard library, indexed through the stack once, and grown by noise."""

import ast
import asyncio
import json
import os
import shutil
import sysconfig
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import asyncpg
import numpy as np
from numpy.typing import NDArray
from pgvector.asyncpg import register_vector

from gateway.client.client import Client
from gateway.client.indexer import index_tree
from gateway.embedding.space import Space
from gateway.local.postgres import Postgres
from gateway.local.stack import Stack, StackSettings
from gateway.store.rows import ChunkRow

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".duovec" / "benchmarks"
REPOSITORY = ROOT / ".duovec" / "model_repository"
QUERY_COUNT = 300
_SKIPPED = {"test", "tests", "site-packages", "dist-packages", "lib2to3", "idlelib", "pydoc_data", "__pycache__"}
_TEXTS_PER_CALL = 64


@dataclass(frozen=True)
class Corpus:
    """N chunks with their vectors, and Q docstrings as queries with theirs."""

    chunks: list[ChunkRow]
    vectors_ND: NDArray[np.float16]
    queries: list[str]
    queries_QD: NDArray[np.float32]


def load_corpus() -> Corpus:
    """The corpus from the cache; indexed first where it is not there, or another pair's, which takes minutes."""
    space = Space.load(REPOSITORY, code_encoder="compact-code", text_encoder="compact-text").fingerprint
    path = CACHE / "chunks.json"
    texts = json.loads(path.read_text()) if path.exists() else {}
    if texts.get("space") != space:
        CACHE.mkdir(parents=True, exist_ok=True)
        asyncio.run(_collect(space))
        texts = json.loads(path.read_text())
    arrays = np.load(CACHE / "vectors.npz")
    chunks = [
        ChunkRow(**{name: bytes.fromhex(value) if name.endswith("_sha256") else value for name, value in row.items()})
        for row in texts["chunks"]
    ]
    return Corpus(chunks, arrays["vectors_ND"], texts["queries"], arrays["queries_QD"])


def save_corpus(corpus: Corpus, space: str) -> None:
    """Write the cache; `space` is the fingerprint of its vectors."""
    rows = [
        asdict(row) | {"text_sha256": row.text_sha256.hex(), "file_sha256": row.file_sha256.hex()}
        for row in corpus.chunks
    ]
    np.savez(CACHE / "vectors.npz", vectors_ND=corpus.vectors_ND, queries_QD=corpus.queries_QD)
    (CACHE / "chunks.json").write_text(json.dumps({"space": space, "chunks": rows, "queries": corpus.queries}))


def nearest_distances(vectors_ND: NDArray[np.float16], sample_count: int = 500) -> NDArray[np.float64]:
    """Cosine distances of sampled vectors to their nearest other one; copies of the same text left out."""
    generator = np.random.default_rng(1)
    rows = generator.choice(len(vectors_ND), sample_count, replace=False)
    similarities = vectors_ND[rows].astype(np.float32) @ vectors_ND.astype(np.float32).T
    similarities[np.arange(sample_count), rows] = -1
    similarities[similarities > 0.9995] = -1
    return 1 - similarities.max(axis=1).astype(np.float64)


def grow(vectors_ND: NDArray[np.float16], count: int, distances: NDArray[np.float64]) -> NDArray[np.float16]:
    """`count` vectors: the real ones, then copies moved in a random direction by a measured nearest distance."""
    generator = np.random.default_rng(2)
    grown_ND = np.empty((count, vectors_ND.shape[1]), dtype=np.float16)
    real_count = min(count, len(vectors_ND))
    grown_ND[:real_count] = vectors_ND[:real_count]
    for start in range(real_count, count, 10_000):
        size = min(10_000, count - start)
        moved = vectors_ND[generator.integers(len(vectors_ND), size=size)].astype(np.float32)
        cosines = 1 - generator.choice(distances, size)
        noise = generator.standard_normal(moved.shape, dtype=np.float32)
        noise /= np.linalg.norm(noise, axis=1, keepdims=True)
        moved += noise * np.sqrt(1 / cosines**2 - 1).astype(np.float32)[:, None]
        grown_ND[start : start + size] = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    return grown_ND


async def _collect(space: str) -> None:
    with tempfile.TemporaryDirectory(prefix="duovec-bench-") as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101 - PostgreSQL's account must be able to enter
        source = Path(folder) / "stdlib"
        shutil.copytree(sysconfig.get_path("stdlib"), source, ignore=shutil.ignore_patterns(*_SKIPPED))
        settings = StackSettings(
            data_dir=Path(folder) / "stack",
            model_repository=REPOSITORY,
            listen="127.0.0.1:0",
        )
        async with Stack(settings) as stack:
            queries = _docstrings(source)
            with Client(stack.endpoint, api_key=stack.api_key, timeout_s=600) as client:
                await asyncio.to_thread(index_tree, client, source, "stdlib")
                parts = [
                    await asyncio.to_thread(
                        client.embed, queries[start : start + _TEXTS_PER_CALL], "query", truncate=True
                    )
                    for start in range(0, len(queries), _TEXTS_PER_CALL)
                ]
        # The stack has stopped; its database is read alone.
        postgres = Postgres(settings.data_dir / "postgres", log_path=Path(folder) / "postgres.log")
        await postgres.start()
        connection = await asyncpg.connect(postgres.url)
        await register_vector(connection)
        records = await connection.fetch(
            "SELECT path, language, symbol, kind, start_line, end_line, content, content_sha256 AS text_sha256, "
            "file_sha256, ordinal, file_chunk_count, embedding FROM chunks JOIN embeddings USING (chunk_id) "
            "ORDER BY chunk_id"
        )
        await connection.close()
        await postgres.stop()
    chunks = [ChunkRow(**{name: value for name, value in r.items() if name != "embedding"}) for r in records]
    vectors_ND = np.stack([record["embedding"].to_numpy() for record in records]).astype(np.float16)
    save_corpus(Corpus(chunks, vectors_ND, queries, np.concatenate(parts)), space)


def _docstrings(source: Path) -> list[str]:
    """First paragraphs of docstrings, spread over the files."""
    found = []
    for path in sorted(source.rglob("*.py")):
        functions = (node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.FunctionDef))
        docstrings = (ast.get_docstring(function) or "" for function in functions)
        found += [docstring.split("\n\n")[0] for docstring in docstrings if len(docstring) >= 40]
    step = len(found) / QUERY_COUNT
    return [found[int(number * step)] for number in range(QUERY_COUNT)]
