"""That a vector is only taken from the model that was published."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.grpc.service_pb2_grpc import add_GRPCInferenceServiceServicer_to_server

from gateway.embedding.proof import ProvenEncoders
from gateway.embedding.space import InputType, Space
from gateway.embedding.triton import Priority, TritonClient
from gateway.errors import DeadlineExceeded, SpaceMismatch, TritonUnavailable

from .fake_triton import Call, FakeTriton, hang, refuse


async def answer(call: Call, context: Any) -> NDArray[np.float32]:
    """Each row is the unit vector of its first id, as long as the encoder's vectors are."""
    dimension = 1536 if call.model == "tiny-code" else 1024
    return np.eye(dimension, dtype=np.float32)[call.ids_BT[:, 0]]


@pytest.fixture
async def triton() -> AsyncIterator[tuple[FakeTriton, TritonClient]]:
    server, fake = grpc.aio.server(), FakeTriton()
    fake.answer = answer
    add_GRPCInferenceServiceServicer_to_server(fake, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    client = TritonClient(f"127.0.0.1:{port}", concurrency=4)
    yield fake, client
    await client.close()
    await server.stop(None)


def write_canary(folder: Path, dimension: int, *, vector: Any = None, task_id: int | None = None) -> None:
    """One row whose first id is 5."""
    seen = np.eye(dimension)[5] if vector is None else vector
    canary = {"input_ids": [5, 6], "task_id": task_id, "vector": list(seen)}
    (folder / "canary.json").write_text(json.dumps(canary))


@pytest.fixture
def published(space: Space) -> Space:
    write_canary(space.code.folder, 1536)
    write_canary(space.text.folder, 1024, task_id=1)
    return space


async def run(encoders: ProvenEncoders, space: Space, name: str = "code") -> None:
    encoder = space.code if name == "code" else space.text
    vectors_BD, errors = await encoders.encode(
        encoder, [np.array([3])], InputType.PASSAGE, priority=Priority.BULK, timeout_s=30
    )
    assert not errors
    assert vectors_BD[0, 3] == 1


async def test_an_encoder_is_proven_once_before_its_first_use(
    triton: tuple[FakeTriton, TritonClient], published: Space
) -> None:
    fake, client = triton
    encoders = ProvenEncoders(client)
    await asyncio.gather(*(run(encoders, published) for _ in range(5)))
    proofs = [call for call in fake.calls if call.ids_BT[0, 0] == 5]
    assert (len(proofs), len(fake.calls)) == (1, 6)
    assert fake.calls[0] is proofs[0]
    assert proofs[0].ids_BT.tolist() == [[5, 6]]


async def test_the_row_runs_with_the_task_it_was_published_with(
    triton: tuple[FakeTriton, TritonClient], published: Space
) -> None:
    fake, client = triton
    await run(ProvenEncoders(client), published, "text")
    tasks = [call.task_id_B1.tolist() for call in fake.calls if call.task_id_B1 is not None]
    assert tasks == [[[1]], [[2]]]  # the canary's is a query's, the text's a passage's


async def test_another_model_under_the_same_version_gives_no_vector(
    triton: tuple[FakeTriton, TritonClient], published: Space
) -> None:
    """Its vectors have the right form and norm, and would be stored and found by chance only."""
    fake, client = triton
    write_canary(published.code.folder, 1536, vector=np.eye(1536)[7])
    encoders = ProvenEncoders(client)
    for _ in range(2):
        with pytest.raises(SpaceMismatch, match=r"tiny-code version 1.*cosine 0\.0000"):
            await run(encoders, published)
    assert all(call.ids_BT[0, 0] == 5 for call in fake.calls)
    await run(encoders, published, "text")


@pytest.mark.parametrize("cosine", [0.9998, 0.99995])
async def test_rounding_passes_and_more_does_not(
    triton: tuple[FakeTriton, TritonClient], published: Space, cosine: float
) -> None:
    vector = np.zeros(1536)
    vector[5], vector[6] = cosine, (1 - cosine**2) ** 0.5
    write_canary(published.code.folder, 1536, vector=vector)
    encoders = ProvenEncoders(triton[1])
    if cosine < 0.9999:
        with pytest.raises(SpaceMismatch):
            await run(encoders, published)
    else:
        await run(encoders, published)


@pytest.mark.parametrize("content", [None, "{", "{}", json.dumps({"input_ids": [5], "task_id": None, "vector": [1.0]})])
async def test_without_a_sound_canary_nothing_is_proven(
    triton: tuple[FakeTriton, TritonClient], published: Space, content: str | None
) -> None:
    path = published.code.folder / "canary.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(SpaceMismatch):
        await run(ProvenEncoders(triton[1]), published)


async def test_a_triton_that_was_away_is_proven_again(
    triton: tuple[FakeTriton, TritonClient], published: Space
) -> None:
    """It may have been started on another repository."""
    fake, client = triton
    encoders = ProvenEncoders(client)
    await run(encoders, published)
    fake.answer = refuse(grpc.StatusCode.UNAVAILABLE, "away")
    with pytest.raises(TritonUnavailable):
        await run(encoders, published)

    async def other(call: Call, context: Any) -> NDArray[np.float32]:
        return np.roll(await answer(call, context), 1, axis=1)

    fake.answer = other
    with pytest.raises(SpaceMismatch):
        await run(encoders, published)
    fake.answer = answer
    await run(encoders, published)


async def test_nobody_waits_for_the_proofs_of_all_who_came_before(
    triton: tuple[FakeTriton, TritonClient], published: Space
) -> None:
    """Where Triton hangs, each would have its own time for a proof only after the time of all others."""
    fake, client = triton
    fake.answer = hang
    encoders = ProvenEncoders(client)
    proofs = [encoders.prove(published.code, timeout_s=1.0) for _ in range(5)]
    outcomes = await asyncio.gather(*proofs, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [DeadlineExceeded] * 5
    assert sum(call.ids_BT[0, 0] == 5 for call in fake.calls) == 1
    fake.answer = answer
    await run(encoders, published)


async def test_a_version_that_is_not_ready_is_proven_again(
    triton: tuple[FakeTriton, TritonClient], published: Space
) -> None:
    fake, client = triton
    encoders = ProvenEncoders(client)
    await run(encoders, published)
    fake.ready = False
    with pytest.raises(TritonUnavailable):
        await encoders.check_ready(published.code, timeout_s=5)
    await run(encoders, published)
    assert sum(call.ids_BT[0, 0] == 5 for call in fake.calls) == 2


async def test_whoever_comes_back_at_the_same_port_is_proven_again(published: Space) -> None:
    """Between two calls Triton was started anew with other models, and no call failed meanwhile."""

    async def other(call: Call, context: Any) -> NDArray[np.float32]:
        return np.roll(await answer(call, context), 1, axis=1)

    async def serve(answering: Any, port: int) -> tuple[grpc.aio.Server, int]:
        server, fake = grpc.aio.server(options=[("grpc.so_reuseport", 0)]), FakeTriton()
        fake.answer = answering
        add_GRPCInferenceServiceServicer_to_server(fake, server)
        port = server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        return server, port

    first, port = await serve(answer, 0)
    client = TritonClient(f"127.0.0.1:{port}", concurrency=4)
    encoders = ProvenEncoders(client)
    await run(encoders, published)
    await first.stop(None)
    second, _ = await serve(other, port)
    with pytest.raises(SpaceMismatch):
        while True:
            try:
                await run(encoders, published)
            except TritonUnavailable:
                continue
            raise AssertionError("a vector of the other model was taken")
    await client.close()
    await second.stop(None)
