"""What a stream of chunks keeps on its way."""

from collections.abc import Iterator
from typing import Any

import pytest

from duovec.v1 import chunk_pb2, index_service_pb2
from gateway.client.client import Client
from gateway.client.codebases import INDEX_CHUNKS
from gateway.client.dual import run
from gateway.client.stream import ItemStream

from .fake_service import FakeService, serving


@pytest.fixture
def service() -> FakeService:
    service = FakeService()
    service.stored["x"] = {}
    return service


@pytest.fixture
def client(service: FakeService) -> Iterator[Client]:
    with serving(service) as endpoint, Client(endpoint) as client:
        yield client


@pytest.mark.parametrize(("size_bytes", "most"), [(3000, 2), (9000, 1)])
def test_the_window_is_of_bytes_too(
    client: Client, monkeypatch: pytest.MonkeyPatch, size_bytes: int, most: int
) -> None:
    """A window of 512 of the largest chunks would be 512 MB; one that alone exceeds it goes alone."""
    monkeypatch.setattr("gateway.client.stream._WINDOW_BYTES", 8192)
    answered, ahead = 0, 0

    async def count(request: object, reply: object) -> None:
        nonlocal answered
        answered += 1

    stream: ItemStream[Any, Any] = ItemStream(client._connection, INDEX_CHUNKS, count)
    for number in range(100):
        chunk = chunk_pb2.Chunk(path=f"{number}.py", content="x" * size_bytes)
        run(stream.send(index_service_pb2.IndexChunksRequest(codebase_id="x", chunk=chunk)))
        ahead = max(ahead, number + 1 - answered)
    run(stream.drain())
    run(stream.close())
    assert answered == 100
    assert ahead <= most
