"""One encoder down: search by the other, for who asked for it, said so, and never stored."""

from collections.abc import AsyncIterator

import asyncpg
import cache_writes
import grpc
import numpy as np
import pytest
import tritonclient.grpc.aio as triton_grpc
from fault_caller import Caller, Parts, chunk_request, error_of
from fault_site import until

from duovec.v1 import search_service_pb2 as pb
from duovec.v1 import vector_pb2

QUERY = "multiply by seven"


@pytest.fixture(autouse=True)
def patient_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a look-up may take longer than a call waits for it, and the encoders are asked instead."""
    monkeypatch.setattr("gateway.embedding.cache._READ_TIMEOUT_S", 30.0)


@pytest.fixture
async def caller(parts: Parts) -> AsyncIterator[Caller]:
    async with grpc.aio.insecure_channel(parts.endpoint) as channel:
        caller = Caller(channel, parts.endpoint)
        await caller.until_serving(True)
        await caller.create("faults")
        await caller.index([chunk_request("faults", number) for number in range(10)])
        yield caller


async def test_the_live_encoder_answers_and_the_reply_says_so(parts: Parts, caller: Caller) -> None:
    """Its scores are the cosines of its own halves, as both encoders gave them before; what is stored needs both."""
    query_D = vectors_of(await caller.embed([QUERY], input_type=vector_pb2.INPUT_TYPE_QUERY))[0]
    hits = (await caller.search("faults", QUERY)).hits
    passages_BD = vectors_of(await caller.embed([f"{hit.chunk.symbol}\n{hit.chunk.content}" for hit in hits]))
    request = pb.SearchRequest(codebase_ids=["faults"], query=QUERY, page_size=6, allow_degraded=True, lexical_weight=0)
    for down, half in (("compact-text", slice(None, 1536)), ("compact-code", slice(1536, None))):
        cosines = 2 * passages_BD[:, half] @ query_D[half]
        expected = dict(zip((hit.chunk_id for hit in hits), cosines, strict=True))
        async with triton_grpc.InferenceServerClient(parts.triton.url) as triton:
            await triton.unload_model(down)
            # A query that was embedded before is answered from the cache, whole; what follows needs the encoders.
            assert (await caller.search_by(request)).missing_encoder == ""
            await forget_vectors(parts)
            error = await error_of(lambda: caller.search("faults", QUERY))
            assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "TRITON_UNAVAILABLE")
            first = await caller.search_by(request)
            assert (first.missing_encoder, first.partial) == (down, True)
            assert first.partial_reasons == [pb.PARTIAL_REASON_ENCODER_DOWN]
            for hit in first.hits:
                assert hit.score == pytest.approx(expected[hit.chunk_id], abs=2e-3)
            [reply] = await caller.index([chunk_request("faults", 99)])
            assert reply.error.code == grpc.StatusCode.UNAVAILABLE.value[0]
            assert await caller.chunk_count("faults") == (10, 0)
            await triton.load_model(down)
        # A list that was begun by one encoder is ended by it, and goes on saying so.
        request.page_token = first.next_page_token
        second = await caller.search_by(request)
        assert second.missing_encoder == down
        assert {hit.chunk_id for hit in [*first.hits, *second.hits]} == set(expected)
        # And was kept nowhere: the same query is a whole one again, and its scores are those of both halves.
        request.page_token = ""
        whole = await caller.search_by(request)
        assert whole.missing_encoder == ""
        scores = dict(zip(expected, passages_BD @ query_D, strict=True))
        for hit in whole.hits:
            assert hit.score == pytest.approx(scores[hit.chunk_id], abs=2e-3)


async def forget_vectors(parts: Parts) -> None:
    """Empty the embedding cache, once what was embedded is there."""
    await until(lambda: not cache_writes.are_under_way())
    connection = await asyncpg.connect(parts.database_url)
    assert await connection.execute("DELETE FROM cached_embeddings WHERE input_type = 'query'") == "DELETE 1"
    await connection.close()


def vectors_of(response: object) -> np.ndarray:
    return np.array([embedding.vector.values for embedding in response.embeddings])  # type: ignore[attr-defined]
