"""Models that answer NaN, zeros, the wrong shape, or that are others than were published, and a disk without models.

A vector that cannot be right is INTERNAL with BAD_VECTOR, one of another model is refused, and nothing is stored.
"""

import asyncio
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest
from fault_caller import Caller, Parts, chunk_request, error_of
from fault_site import ENCODERS, Backends, alive, serving
from open_folder import open_folder
from tokenizers import Tokenizer

from gateway.errors import StartupError
from gateway.local.process import split_address
from gateway.local.triton import Triton

# A test double of the code encoder: broken for texts that have one of a few words, a unit vector for all others.
BROKEN_MODEL = """
import zlib

import numpy as np
import triton_python_backend_utils as pb_utils


INPUTS = "input_ids", "attention_mask"


class TritonPythonModel:
    def execute(self, requests):
        return [
            self.answer(*(pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in INPUTS))
            for request in requests
        ]

    def answer(self, ids, mask):
        rows = [row[:length] for row, length in zip(ids, mask.sum(axis=1))]
        digests = np.array([[zlib.crc32(row.tobytes())] for row in rows], dtype=np.int64)
        vectors = np.zeros((len(ids), 1536), dtype=np.float32)
        vectors[:, 0] = 1.0
        for token, value in %(values)r.items():
            vectors[(ids == token).any(axis=1)] = float(value)
        if (ids == %(narrow)d).any():
            vectors = vectors[:, :-1]
        if (ids == %(fewer)d).any():
            vectors = vectors[:-1]
        if (ids == %(failing)d).any():
            return pb_utils.InferenceResponse(error=pb_utils.TritonError("the model has a fault"))
        tensors = {"sentence_embedding": np.ascontiguousarray(vectors), "row_digest": digests}
        return pb_utils.InferenceResponse([pb_utils.Tensor(*tensor) for tensor in tensors.items()])
"""
VALUES = {"poison": "nan", "zero": "0", "infinite": "inf", "huge": "1e30"}
BAD = [*VALUES, "narrow", "fewer", "failing"]


@pytest.fixture(scope="module")
def models(published_models: Path) -> Iterator[Path]:
    """The published models, but for the code encoder's program."""
    tokenizer = Tokenizer.from_file(str(next((published_models / ENCODERS[0] / "1").glob("tokenizer*.json"))))
    token = {word: tokenizer.token_to_id(word) for word in BAD}
    assert None not in token.values()
    with open_folder("duovec-models-") as folder:
        copy = folder / "models"
        shutil.copytree(published_models, copy)
        fields = {"values": {token[word]: value for word, value in VALUES.items()}} | token
        (copy / "compact-code" / "1" / "model.py").write_text(BROKEN_MODEL % fields)
        # What proves a version passes: the model goes wrong afterwards.
        canary = copy / "compact-code" / "1" / "canary.json"
        table = json.loads(canary.read_text())
        canary.write_text(json.dumps(table | {"vector": [1.0] + [0.0] * 1535}))
        yield copy


@pytest.fixture(scope="module")
async def bad_triton(models: Path) -> AsyncIterator[Triton]:
    with open_folder("duovec-bad-triton-") as folder:
        triton = Triton(models, ENCODERS, work_dir=folder / "triton", log_path=folder / "triton.log")
        await triton.start()
        yield triton
        await triton.stop(grace_s=1)


@pytest.fixture
async def bad_parts(backends: Backends, bad_triton: Triton, models: Path, database_url: str) -> AsyncIterator[Parts]:
    async with serving(backends.postgres, bad_triton, models, database_url) as parts:
        yield parts


@pytest.fixture
async def caller(bad_parts: Parts) -> AsyncIterator[Caller]:
    async with grpc.aio.insecure_channel(bad_parts.endpoint) as channel:
        caller = Caller(channel, bad_parts.endpoint)
        await caller.until_serving(True)
        await caller.create("bad")
        yield caller


@pytest.mark.parametrize("word", BAD)
async def test_a_bad_vector_is_refused_and_not_stored(caller: Caller, word: str) -> None:
    error = await error_of(lambda: caller.embed([word]))
    assert error.code == grpc.StatusCode.INTERNAL
    assert error.reason == ("INTERNAL" if word == "failing" else "BAD_VECTOR")
    requests = [chunk_request("bad", number) for number in range(3)]
    requests[1].chunk.content = word
    replies = {reply.item_id: reply for reply in await caller.index(requests)}
    assert replies["1"].error.code == grpc.StatusCode.INTERNAL.value[0]
    if word in VALUES:
        assert "nothing was stored" in replies["1"].error.message
        assert replies["0"].HasField("indexed")
        assert replies["2"].HasField("indexed")
    stored = sum(reply.HasField("indexed") for reply in replies.values())
    assert await caller.chunk_count("bad") == (stored, 0)
    # The words that are whole are served as before.
    assert len((await caller.embed(["fine"])).embeddings) == 1


async def test_a_gateway_does_not_start_on_another_model(
    backends: Backends, bad_triton: Triton, database_url: str
) -> None:
    """Triton serves the version that the gateway asks for, sound in form, and it is not the one that was published."""
    with pytest.raises(StartupError, match=r"another vector for encoder compact-code version 1.*cosine"):
        async with serving(backends.postgres, bad_triton, backends.repository, database_url):
            pass


async def test_a_disk_without_models_is_missed_by_nobody_until_they_are_loaded_again(
    caller: Caller, bad_triton: Triton, models: Path
) -> None:
    """What is loaded is served; a Triton that cannot load anything is UNAVAILABLE; with the disk all is as before."""
    gone = models.with_name("unmounted")
    shutil.move(models, gone)
    try:
        assert len((await caller.embed(["fine"])).embeddings) == 1
        await caller.index([chunk_request("bad", 1)])
        assert len((await caller.search("bad", "fine")).hits) == 1
        assert await caller.is_serving()
        os.killpg(bad_triton.pid, signal.SIGKILL)
        await bad_triton.wait()
        await bad_triton.stop()
        with pytest.raises(StartupError, match="Triton did not start"):
            await bad_triton.start()
        error = await error_of(lambda: caller.embed(["other"]))
        # It is away, or what would prove it is.
        assert error.code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.FAILED_PRECONDITION}
        await caller.until_serving(False)
    finally:
        shutil.move(gone, models)
    await bad_triton.start()
    await caller.until_serving(True)
    assert len((await caller.embed(["other"])).embeddings) == 1


async def test_another_model_that_takes_the_place_of_a_version_gives_nobody_a_vector(
    backends: Backends, bad_triton: Triton, database_url: str, fault_dir: Path
) -> None:
    """Between two requests of a gateway, and two looks at its health, Triton was started anew on another repository."""
    port = split_address(bad_triton.url)[1]
    await bad_triton.stop(grace_s=1)
    sound = Triton(
        backends.repository, ENCODERS, work_dir=fault_dir / "t", log_path=fault_dir / "t.log", grpc_port=port
    )
    await sound.start()
    try:
        async with (
            serving(backends.postgres, sound, backends.repository, database_url, cache_max_texts=0) as parts,
            grpc.aio.insecure_channel(parts.endpoint) as channel,
        ):
            caller = Caller(channel, parts.endpoint)
            await caller.until_serving(True)
            assert len((await caller.embed(["fine"])).embeddings) == 1
            await sound.stop(grace_s=1)
            await bad_triton.start()
            mismatch = (grpc.StatusCode.FAILED_PRECONDITION, "SPACE_MISMATCH")
            seen = []
            async with asyncio.timeout(60):
                while len(seen) < 20 or mismatch not in seen:
                    error = await error_of(lambda: caller.embed(["fine"]))
                    assert error.code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.FAILED_PRECONDITION}
                    seen.append((error.code, error.reason))
            await caller.until_serving(False)
            error = await error_of(lambda: caller.embed(["fine"]))
            assert (error.code, error.reason) == mismatch
    finally:
        await sound.stop(grace_s=1)
        if not alive(bad_triton.pid):
            await bad_triton.start()
