"""A gateway and a Triton for the search benchmark, and the times of the Search RPC."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import numpy as np

from duovec.v1 import search_service_pb2 as pb
from duovec.v1.search_service_pb2_grpc import SearchServiceStub
from gateway.client.timing import ASK, stage_times_ms
from gateway.local.models import PAIRS
from gateway.local.process import GatewayServer, free_port
from gateway.local.triton import Triton
from gateway.wire import client_options
from tests.benchmarks.search_corpus import ROOT

REPOSITORY = ROOT / ".duovec" / "model_repository"
TIMEOUT_S = 60.0


class Service:
    """Triton, and a gateway on one database at a time. Queries are embedded each time: nothing is cached."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._triton = Triton(REPOSITORY, PAIRS["compact"], work_dir=folder / "triton", log_path=folder / "triton.log")
        self._key = f"duovec_benchmark001_{secrets.token_hex(32)}"

    async def start(self) -> None:
        await self._triton.start()

    async def stop(self) -> None:
        await self._triton.stop()

    @asynccontextmanager
    async def gateway(self, database_url: str) -> AsyncIterator[SearchServiceStub]:
        """Serve a database for the block; at the first time it gets its tables and the space of the encoders."""
        environment = {
            "DUOVEC_DATABASE_URL": database_url,
            "DUOVEC_TRITON_URL": self._triton.url,
            "DUOVEC_MODEL_REPOSITORY": str(REPOSITORY),
            "DUOVEC_ADMIN_KEY": self._key,
            "DUOVEC_CACHE_MAX_TEXTS": "0",
        }
        server = GatewayServer(f"127.0.0.1:{free_port()}", environment, log_path=self._folder / "gateway.log")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(server.url, client_options()) as channel:
                yield SearchServiceStub(channel)
        finally:
            await server.stop()

    async def times(
        self, stub: SearchServiceStub, requests: Sequence[pb.SearchRequest], *, callers: int, count: int
    ) -> dict[str, float]:
        """Percentiles of `count` calls by so many callers at once, in milliseconds, after five that are not counted.

        Raises:
            RuntimeError: The replies were found by more than one method.
        """
        waiting = [requests[number % len(requests)] for number in range(count)]
        totals: list[float] = []
        database: list[float] = []
        methods: set[int] = set()

        async def search(request: pb.SearchRequest) -> None:
            started = time.perf_counter()
            call = stub.Search(request, timeout=TIMEOUT_S, metadata=(("authorization", f"Bearer {self._key}"), ASK))
            reply: pb.SearchResponse = await call
            totals.append((time.perf_counter() - started) * 1000)
            database.append(stage_times_ms(await call.trailing_metadata())["database"])
            methods.add(reply.method)

        async def work() -> None:
            while waiting:
                await search(waiting.pop())

        for request in requests[-5:]:
            await search(request)
        for kept in (totals, database, methods):
            kept.clear()
        await asyncio.gather(*(work() for _ in range(callers)))
        if len(methods) != 1:
            raise RuntimeError(f"found by several methods: {sorted(map(pb.SearchMethod.Name, methods))}")
        return {
            "p50_ms": float(np.percentile(totals, 50)),
            "p99_ms": float(np.percentile(totals, 99)),
            "database_p50_ms": float(np.percentile(database, 50)),
            "database_p99_ms": float(np.percentile(database, 99)),
        }


def requests_of(queries: Sequence[str]) -> dict[str, list[pb.SearchRequest]]:
    """By suffix of their figures: vectors alone, with a wide filter, with a narrow one, and with words."""
    plain = [pb.SearchRequest(codebase_ids=["bench"], query=text, lexical_weight=0, truncate=True) for text in queries]
    return {
        "": plain,
        "_wide": [_filtered(one, kinds=["method"]) for one in plain],
        "_narrow": [_filtered(one, path_globs=["asyncio/**"]) for one in plain],
        "_hybrid": [pb.SearchRequest(codebase_ids=["bench"], query=text, truncate=True) for text in queries],
    }


def _filtered(request: pb.SearchRequest, **filters: Sequence[str]) -> pb.SearchRequest:
    filtered = pb.SearchRequest()
    filtered.CopyFrom(request)
    filtered.filter.MergeFrom(pb.SearchFilter(**filters))
    return filtered


@asynccontextmanager
async def service(folder: Path) -> AsyncIterator[Service]:
    """Run Triton for the block."""
    one = Service(folder)
    await one.start()
    try:
        yield one
    finally:
        await one.stop()
