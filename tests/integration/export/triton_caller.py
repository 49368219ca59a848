"""A caller that never stops asking Triton for a version's vectors, and counts what fails."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from small_encoder import vector_of
from tritonclient.grpc.aio import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from gateway.local.triton import Triton

ENCODER = "small-code"


@dataclass
class Caller:
    """Asks one version for a vector, again and again, and counts."""

    url: str
    version: int
    seed: int
    answers: int = 0
    failures: list[str] = field(default_factory=list)

    async def run(self) -> None:
        """Until cancelled. An answer that is not numpy's vector is a failure too."""
        async with InferenceServerClient(self.url) as client:
            for ids in self._rows():
                inputs = []
                for name, values in (("input_ids", ids), ("attention_mask", np.ones_like(ids))):
                    inputs.append(InferInput(name, values.shape, "INT64"))
                    inputs[-1].set_data_from_numpy(values)
                try:
                    reply = await client.infer(ENCODER, inputs, model_version=str(self.version), client_timeout=10)
                except InferenceServerException as exc:
                    self.failures.append(str(exc))
                    continue
                expected = vector_of(self.seed, ids[0].tolist())
                if not np.allclose(reply.as_numpy("sentence_embedding")[0], expected, atol=1e-6):
                    self.failures.append(f"another vector for {ids.tolist()}")
                self.answers += 1

    def _rows(self) -> Iterator[NDArray[np.int64]]:
        rng = np.random.default_rng(self.seed)
        while True:
            yield rng.integers(0, 64, size=(1, int(rng.integers(1, 30))))


@contextlib.asynccontextmanager
async def calling(triton: Triton, version: int, *, seed: int) -> AsyncIterator[Caller]:
    """Requests in flight throughout the block; it begins and ends with one that was answered."""
    caller = Caller(triton.url, version, seed)

    async def answered() -> None:
        before = caller.answers
        while caller.answers <= before and not caller.failures:
            await asyncio.sleep(0.005)

    task = asyncio.create_task(caller.run())
    try:
        await asyncio.wait_for(answered(), 20)
        yield caller
        await asyncio.wait_for(answered(), 20)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
