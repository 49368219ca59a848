"""A client that knows nothing of duovec: it learns the services by reflection and uses them."""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from gateway.local.stack import Stack


class ForeignClient:
    """Calls any method of a server that reflects."""

    def __init__(self, channel: grpc.Channel, api_key: str) -> None:
        self._channel = channel
        self._metadata = (("authorization", f"Bearer {api_key}"),)
        self.database = ProtoReflectionDescriptorDatabase(channel)
        self._pool = DescriptorPool(self.database)

    def call(self, service: str, method: str, fields: dict[str, Any] | list[dict[str, Any]]) -> list[Any]:
        descriptor = self._pool.FindServiceByName(service).FindMethodByName(method)
        request_class, response_class = (
            GetMessageClass(kind) for kind in (descriptor.input_type, descriptor.output_type)
        )
        path, codec = (
            f"/{service}/{method}",
            {
                "request_serializer": request_class.SerializeToString,
                "response_deserializer": response_class.FromString,
            },
        )
        if isinstance(fields, list):
            requests = (request_class(**one) for one in fields)
            return list(self._channel.stream_stream(path, **codec)(requests, timeout=60, metadata=self._metadata))
        call = self._channel.unary_unary(path, **codec)
        return [call(request_class(**fields), timeout=60, metadata=self._metadata)]


@pytest.fixture
def foreign(stack: Stack) -> Iterator[ForeignClient]:
    with grpc.insecure_channel(stack.endpoint) as channel:
        yield ForeignClient(channel, stack.api_key)


def test_it_lists_the_services(foreign: ForeignClient) -> None:
    assert set(foreign.database.get_services()) >= {
        "duovec.v1.EmbeddingService",
        "duovec.v1.IndexService",
        "duovec.v1.SearchService",
        "duovec.v1.CodebaseService",
        "duovec.v1.PrincipalService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }


def test_it_embeds_a_text(foreign: ForeignClient) -> None:
    (reply,) = foreign.call("duovec.v1.EmbeddingService", "Embed", {"texts": ["def f(): pass"], "input_type": 2})
    assert len(reply.embeddings[0].vector.values) == 2560
    assert len(reply.space) == 64


def test_it_indexes_and_searches(foreign: ForeignClient) -> None:
    foreign.call("duovec.v1.CodebaseService", "CreateCodebase", {"codebase_id": "foreign"})
    chunks = [
        {
            "codebase_id": "foreign",
            "item_id": str(ordinal),
            "chunk": {
                "path": "m.go",
                "language": "go",
                "symbol": symbol,
                "kind": "function",
                "start_line": ordinal + 1,
                "end_line": ordinal + 1,
                "content": content,
                "file_sha256": b"\x01" * 32,
                "ordinal": ordinal,
                "file_chunk_count": 2,
            },
        }
        for ordinal, (symbol, content) in enumerate(
            [("Sort", "func Sort(xs []int) { sort.Ints(xs) }"), ("Dial", "func Dial(host string) (net.Conn, error) {}")]
        )
    ]
    replies = foreign.call("duovec.v1.IndexService", "IndexChunks", chunks)
    assert sorted(reply.item_id for reply in replies) == ["0", "1"]
    assert all(reply.indexed.chunk_id > 0 for reply in replies)
    (found,) = foreign.call(
        "duovec.v1.SearchService", "Search", {"codebase_ids": ["foreign"], "query": "open a network connection"}
    )
    assert [hit.chunk.symbol for hit in found.hits] == ["Dial", "Sort"]
    foreign.call("duovec.v1.CodebaseService", "DeleteCodebase", {"codebase_id": "foreign"})


def test_health_says_serving(foreign: ForeignClient) -> None:
    for service in ("", "duovec.v1.SearchService"):
        (reply,) = foreign.call("grpc.health.v1.Health", "Check", {"service": service})
        assert reply.status == 1
