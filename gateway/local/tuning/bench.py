"""Measures settings in a Triton of its own, by the requests that the gateway makes.

Shapes: B rows, D numbers of an encoder.
"""

import asyncio
import math
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from gateway.embedding.space import Encoder, InputType, Space
from gateway.embedding.tokenizer import Tokens
from gateway.embedding.triton import Priority, TritonClient
from gateway.errors import DuovecError, StartupError
from gateway.local.triton import Triton
from gateway.local.tuning.choice import Measured, Settings
from gateway.local.tuning.scratch import ScratchRepository
from gateway.local.tuning.workload import Workload
from gateway.rpc.streaming import BATCH_ITEMS, BATCHES_IN_FLIGHT

_CONCURRENCY = 8  # of `gateway.settings`
_CHECKED_ROWS = 32
_IDLE_PROBES = 15
_LEAST_PROBES = 20
# Between two short texts of one caller.
_PAUSE_S = 0.05
_LOAD_TIMEOUT_S = 600.0
_CALL_TIMEOUT_S = 300.0
_Vectors = NDArray[np.float32]


class Bench:
    """A Triton that runs the scratch repository; `async with` it."""

    def __init__(self, scratch: ScratchRepository, space: Space, workload: Workload, *, work_dir: Path) -> None:
        """Describe it; nothing is started.

        Args:
            scratch: What to serve.
            space: The published pair.
            workload: What to measure with.
            work_dir: For Triton's files and its log.
        """
        self._scratch = scratch
        self._encoders = (space.code, space.text)
        self._workload = workload
        self._triton = Triton(scratch.folder, [], work_dir=work_dir, log_path=work_dir / "triton.log")
        # Vectors of rows that ran alone, by the version's number.
        self._alone: dict[int, list[_Vectors]] = {}
        self.chunks = BATCH_ITEMS
        """Chunks of one measurement; see `calibrate`."""

    async def __aenter__(self) -> Self:
        await self._triton.start()
        self._control = InferenceServerClient(self._triton.url)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._control.close()
        await self._triton.stop(grace_s=1)

    async def calibrate(self, settings: Settings, *, seconds: float) -> None:
        """Choose how many chunks a measurement takes, so that it lasts about as long by these settings.

        Raises:
            DuovecError: The published settings do not run.
        """
        await self._load(settings, 1)
        async with _client(self._triton.url) as client:
            encoders = self._with(settings, 1)
            await self._bulk(client, encoders, 16)  # allocates
            taken_s = await self._bulk(client, encoders, BATCH_ITEMS)
        batches = max(1, round(seconds / taken_s))
        self.chunks = min(BATCH_ITEMS * batches, len(self._workload.code))

    async def measure(self, settings: Settings, *, number: int = 1, times: int = 1) -> Measured:
        """Load both encoders by some settings and measure them.

        Args:
            settings: Of both.
            number: The version of the scratch repository.
            times: How often the usual number of chunks.

        Returns:
            What was seen; with its problem where they do not load or answer.
        """
        try:
            await self._load(settings, number)
            return await self._measure(settings, number, self.chunks * times)
        except DuovecError as exc:
            return Measured(settings, problem=str(exc))

    async def _measure(self, settings: Settings, number: int, chunks: int) -> Measured:
        encoders = self._with(settings, number)
        # A client for each part: one that was just asked by a caller gives bulk work less room.
        async with _client(self._triton.url) as client:
            moved = await self._moved(client, encoders, number)  # also lets the runtime allocate
            idle = [await self._probe(client, encoders) for _ in range(_IDLE_PROBES)]
        async with _client(self._triton.url) as client:
            bulk_s = await self._bulk(client, encoders, chunks)
        async with _client(self._triton.url) as client:
            probes, beside, beside_s = await self._bulk_beside_probes(client, encoders, max(BATCH_ITEMS, chunks // 2))
        return Measured(
            settings,
            chunks_per_s=chunks / bulk_s,
            tokens_per_s=chunks * self._workload.tokens_per_chunk / bulk_s,
            idle_ms=1000 * statistics.median(idle),
            interactive_ms=1000 * percentile(probes, 0.95),
            interactive_p50_ms=1000 * statistics.median(probes),
            beside_chunks_per_s=beside / beside_s,
            moved=moved,
            may_move=self._scratch.may_move(number),
        )

    async def _bulk_beside_probes(
        self, client: TritonClient, encoders: tuple[Encoder, Encoder], chunks: int
    ) -> tuple[list[float], int, float]:
        """Seconds of each short text while bulk work runs, and how many chunks were done in how many seconds."""
        probes: list[float] = []
        done, started = 0, time.perf_counter()
        prober = asyncio.create_task(self._keep_probing(client, encoders, probes))
        try:
            while done < chunks or (len(probes) < _LEAST_PROBES and not prober.done()):
                some = BATCH_ITEMS if done else chunks
                await self._bulk(client, encoders, some, first=done)
                done += some
        finally:
            taken_s = time.perf_counter() - started
            prober.cancel()
            outcome = (await asyncio.gather(prober, return_exceptions=True))[0]
        if isinstance(outcome, Exception):
            raise outcome
        return probes, done, taken_s

    def _with(self, settings: Settings, number: int) -> tuple[Encoder, Encoder]:
        code, text = (replace(one, version=number, token_budget=settings.token_budget) for one in self._encoders)
        return code, text

    async def _load(self, settings: Settings, number: int) -> None:
        """Both encoders anew, the old ones unloaded first: together they may not fit into the memory.

        Raises:
            StartupError: They do not load.
        """
        names = [encoder.name for encoder in self._encoders]

        def load(name: str) -> Awaitable[Any]:
            config = self._scratch.config_json(name, settings, number)
            loading: Awaitable[Any] = self._control.load_model(name, config=config, client_timeout=_LOAD_TIMEOUT_S)
            return loading

        try:
            await asyncio.gather(*(self._control.unload_model(name) for name in names))
            await asyncio.gather(*map(load, names))
        except InferenceServerException as exc:
            raise StartupError(f"Triton does not load it: {' '.join((exc.message() or 'no reason').split())}") from exc

    async def _bulk(
        self, client: TritonClient, encoders: tuple[Encoder, Encoder], chunks: int, *, first: int = 0
    ) -> float:
        """Seconds for some chunks by both encoders, in batches, as many at once as of a stream."""
        total = len(self._workload.code)
        batches = iter(
            [range(at, min(at + BATCH_ITEMS, first + chunks)) for at in range(first, first + chunks, BATCH_ITEMS)]
        )

        async def run() -> None:
            for batch in batches:
                rows = [index % total for index in batch]
                await self._both(client, encoders, rows, Priority.BULK)

        started = time.perf_counter()
        await asyncio.gather(*(run() for _ in range(BATCHES_IN_FLIGHT)))
        return time.perf_counter() - started

    async def _both(
        self, client: TritonClient, encoders: tuple[Encoder, Encoder], rows: Sequence[int], priority: Priority
    ) -> list[_Vectors]:
        tokens = (self._workload.code, self._workload.text)
        return await _encode(client, encoders, [[one[row] for row in rows] for one in tokens], priority)

    async def _probe(self, client: TritonClient, encoders: tuple[Encoder, Encoder]) -> float:
        """Seconds of one short text by both encoders."""
        started = time.perf_counter()
        await _encode(client, encoders, [[one] for one in self._workload.query], Priority.INTERACTIVE)
        return time.perf_counter() - started

    async def _keep_probing(
        self, client: TritonClient, encoders: tuple[Encoder, Encoder], seconds: list[float]
    ) -> None:
        while True:
            seconds.append(await self._probe(client, encoders))
            await asyncio.sleep(_PAUSE_S)

    async def _moved(self, client: TritonClient, encoders: tuple[Encoder, Encoder], number: int) -> float:
        """Largest cosine distance of a row among others to the same row alone by the first settings of a version."""
        rows = range(min(_CHECKED_ROWS, len(self._workload.code)))
        if number not in self._alone:
            alone = [await self._both(client, encoders, [row], Priority.BULK) for row in rows]
            self._alone[number] = [np.concatenate([one[part] for one in alone]) for part in range(2)]
        together = await self._both(client, encoders, rows, Priority.BULK)
        return max(
            float(np.max(1 - np.einsum("bd,bd->b", _unit(found), _unit(expected))))
            for found, expected in zip(together, self._alone[number], strict=True)
        )


async def _encode(
    client: TritonClient, encoders: tuple[Encoder, Encoder], rows: Sequence[Sequence[Tokens]], priority: Priority
) -> list[_Vectors]:
    """Vectors (B, D) of each encoder.

    Raises:
        DuovecError: An encoder does not answer, or not with vectors.
    """
    input_type = InputType.QUERY if priority is Priority.INTERACTIVE else InputType.PASSAGE
    answers = await asyncio.gather(
        *(
            client.encode(
                encoder,
                [row.ids_T for row in tokens],
                input_type,
                priority=priority,
                timeout_s=_CALL_TIMEOUT_S,
            )
            for encoder, tokens in zip(encoders, rows, strict=True)
        )
    )
    for _, errors in answers:
        for error in errors.values():
            raise error
    return [vectors_BD for vectors_BD, _ in answers]


@asynccontextmanager
async def _client(url: str) -> AsyncIterator[TritonClient]:
    """A client for the length of a block: what it knows of callers and slots is of these settings alone."""
    client = TritonClient(url, concurrency=_CONCURRENCY)
    try:
        yield client
    finally:
        await client.close()


def _unit(vectors_BD: _Vectors) -> NDArray[np.float64]:
    wide_BD = vectors_BD.astype(np.float64)
    unit_BD: NDArray[np.float64] = wide_BD / np.linalg.norm(wide_BD, axis=1, keepdims=True)
    return unit_BD


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed (nearest rank)."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
