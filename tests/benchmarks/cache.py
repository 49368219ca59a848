"""What the embedding cache saves and costs: a table, and a JSON line for results/cache.json.

Usage: python -m tests.benchmarks.cache [--repository DIR]   (starts PostgreSQL and Triton; needs the compact pair)

Times are of `Embedder`, tokenization included, without gRPC. The three ways take turns, so that a busy machine is as
busy for each. The "short" texts have about 12 tokens, those of the batches are functions of the standard library.
"""

import argparse
import ast
import asyncio
import itertools
import os
import statistics
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from gateway.embedding.embedder import Embedder
from gateway.embedding.proof import ProvenEncoders
from gateway.embedding.space import InputType, Space
from gateway.embedding.triton import Priority, TritonClient
from gateway.local.postgres import Postgres
from gateway.local.triton import Triton
from gateway.store.api_key import ApiKey
from gateway.store.cached_embeddings import CachedEmbeddings
from gateway.store.caller import acting_with
from gateway.store.migrations import migrate
from gateway.store.pool import Database
from gateway.store.principals import PrincipalStore
from gateway.store.spaces import SpaceStore
from tests.benchmarks.keeping import keep, rounded

ROOT = Path(__file__).parents[2]
ENCODERS = ("compact-code", "compact-text")
REPETITIONS = {"1 short text": 200, "64 functions": 20}
FILLED = 20_000


def real_functions(count: int) -> list[str]:
    """Functions of asyncio, at most 1,500 characters each."""
    found: list[str] = []
    for path in sorted((Path(sysconfig.get_path("stdlib")) / "asyncio").glob("*.py")):
        source = path.read_text()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_source_segment(source, node) or ""
                found += [text] if 100 < len(text) < 1500 else []
    return found[:: len(found) // count][:count]


async def timed_ms(embedder: Embedder, texts: Sequence[str], *, cached: bool) -> float:
    """Wall time of one call, milliseconds."""
    started = time.perf_counter()
    tokenized = await embedder.tokenize(texts, InputType.PASSAGE)
    run = embedder.embed if cached else embedder.encode
    vectors = await run(tokenized, priority=Priority.INTERACTIVE, timeout_s=60)
    elapsed_ms = (time.perf_counter() - started) * 1000
    if vectors.errors:
        raise RuntimeError(f"no vectors: {vectors.errors}")
    return elapsed_ms


async def measure(embedder: Embedder) -> dict[str, float]:
    """Medians of a pass without cache, of a miss, and of a hit."""
    numbers = itertools.count()
    functions = real_functions(64)
    makers = {
        "1 short text": lambda: [f"def add(first, second): return first + {next(numbers)}"],
        "64 functions": lambda: [f"# {next(numbers)}\n{text}" for text in functions],
    }
    figures: dict[str, float] = {}
    for name, make in makers.items():
        times: dict[str, list[float]] = {"forward pass": [], "miss": [], "hit": []}
        for _ in range(REPETITIONS[name]):
            times["forward pass"].append(await timed_ms(embedder, make(), cached=False))
            texts = make()
            times["miss"].append(await timed_ms(embedder, texts, cached=True))
            await embedder.close()  # the row is written behind the reply
            times["hit"].append(await timed_ms(embedder, texts, cached=True))
        figures |= {f"{name}, {way}, ms": statistics.median(row) for way, row in times.items()}
    return figures


async def fill(database: Database, key: ApiKey) -> None:
    """Rows of no text, so that a look-up is among many."""
    async with database.acquire(300) as connection:
        await connection.execute(
            "INSERT INTO cached_embeddings (principal_key, space_key, input_type, text_sha256, vector)"
            " SELECT principal_key, (SELECT min(space_key) FROM spaces), 'query', sha256(i::text::bytea), v.vector"
            " FROM api_keys, generate_series(1, $2) i,"
            " LATERAL (SELECT string_agg(sha256((i * 320 + j)::text::bytea), '') AS vector"
            "          FROM generate_series(1, 320) j) v WHERE key_id = $1",
            key.key_id,
            FILLED,
        )
        await connection.execute("ANALYZE cached_embeddings")


async def run(folder: Path, repository: Path) -> dict[str, float]:
    """Start both servers, measure, stop."""
    postgres = Postgres(folder / "postgres", log_path=folder / "postgres.log")
    triton = Triton(repository, ENCODERS, work_dir=folder / "triton", log_path=folder / "triton.log")
    await postgres.start()
    try:
        await triton.start()
        await migrate(postgres.url)
        space = Space.load(repository, code_encoder=ENCODERS[0], text_encoder=ENCODERS[1])
        database = await Database.connect(postgres.url)
        system = database.as_system()
        await SpaceStore(system).ensure_active(space.fingerprint, space.identity)
        key = ApiKey.generate()
        async with system.acquire(10) as connection:
            await connection.execute(
                "WITH p AS (INSERT INTO principals (principal_id, display_name) VALUES ('bench', 'x')"
                " RETURNING principal_key) INSERT INTO api_keys (key_id, principal_key, secret_sha256, display_name)"
                " SELECT $1, principal_key, $2, '' FROM p",
                key.key_id,
                key.secret_sha256,
            )
        await fill(system, key)
        client = TritonClient(triton.url, concurrency=8)
        embedder = Embedder(
            space, ProvenEncoders(client), CachedEmbeddings(database, space.fingerprint, max_texts=10 * FILLED)
        )
        with acting_with(key):
            await PrincipalStore(database).check_key(timeout_s=10)
            figures = await measure(embedder)
        async with system.acquire(10) as connection:
            size_bytes = await connection.fetchval("SELECT pg_total_relation_size('cached_embeddings')")
            rows = await connection.fetchval("SELECT count(*) FROM cached_embeddings")
        figures["bytes a row"] = size_bytes / rows
        await client.close()
        await database.close()
    finally:
        await triton.stop()
        await postgres.stop()
    return figures


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repository", type=Path, default=ROOT / ".duovec" / "model_repository")
    repository = parser.parse_args().repository
    with tempfile.TemporaryDirectory(prefix="duovec-bench-") as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101 - PostgreSQL's account must be able to enter
        figures = asyncio.run(run(Path(folder), repository))
    for name, figure in figures.items():
        print(f"{name:<34}{figure:10.2f}")
    keep("cache", {"figures": rounded(figures)})


if __name__ == "__main__":
    main()
