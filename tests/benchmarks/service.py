"""How fast the running service embeds, indexes and searches: a table, and a JSON line for results/service.json.

Usage: python -m tests.benchmarks.service   (starts its own stack; needs the published compact pair in .duovec)
"""

import asyncio
import itertools
import os
import statistics
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from gateway.client.client import Client
from gateway.client.indexer import index_tree
from gateway.local.stack import Stack, StackSettings
from tests.benchmarks.keeping import keep, rounded

ROOT = Path(__file__).parents[2]
SOURCE = Path(sysconfig.get_path("stdlib")) / "asyncio"
SNIPPET = "def add(first, second):\n    return first + second\n"


def median_ms(call: Callable[[], object], repetitions: int) -> float:
    """Median wall time of a call, milliseconds, after two that are not counted."""
    times = []
    for repetition in range(repetitions + 2):
        started = time.perf_counter()
        call()
        if repetition >= 2:
            times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


def measure(endpoint: str, api_key: str) -> dict[str, float]:
    """Every figure, one after the other on an otherwise idle service."""
    figures: dict[str, float] = {}
    with Client(endpoint, api_key=api_key) as client:
        report = index_tree(client, SOURCE, "benchmark")
        figures["index_chunks_per_s"] = report.chunks_embedded / report.elapsed_s
        figures["index_chunks"] = report.chunks_embedded
        again = index_tree(client, SOURCE, "benchmark")
        figures["index_again_s"] = again.elapsed_s
        hits = client.search("benchmark", "wait for a task to finish", limit=100).hits
        texts = [hit.chunk.content[:800] for hit in hits]
        # Each text is new, so that none comes from the embedding cache; what that gives is measured by cache.py.
        numbers = itertools.count()
        figures["embed_1_short_ms"] = median_ms(lambda: client.embed([f"{SNIPPET}# {next(numbers)}"], "passage"), 100)
        figures["embed_100_functions_ms"] = median_ms(
            lambda: client.embed([f"# {next(numbers)}\n{text}" for text in texts], "passage"), 9
        )
        figures["search_ms"] = median_ms(
            lambda: client.search("benchmark", f"wait for task {next(numbers)} to finish"), 100
        )
    return figures


async def main() -> None:
    """Start a stack, measure, stop."""
    with tempfile.TemporaryDirectory(prefix="duovec-bench-") as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101 - PostgreSQL's account must be able to enter
        started = time.perf_counter()
        settings = StackSettings(
            data_dir=Path(folder), model_repository=ROOT / ".duovec" / "model_repository", listen="127.0.0.1:0"
        )
        async with Stack(settings) as stack:
            ready_s = time.perf_counter() - started
            figures = {"ready_s": ready_s} | await asyncio.to_thread(measure, stack.endpoint, stack.api_key)
    for name, figure in figures.items():
        print(f"{name:<24}{figure:10.1f}")
    keep("service", {"figures": rounded(figures)})


if __name__ == "__main__":
    asyncio.run(main())
