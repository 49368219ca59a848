"""What a stream of chunks keeps on its way."""

from collections.abc import Iterator
from typing import Any

import pytest

from duovec.v1 import chunk_pb2, index_service_pb2
from gateway.client.client import Client
from gateway.client.codebases import INDEX_CHUNKS
from gateway.client.dual import run
from gateway.client.embedding import Precision
from gateway.client.errors import ClientError
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


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_any_number_of_texts_is_embedded(client: Client, service: FakeService, precision: Precision) -> None:
    """One that fails costs no other, and a call that breaks no text."""
    service.break_after = 300
    texts = [" " if number % 100 == 50 else str(number) for number in range(1000)]
    found = dict(client.stream_embed(iter(texts), "passage", precision=precision, window=64))
    assert service.streams == 2
    assert found.keys() == set(range(1000))
    failed = {number: str(one) for number, one in found.items() if isinstance(one, ClientError)}
    assert failed == dict.fromkeys(range(50, 1000, 100), "it is blank")
    vectors = {number: one for number, one in found.items() if not isinstance(one, ClientError)}
    assert {(one.shape, str(one.dtype)) for one in vectors.values()} == {((2560,), "float32")}
    assert all(one.argmax() == number for number, one in vectors.items())


def test_the_vectors_of_a_stream_are_of_one_space(client: Client, service: FakeService) -> None:
    """Of two spaces they must not be compared, and nothing in a vector says whose it is."""

    def texts() -> Iterator[str]:
        for number in range(1000):
            service.space = ("ab" if number < 500 else "cd") * 32
            yield str(number)

    with pytest.raises(ClientError, match="another space, cdcdcdcd, became active; .* of abababab") as failure:
        list(client.stream_embed(texts(), "passage", window=1))
    assert (failure.value.code.name, failure.value.reason) == ("FAILED_PRECONDITION", "SPACE_MISMATCH")
    service.space = "cd" * 32
    with pytest.raises(ClientError, match="another space, cdcdcdcd"):
        list(client.stream_embed(["1"], "passage", space="ab" * 32))


def test_an_item_that_is_too_large_fails_alone(client: Client, service: FakeService) -> None:
    """gRPC would end the call for all of them."""
    sizes = [10, 9_000_000, 10]
    chunks = [chunk_pb2.Chunk(path=f"{number}.py", content="x" * size) for number, size in enumerate(sizes)]
    outcomes = {chunk.path: outcome for chunk, outcome in client.index_chunks("x", chunks)}
    failed = outcomes.pop("1.py")
    assert isinstance(failed, ClientError)
    assert (failed.code.name, "9,000,0" in str(failed)) == ("INVALID_ARGUMENT", True)
    assert not any(isinstance(outcome, ClientError) for outcome in outcomes.values())
    assert service.paths("x") == ["0.py", "2.py"]
