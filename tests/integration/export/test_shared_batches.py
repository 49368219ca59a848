"""What Triton runs together: a query is not answered when the index run is that waits beside it."""

import asyncio
import json
from collections.abc import Awaitable
from pathlib import Path

import numpy as np
import pytest
from small_encoder import build_small, vector_of
from triton_caller import ENCODER
from tritonclient.grpc.aio import InferenceServerClient, InferInput

from export.publish import configure, publish_candidate
from export.repository import EncoderFolder
from export.tuning import Tuning
from gateway.local.triton import Triton

# Put at the end of the version's own host.py: it writes down every run, which then waits while it is told to.
HELD = """
import time

_folder = Path(__file__).parent
_open_session = open_session


def open_session(*arguments):
    session = _open_session(*arguments)
    run = session.run

    def held(feeds):
        with (_folder / "runs.jsonl").open("a") as file:
            file.write(json.dumps(list(feeds["input_ids"].shape)) + chr(10))
        while (_folder / "wait").exists():
            time.sleep(0.01)
        return run(feeds)

    session.run = held
    return session
"""


@pytest.fixture
async def held(folder: EncoderFolder) -> Path:
    """The folder of version 2, which one process serves."""
    build_small(folder, seed=2, host=HELD)
    publish_candidate(folder, None)
    configure(folder, Tuning(num_threads=1, token_budget=512, instances=1, cores=2), None)
    return folder.path / "2"


def infer(client: InferenceServerClient, rows: int, tokens: int, priority: int) -> Awaitable[object]:
    """One request of equal rows; its vectors are numpy's."""
    ids = np.full((rows, tokens), 7)
    inputs = []
    for name, values in (("input_ids", ids), ("attention_mask", np.ones_like(ids))):
        inputs.append(InferInput(name, list(values.shape), "INT64"))
        inputs[-1].set_data_from_numpy(values)

    async def answer() -> None:
        reply = await client.infer(ENCODER, inputs, model_version="2", priority=priority, client_timeout=60)
        expected = [vector_of(2, ids[0].tolist())] * rows
        np.testing.assert_allclose(reply.as_numpy("sentence_embedding"), expected, atol=1e-6)

    return asyncio.create_task(answer())


async def test_a_query_shares_no_batch_with_an_index_run(held: Path, triton: Triton) -> None:
    """Both wait for the one process, and neither for the other's rows."""
    record, wait = held / "runs.jsonl", held / "wait"
    async with InferenceServerClient(triton.url) as client:
        record.unlink()
        wait.touch()
        first = infer(client, 1, 2, 1)
        async with asyncio.timeout(60):
            while not record.exists():
                await asyncio.sleep(0.01)
        others = [infer(client, 4, 20, 2), infer(client, 1, 3, 1)]
        await asyncio.sleep(1)  # they are in the queue by then, or else the test says less
        wait.unlink()
        await asyncio.gather(first, *others)
    runs = [json.loads(line) for line in record.read_text().splitlines()]
    assert sorted(runs) == [[1, 8], [1, 8], [4, 24]]
