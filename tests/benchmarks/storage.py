"""How much disk a chunk takes, by table and index: the standard library's chunks with their real vectors.

Usage: .venv/bin/python -m tests.benchmarks.storage
"""

import asyncio
import os
import sys
import tempfile
from pathlib import Path

import asyncpg
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from gateway.local.postgres import Postgres
from tests.benchmarks.keeping import keep
from tests.benchmarks.search import Bench
from tests.benchmarks.search_corpus import Corpus, load_corpus
from tests.benchmarks.search_rpc import service

_SIZES = """
SELECT c.relname AS name, pg_table_size(c.oid) AS table_bytes, pg_indexes_size(c.oid) AS index_bytes
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' AND c.relkind = 'r' AND pg_total_relation_size(c.oid) > 1000000
ORDER BY pg_total_relation_size(c.oid) DESC
"""


async def measure(corpus: Corpus) -> dict[str, float | int]:
    """Store, vacuum, and divide; bytes a chunk by table and by its indexes."""
    with tempfile.TemporaryDirectory(prefix="duovec-bench-") as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101 - PostgreSQL's account must be able to enter
        postgres = Postgres(Path(folder) / "data", log_path=Path(folder) / "postgres.log")
        await postgres.start()
        try:
            async with service(Path(folder)) as served:
                await Bench(postgres.url, served, corpus, corpus.vectors_ND).load()
            connection = await asyncpg.connect(postgres.url)
            sizes = await connection.fetch(_SIZES)
            await connection.close()
        finally:
            await postgres.stop()
    count = len(corpus.chunks)
    figures: dict[str, float | int] = {
        "chunks": count,
        "characters a chunk": round(float(np.mean([len(chunk.content) for chunk in corpus.chunks])), 1),
    }
    for size in sizes:
        figures[f"{size['name']}, table"] = round(size["table_bytes"] / count, 1)
        figures[f"{size['name']}, indexes"] = round(size["index_bytes"] / count, 1)
    return figures


def main() -> None:
    """Measure, print, keep."""
    figures = asyncio.run(measure(load_corpus()))
    for name, figure in figures.items():
        print(f"{name:<36}{figure:>10}")
    keep("storage", {"figures": figures})


if __name__ == "__main__":
    main()
