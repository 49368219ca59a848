"""How long a search takes while somebody else indexes: a table, and a JSON line for results/interference.json.

Usage: python -m tests.benchmarks.interference   (starts its own stack; needs the published compact pair in .duovec)
"""

import asyncio
import itertools
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

from gateway.client.client import Client
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


def start_indexing(stack: Stack, folder: str, codebase: str) -> subprocess.Popen[str]:
    """`duovec index` in a process of its own: in this one it would hold up the searches that are timed."""
    duovec = Path(sys.executable).with_name("duovec")
    command = [str(duovec), "index", str(LIBRARY / folder), "--codebase", codebase, "--json"]
    environment = {**os.environ, "DUOVEC_ENDPOINT": stack.endpoint, "DUOVEC_API_KEY": stack.api_key}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def chunks_per_s(indexing: subprocess.Popen[str]) -> float:
    """Its rate, once it is through."""
    output, _ = indexing.communicate()
    report = json.loads(output)
    if indexing.returncode:
        raise RuntimeError(f"indexing failed: {report}")
    return float(report["chunks_embedded"] / report["elapsed_s"])


def measure(stack: Stack) -> dict[str, dict[str, float]]:
    """Searches alone, indexing alone, both at once."""
    alone = chunks_per_s(start_indexing(stack, "asyncio", "benchmark"))
    with Client(stack.endpoint, api_key=stack.api_key) as client:
        for _ in range(20):
            search_ms(client)
        idle = summary([search_ms(client) for _ in range(SEARCHES)])
        load = start_indexing(stack, "email", "load")
        time.sleep(2)
        times: list[float] = []
        while load.poll() is None and len(times) < SEARCHES:
            times.append(search_ms(client))
            time.sleep(0.02)
        beside = chunks_per_s(load)
    return {
        "search, idle": idle,
        "search, while indexing": summary(times),
        "indexing": {"alone_chunks_per_s": alone, "beside_searches_chunks_per_s": beside},
    }


async def main() -> None:
    """Start a stack, measure, stop."""
    with tempfile.TemporaryDirectory(prefix="duovec-bench-") as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101 - PostgreSQL's account must be able to enter
        settings = StackSettings(
            data_dir=Path(folder), model_repository=ROOT / ".duovec" / "model_repository", listen="127.0.0.1:0"
        )
        async with Stack(settings) as stack:
            figures = await asyncio.to_thread(measure, stack)
    for name, values in figures.items():
        print(f"{name:<24}" + "".join(f"{key}={value:10.1f}  " for key, value in values.items()))
    keep("interference", {"figures": rounded(figures)})


if __name__ == "__main__":
    asyncio.run(main())
