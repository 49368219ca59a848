"""How long a search takes while somebody indexes: a table, and a JSON line for results/interference.json.

Usage: python -m tests.benchmarks.interference   (starts its own stack; needs the published compact pair in .duovec)
"""

import asyncio
import itertools
import os
import statistics
import sysconfig
import tempfile
import threading
import time
from pathlib import Path

from gateway.client.client import Client
from gateway.client.indexer import index_tree
from gateway.client.report import IndexReport
from gateway.local.stack import Stack, StackSettings
from tests.benchmarks.keeping import keep, rounded

ROOT = Path(__file__).parents[2]
LIBRARY = Path(sysconfig.get_path("stdlib"))
SEARCHES = 300
NUMBERS = itertools.count()


def search_ms(client: Client) -> float:
    """One search by a query that nobody made before, so that it is none of the cache's."""
    started = time.perf_counter()
    client.search("benchmark", f"wait for task {next(NUMBERS)} to finish")
    return (time.perf_counter() - started) * 1000


def summary(times: list[float]) -> dict[str, float]:
    """Median and 99th percentile."""
    return {"p50_ms": statistics.median(times), "p99_ms": statistics.quantiles(times, n=100)[98], "count": len(times)}


def measure(endpoint: str, api_key: str) -> dict[str, dict[str, float]]:
    """Searches alone, indexing alone, both at once."""
    reports: list[IndexReport] = []

    def index(folder: str, codebase: str) -> None:
        with Client(endpoint, api_key=api_key) as client:
            reports.append(index_tree(client, LIBRARY / folder, codebase))

    index("asyncio", "benchmark")
    with Client(endpoint, api_key=api_key) as client:
        for _ in range(20):
            search_ms(client)
        idle = summary([search_ms(client) for _ in range(SEARCHES)])
        load = threading.Thread(target=index, args=("email", "load"))
        load.start()
        time.sleep(1)
        times: list[float] = []
        while load.is_alive() and len(times) < SEARCHES:
            times.append(search_ms(client))
            time.sleep(0.02)
        busy = summary(times)
        load.join()
    alone, loaded = reports
    return {
        "search, idle": idle,
        "search, while indexing": busy,
        "indexing": {
            "alone_chunks_per_s": alone.chunks_embedded / alone.elapsed_s,
            "beside_searches_chunks_per_s": loaded.chunks_embedded / loaded.elapsed_s,
        },
    }


async def main() -> None:
    """Start a stack, measure, stop."""
    with tempfile.TemporaryDirectory(prefix="duovec-bench-") as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101 - PostgreSQL's account must be able to enter
        settings = StackSettings(
            data_dir=Path(folder), model_repository=ROOT / ".duovec" / "model_repository", listen="127.0.0.1:0"
        )
        async with Stack(settings) as stack:
            figures = await asyncio.to_thread(measure, stack.endpoint, stack.api_key)
    for name, values in figures.items():
        print(f"{name:<24}" + "".join(f"{key}={value:10.1f}  " for key, value in values.items()))
    keep("interference", {"figures": rounded(figures)})


if __name__ == "__main__":
    asyncio.run(main())
