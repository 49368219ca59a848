"""How long a search, and a text, take while somebody else indexes: a table, and a line for results/interference.json.

Usage: python -m tests.benchmarks.interference   (starts its own stack; needs the published compact pair in .duovec)

Three rounds, each alone and beside `duovec index`, calls of both kinds in turns; of each figure the median of them.
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
ROUNDS = 3
CALLS = 300
NUMBERS = itertools.count()


class Times:
    """How long calls took that take turns, milliseconds, by kind; each of a text that nobody sent before."""

    def __init__(self) -> None:
        self.by_kind: dict[str, list[float]] = {"search": [], "embed": []}

    def measure(self, client: Client) -> None:
        """One call of each kind."""
        query = f"wait for task {next(NUMBERS)} to finish"
        started = time.perf_counter()
        client.search("benchmark", query)
        self.by_kind["search"].append((time.perf_counter() - started) * 1000)
        query = f"wait for task {next(NUMBERS)} to finish"
        started = time.perf_counter()
        client.embed([query], "query")
        self.by_kind["embed"].append((time.perf_counter() - started) * 1000)

    def summary(self, where: str) -> dict[str, dict[str, float]]:
        """Median and 99th percentile of each kind."""
        return {
            f"{kind}, {where}": {
                "p50_ms": statistics.median(times),
                "p99_ms": statistics.quantiles(times, n=100)[98],
                "count": len(times),
            }
            for kind, times in self.by_kind.items()
        }


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


def measure_once(stack: Stack, client: Client, number: int) -> dict[str, dict[str, float]]:
    """Calls alone, indexing alone, both at once."""
    idle, beside = Times(), Times()
    for _ in range(CALLS):
        idle.measure(client)
    alone = chunks_per_s(start_indexing(stack, "email", f"alone-{number}"))
    load = start_indexing(stack, "email", f"beside-{number}")
    time.sleep(2)
    count = 0
    while load.poll() is None and count < CALLS:
        beside.measure(client)
        count += 1
        time.sleep(0.02)
    rates = {"alone_chunks_per_s": alone, "beside_calls_chunks_per_s": chunks_per_s(load)}
    return {**idle.summary("idle"), **beside.summary("while indexing"), "indexing": rates}


def measure(stack: Stack) -> dict[str, dict[str, float]]:
    """Of each figure the median of all rounds."""
    chunks_per_s(start_indexing(stack, "asyncio", "benchmark"))
    with Client(stack.endpoint, api_key=stack.api_key) as client:
        warm = Times()
        for _ in range(20):
            warm.measure(client)
        rounds = [measure_once(stack, client, number) for number in range(ROUNDS)]
    figures = {
        name: {key: statistics.median(one[name][key] for one in rounds) for key in values}
        for name, values in rounds[0].items()
    }
    ratios = [
        {kind: one[f"{kind}, while indexing"]["p99_ms"] / one[f"{kind}, idle"]["p99_ms"] for kind in warm.by_kind}
        for one in rounds
    ]
    figures["p99 beside / idle"] = {kind: statistics.median(one[kind] for one in ratios) for kind in warm.by_kind}
    return figures


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
