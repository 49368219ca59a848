"""A model that answers NaN, zeros or the wrong dimension: INTERNAL with BAD_VECTOR, and nothing is stored."""

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from fault_caller import API_KEY, Caller, Parts, chunk_request, error_of
from pydantic import SecretStr

from gateway.errors import StartupError
from gateway.server import serve
from gateway.settings import Settings

# A code encoder that is broken for every text that names "poison", and a unit vector otherwise: a test double.
BROKEN_MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            ids = pb_utils.get_input_tensor_by_name(request, "input_ids").as_numpy()
            vectors = np.zeros((len(ids), %(dimension)d), dtype=np.float32)
            vectors[:, 0] = 1.0
            vectors[(ids == %(poison)d).any(axis=1)] = %(value)s
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("sentence_embedding", vectors)]))
        return responses
"""
POISON_ID = 9947  # "poison" in the vocabulary of all-MiniLM-L6-v2


@pytest.fixture(params=["np.nan", "0.0", "np.inf"])
def repository(request: pytest.FixtureRequest, published_models: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "models"
    shutil.copytree(published_models, copy)
    model = BROKEN_MODEL % {"dimension": 1536, "poison": POISON_ID, "value": request.param}
    (copy / "compact-code" / "1" / "model.py").write_text(model)
    # What proves a version passes: the model goes wrong afterwards.
    canary = copy / "compact-code" / "1" / "canary.json"
    table = json.loads(canary.read_text())
    canary.write_text(json.dumps(table | {"vector": [1.0] + [0.0] * 1535}))
    return copy


@pytest.fixture
async def caller(parts: Parts) -> AsyncIterator[Caller]:
    async with grpc.aio.insecure_channel(parts.endpoint) as channel:
        caller = Caller(channel, parts.endpoint)
        await caller.until_serving(True)
        await caller.create("bad")
        yield caller


async def test_a_bad_vector_is_refused_and_not_stored(caller: Caller) -> None:
    error = await error_of(lambda: caller.embed(["fine", "poison"]))
    assert (error.code, error.reason) == (grpc.StatusCode.INTERNAL, "BAD_VECTOR")
    requests = [chunk_request("bad", number) for number in range(3)]
    requests[1].chunk.content = "poison"
    replies = {reply.item_id: reply for reply in await caller.index(requests)}
    assert replies["1"].error.code == grpc.StatusCode.INTERNAL.value[0]
    assert "nothing was stored" in replies["1"].error.message
    assert replies["0"].HasField("indexed")
    assert replies["2"].HasField("indexed")
    assert await caller.chunk_count("bad") == (2, 0)


async def test_a_gateway_does_not_start_on_another_model(parts: Parts, published_models: Path) -> None:
    """Triton serves the version that the gateway asks for, sound in form, and it is not the one that was published."""
    settings = Settings(
        database_url=parts.postgres.url,
        triton_url=parts.triton.url,
        model_repository=published_models,
        listen="127.0.0.1:0",
        admin_key=SecretStr(API_KEY),
    )
    with pytest.raises(StartupError, match=r"another vector for encoder compact-code version 1.*cosine"):
        async with serve(settings):
            pass
