"""What being seen from outside costs a call: a table, and a JSON line for results/observation.json.

Usage: python -m tests.benchmarks.observation   (starts its own stack; needs the published compact pair in .duovec)

Three gateways on one PostgreSQL and one Triton take turns, call by call, in random order: one that records nothing, one
whose metrics are read every second, one that also sends a trace of every call to a collector in this process. The calls
are the cheapest that there are: the vector comes from the embedding cache.
"""

import asyncio
import contextlib
import os
import random
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

from gateway.client.client import Client
from gateway.client.indexer import index_tree
from gateway.local.process import free_port
from gateway.local.stack import Stack, StackSettings
from tests.benchmarks.keeping import keep, rounded

ROOT = Path(__file__).parents[2]
SOURCE = Path(sysconfig.get_path("stdlib")) / "asyncio"
ROUNDS = 1000
# The gateway without the one interceptor that begins to record: where nothing is recorded, stages do nothing.
BLIND = """
from gateway import server
from gateway.rpc.observation import ObservingInterceptor
from tests.benchmarks.keeping import keep, rounded
from tests.benchmarks.keeping import keep, rounded

async def leave(self, continuation, details):
    return await continuation(details)

ObservingInterceptor.intercept_service = leave
server.main()
"""
SEEING = "from gateway import server; server.main()"


class Collector(TraceServiceServicer):
    """Counts spans."""

    def __init__(self) -> None:
        self.span_count = 0

    def Export(self, request: Any, context: Any) -> ExportTraceServiceResponse:  # noqa: N802
        self.span_count += sum(len(scope.spans) for group in request.resource_spans for scope in group.scope_spans)
        return ExportTraceServiceResponse()


@contextmanager
def collecting() -> Iterator[tuple[str, Collector]]:
    """Run a collector; gives its URL."""
    server, collector = grpc.server(futures.ThreadPoolExecutor(1)), Collector()
    add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"http://127.0.0.1:{port}", collector
    server.stop(None).wait()


@contextmanager
def gateway(program: str, environment: dict[str, str]) -> Iterator[str]:
    """Run a gateway until the block ends; gives its endpoint once it serves."""
    endpoint = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env=os.environ | environment | {"DUOVEC_LISTEN": endpoint},
        stderr=subprocess.DEVNULL,
    )
    try:
        with Client(endpoint, api_key="none") as client:
            serving = False
            while not serving:
                with contextlib.suppress(Exception):
                    serving = client.health() == "SERVING"
        yield endpoint
    finally:
        process.terminate()
        process.wait()


@contextmanager
def scraped(endpoint: str) -> Iterator[list[float]]:
    """Read the metrics every second; gives how long each took, milliseconds."""
    times: list[float] = []
    over = threading.Event()

    def scrape() -> None:
        while not over.wait(1):
            started = time.perf_counter()
            urllib.request.urlopen(f"http://{endpoint}/metrics").read()
            times.append((time.perf_counter() - started) * 1000)

    thread = threading.Thread(target=scrape)
    thread.start()
    yield times
    over.set()
    thread.join()


def measure(endpoints: dict[str, str], api_key: str) -> dict[str, float]:
    """Medians of both calls by gateway."""
    clients = {name: Client(endpoint, api_key=api_key) for name, endpoint in endpoints.items()}
    calls: dict[str, Callable[[Client], object]] = {
        "search": lambda client: client.search("benchmark", "wait for a task to finish"),
        "embed": lambda client: client.embed(["wait for a task to finish"], "query"),
    }
    times: dict[tuple[str, str], list[float]] = {(call, name): [] for call in calls for name in clients}
    for round_number in range(ROUNDS + 20):
        for key in random.sample(list(times), len(times)):
            call, name = key
            started = time.perf_counter()
            calls[call](clients[name])
            if round_number >= 20:
                times[key].append((time.perf_counter() - started) * 1000)
    for client in clients.values():
        client.close()
    return {f"{call}, {name}, ms": statistics.median(row) for (call, name), row in times.items()}


async def main() -> None:
    """Start all, measure, print."""
    with tempfile.TemporaryDirectory(prefix="duovec-bench-") as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101 - PostgreSQL's account must be able to enter
        settings = StackSettings(
            data_dir=Path(folder), model_repository=ROOT / ".duovec" / "model_repository", listen="127.0.0.1:0"
        )
        async with Stack(settings) as stack:
            figures = await asyncio.to_thread(run, stack)
    for name, figure in figures.items():
        print(f"{name:<40}{figure:10.3f}")
    keep("observation", {"figures": rounded(figures)})


def run(stack: Stack) -> dict[str, float]:
    """Index something, and measure beside the stack's own gateway, which rests."""
    with Client(stack.endpoint, api_key=stack.api_key) as client:
        index_tree(client, SOURCE, "benchmark")
    environment = dict(stack._gateway_environment)
    metrics = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    with (
        collecting() as (collector_url, collector),
        gateway(BLIND, environment) as blind,
        gateway(SEEING, environment | {"DUOVEC_METRICS_LISTEN": metrics[0]}) as seen,
        gateway(
            SEEING, environment | {"DUOVEC_METRICS_LISTEN": metrics[1], "DUOVEC_OTLP_ENDPOINT": collector_url}
        ) as traced,
        scraped(metrics[0]) as scrape_ms,
        scraped(metrics[1]),
    ):
        figures = measure({"unseen": blind, "metrics": seen, "metrics and traces": traced}, stack.api_key)
        figures["a scrape, ms"] = statistics.median(scrape_ms)
    figures["spans of a call"] = collector.span_count / (2 * (ROUNDS + 20))
    return figures


if __name__ == "__main__":
    asyncio.run(main())
