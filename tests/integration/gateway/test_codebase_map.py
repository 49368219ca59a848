"""What both encoders find, and the map: against searches, which work the same out in PostgreSQL."""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from duovec.v1 import codebase_service_pb2 as codebase_pb
from duovec.v1 import codebase_service_pb2_grpc as codebase_grpc
from duovec.v1 import search_service_pb2 as search_pb
from duovec.v1 import search_service_pb2_grpc as search_grpc
from gateway.client.client import Client
from gateway.client.indexer import index_tree
from gateway.local.stack import Stack

CODEBASE = "codebase-map"
NAMES = "socket server parse vector norm file path token key lock queue thread timer cache index".split()


@pytest.fixture(scope="module")
def indexed(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    root = tmp_path_factory.mktemp("map")
    for name in NAMES:
        (root / f"{name}.py").write_text(f"def open_{name}(first):\n    return {name}.open(first, '{name}')\n")
    with Client(stack.endpoint, api_key=stack.api_key) as client:
        index_tree(client, root, CODEBASE)
        yield client
        client.delete_codebase(CODEBASE)


@pytest.fixture(scope="module")
def call(stack: Stack) -> Iterator[Any]:
    """Calls a method as an administrator."""
    metadata = (("authorization", f"Bearer {stack.api_key}"),)
    with grpc.insecure_channel(stack.endpoint) as channel:
        stubs = codebase_grpc.CodebaseServiceStub(channel), search_grpc.SearchServiceStub(channel)

        def invoke(request: Any) -> Any:
            name = type(request).__name__.removesuffix("Request")
            (method,) = (getattr(stub, name) for stub in stubs if hasattr(stub, name))
            return method(request, metadata=metadata)

        yield invoke


def test_neighbors_on_the_map_are_the_hits_of_a_search(indexed: Client, call: Any) -> None:
    reply = call(codebase_pb.MapCodebaseRequest(codebase_id=CODEBASE))
    points = reply.points
    assert [point.path for point in points] == sorted(f"{name}.py" for name in NAMES)
    assert reply.chunk_count == len(NAMES)
    for point in points:
        hits = indexed.search(CODEBASE, like_chunk_id=point.chunk_id, limit=8, unlogged=True)
        assert reply.space == hits.space
        assert [points[n].chunk_id for n in point.neighbor_indices] == [hit.chunk_id for hit in hits.hits]
        assert list(point.neighbor_similarities) == pytest.approx([hit.similarity for hit in hits.hits], abs=2e-3)


def test_a_sample_is_the_same_each_time(indexed: Client, call: Any) -> None:
    request = codebase_pb.MapCodebaseRequest(codebase_id=CODEBASE, max_point_count=5)
    first = call(request)
    assert len({point.chunk_id for point in first.points}) == 5
    assert first.chunk_count == len(NAMES)
    assert call(request) == first


@pytest.mark.parametrize("count", [-1, 2001])
def test_a_map_has_a_limit(indexed: Client, call: Any, count: int) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        call(codebase_pb.MapCodebaseRequest(codebase_id=CODEBASE, max_point_count=count))
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "2000" in failure.value.details()


def test_a_codebase_without_chunks_is_an_empty_map(indexed: Client, call: Any) -> None:
    indexed.create_codebase("codebase-map-empty")
    reply = call(codebase_pb.MapCodebaseRequest(codebase_id="codebase-map-empty"))
    assert (len(reply.points), reply.chunk_count, len(reply.space)) == (0, 0, 64)
    indexed.delete_codebase("codebase-map-empty")


def search(call: Any, **fields: Any) -> search_pb.SearchResponse:
    request = search_pb.SearchRequest(codebase_ids=[CODEBASE], encoder_similarities=True, unlogged=True, **fields)
    reply: search_pb.SearchResponse = call(request)
    return reply


@pytest.mark.parametrize("blend", [0.0, 0.3, 0.5, 1.0])
def test_each_encoder_s_similarity_is_that_of_a_search_by_it_alone(indexed: Client, call: Any, blend: float) -> None:
    """Whatever the blend, and without a change of the hits; the blend of both is what hits are ranked by."""
    asked = {"query": "open a socket", "page_size": 50}
    alone = [{hit.chunk_id: hit.similarity for hit in search(call, blend=share, **asked).hits} for share in (1.0, 0.0)]
    reply = search(call, blend=blend, **asked)
    plain = indexed.search(CODEBASE, "open a socket", limit=50, blend=blend, unlogged=True).hits
    assert [(hit.chunk_id, hit.score) for hit in reply.hits] == [(hit.chunk_id, hit.score) for hit in plain]
    assert not any(hit.HasField("code_similarity") for hit in plain)
    for hit in reply.hits:
        assert hit.code_similarity == pytest.approx(alone[0][hit.chunk_id], abs=1e-3)
        assert hit.text_similarity == pytest.approx(alone[1][hit.chunk_id], abs=1e-3)
        mean = blend * hit.code_similarity + (1 - blend) * hit.text_similarity
        assert hit.similarity == pytest.approx(mean, abs=1e-3)


def test_like_a_chunk_and_on_later_pages(indexed: Client, call: Any) -> None:
    """A later page knows nothing of an encoder that had no share, and says nothing of it."""
    (hit,) = search(call, query="open a socket", page_size=1).hits
    similar = search(call, like_chunk_id=hit.chunk_id, page_size=2)
    assert all(one.HasField("code_similarity") and one.HasField("text_similarity") for one in similar.hits)
    for blend, has_text in ((0.4, True), (1.0, False)):
        asked = {"query": "open a socket", "page_size": 2, "blend": blend}
        page = search(call, page_token=search(call, **asked).next_page_token, **asked)
        assert [one.HasField("text_similarity") for one in page.hits] == [has_text] * 2
        assert all(one.HasField("code_similarity") for one in page.hits)
