"""The machine's settings in the real Triton: they arrive in the backend, and no request fails on the way."""

import asyncio
import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from small_encoder import build_small, vector_of
from triton_caller import ENCODER, calling
from tritonclient.grpc import InferenceServerClient, InferInput

from export.publish import configure, publish_candidate
from export.repository import EncoderFolder
from export.triton_control import TritonControl
from export.tuning import Tuning
from gateway.local.triton import Triton

# Put at the end of the version's own host.py: it writes down what the runtime was given.
RECORDER = """
_record = Path(__file__).with_name("seen.jsonl")
_open_session = open_session


def open_session(runtime, path, precision, num_threads, cache_dir=None):
    session = _open_session(runtime, path, precision, num_threads, cache_dir)
    run = session.run

    def recorded(feeds):
        with _record.open("a") as file:
            file.write(json.dumps([num_threads, *feeds["input_ids"].shape]) + chr(10))
        return run(feeds)

    session.run = recorded
    return session
"""
ROWS = np.array([[3, 1, 4, 1], [5, 9, 2, 6], [5, 3, 5, 8], [9, 7, 9, 3]])


def embed(triton: Triton, version: int) -> None:
    """One request of four rows of four tokens; its vectors are numpy's."""
    inputs = []
    for name, values in (("input_ids", ROWS), ("attention_mask", np.ones_like(ROWS))):
        inputs.append(InferInput(name, list(values.shape), "INT64"))
        inputs[-1].set_data_from_numpy(values)
    with InferenceServerClient(triton.url) as client:
        reply = client.infer(ENCODER, inputs, model_version=str(version))
    expected = [vector_of(2, row.tolist()) for row in ROWS]
    np.testing.assert_allclose(reply.as_numpy("sentence_embedding"), expected, atol=1e-6)


def seen(folder: EncoderFolder) -> list[list[int]]:
    """Threads, rows and tokens of each run since the last look."""
    record = folder.path / "2" / "seen.jsonl"
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    record.unlink()
    return lines


def stubs(triton: Triton) -> int:
    """Processes that hold an encoder."""
    count = 0
    for child in psutil.Process(triton.pid).children():
        with suppress(psutil.NoSuchProcess):
            count += child.name().startswith("triton_python")
    return count


@pytest.fixture
async def recording(folder: EncoderFolder, triton: Triton) -> EncoderFolder:
    """Version 2 is served, and writes down how it is run."""
    build_small(folder, seed=2, host=RECORDER)

    def publish() -> None:
        with TritonControl(triton.url) as control:
            publish_candidate(folder, control)

    await asyncio.to_thread(publish)
    return folder


async def test_threads_token_budget_and_instances_arrive(recording: EncoderFolder, triton: Triton) -> None:
    """What the runtime was given, before and after, in widths of 8; versions that come get the same."""
    seen(recording)
    embed(triton, 2)
    assert seen(recording) == [[1, 4, 8]]

    def set_up() -> None:
        with TritonControl(triton.url) as control:
            configure(recording, Tuning(num_threads=2, token_budget=8, instances=3, cores=2), control)

    async with calling(triton, 1, seed=1) as caller:
        await asyncio.to_thread(set_up)
    assert caller.failures == []
    seen(recording)
    embed(triton, 2)
    assert seen(recording) == [[2, 2, 8], [2, 2, 8]]
    config = recording.config()
    assert config is not None
    async with asyncio.timeout(30):
        # Those of the old settings end behind the reply.
        while stubs(triton) != 3 * len(config.version_policy.specific.versions):
            await asyncio.sleep(0.05)


async def test_a_triton_that_starts_reads_them(recording: EncoderFolder, triton: Triton, tmp_path: Path) -> None:
    """As `duovec up` does."""
    configure(recording, Tuning(num_threads=1, token_budget=4, instances=1, cores=2), None)
    await triton.stop(grace_s=0)
    await triton.start()
    seen(recording)
    embed(triton, 2)
    assert seen(recording) == [[1, 1, 8]] * 4
