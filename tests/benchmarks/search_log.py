"""What the log costs a search: a table, and a JSON line for results/search_log.json.

Two gateways, with and without it, asked in turns.

Usage: python -m tests.benchmarks.search_log [REPOSITORY]   (starts its own PostgreSQL and Triton; needs the published
compact pair, in .duovec unless a repository is named)
"""

import asyncio
import os
import statistics
import sys
import sysconfig
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gateway.client.client import Client
from gateway.client.indexer import index_tree
from gateway.local.postgres import Postgres
from gateway.local.process import GatewayServer, free_port
from gateway.local.triton import Triton
from tests.benchmarks.keeping import keep, rounded

ROOT = Path(__file__).parents[2]
SOURCE = Path(sysconfig.get_path("stdlib")) / "asyncio"
ENCODERS = ("compact-code", "compact-text")
QUERIES = [f"{verb} a {noun}" for verb in ("open", "close", "cancel", "wait for") for noun in ("task", "loop", "pipe")]
ROUNDS, SEARCHES, CALLERS = 12, 100, 16


def search_ms(client: Client, count: int) -> list[float]:
    """Wall times of searches, one after the other, milliseconds."""
    times = []
    for number in range(count):
        started = time.perf_counter()
        client.search("benchmark", QUERIES[number % len(QUERIES)])
        times.append((time.perf_counter() - started) * 1000)
    return times


def searches_per_s(client: Client) -> float:
    """How many searches a second many callers get at once."""
    started = time.perf_counter()
    with ThreadPoolExecutor(CALLERS) as pool:
        counts = list(pool.map(lambda _: len(search_ms(client, SEARCHES // 4)), range(CALLERS)))
    return sum(counts) / (time.perf_counter() - started)


def feedback_ms(client: Client, count: int) -> list[float]:
    """Wall times of feedback right after its search, milliseconds."""
    times = []
    for number in range(count):
        response = client.search("benchmark", QUERIES[number % len(QUERIES)])
        started = time.perf_counter()
        client.record_feedback(response.search_id, useful=[response.hits[0].chunk_id])
        times.append((time.perf_counter() - started) * 1000)
    return times


def measure(clients: dict[str, Client]) -> dict[str, float]:
    """Every figure; the gateways take turns, so that what else the machine does falls on both."""
    index_tree(clients["with"], SOURCE, "benchmark")
    times: dict[str, list[float]] = {name: [] for name in clients}
    rates: dict[str, list[float]] = {name: [] for name in clients}
    for client in clients.values():
        search_ms(client, 2 * len(QUERIES))
    for _ in range(ROUNDS):
        for name, client in clients.items():
            times[name] += search_ms(client, SEARCHES)
    for _ in range(ROUNDS):
        for name, client in clients.items():
            rates[name].append(searches_per_s(client))
    figures = {}
    for name in clients:
        figures[f"search_p50_ms_{name}"] = statistics.median(times[name])
        figures[f"search_p95_ms_{name}"] = statistics.quantiles(times[name], n=20)[-1]
        figures[f"searches_per_s_{CALLERS}_callers_{name}"] = statistics.median(rates[name])
    figures["feedback_at_once_p50_ms"] = statistics.median(feedback_ms(clients["with"], SEARCHES))
    return figures


async def main() -> None:
    """Start all, measure, stop."""
    repository = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / ".duovec" / "model_repository"
    with tempfile.TemporaryDirectory(prefix="duovec-bench-") as name:
        folder = Path(name)
        os.chmod(folder, 0o755)  # noqa: PTH101 - PostgreSQL's account must be able to enter
        postgres = Postgres(folder / "postgres", log_path=folder / "postgres.log")
        triton = Triton(repository, ENCODERS, work_dir=folder / "triton", log_path=folder / "triton.log")
        await asyncio.gather(postgres.start(), triton.start())
        environment = {
            "DUOVEC_DATABASE_URL": postgres.url,
            "DUOVEC_TRITON_URL": triton.url,
            "DUOVEC_MODEL_REPOSITORY": str(repository.resolve()),
            "DUOVEC_ADMIN_KEY_FILE": str(folder / "admin.key"),
        }
        gateways, clients = [], {}
        try:
            for kind, is_on in (("without", "false"), ("with", "true")):
                gateway = GatewayServer(
                    f"127.0.0.1:{free_port()}",
                    environment | {"DUOVEC_SEARCH_LOG": is_on},
                    log_path=folder / f"{kind}.log",
                )
                await gateway.start()
                gateways.append(gateway)
                key = (folder / "admin.key").read_text().strip()
                clients[kind] = Client(gateway.url, api_key=key)
            figures = await asyncio.to_thread(measure, clients)
        finally:
            for client in clients.values():
                client.close()
            for gateway in gateways:
                await gateway.stop()
            await triton.stop()
            await postgres.stop()
    for label, figure in figures.items():
        print(f"{label:<36}{figure:10.2f}")
    keep("search_log", {"figures": rounded(figures)})


if __name__ == "__main__":
    asyncio.run(main())
