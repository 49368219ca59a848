"""tei.v1, as a client of Text Embeddings Inference calls it, with stubs made from the proto."""

from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from steady_cache import with_steady_cache

from gateway.client.client import Client
from gateway.local.stack import Stack
from tei.v1 import tei_pb2 as pb
from tei.v1 import tei_pb2_grpc as pb_grpc

TEXTS = ["def add(a, b):\n    return a + b", "open a socket", "class Stack:\n    def push(self, item): ..."]
# The public interface, as TEI's proto/tei.proto of July 2026 has it: the wire knows numbers only.
FIELDS = {
    pb.InfoRequest: {},
    pb.InfoResponse: {
        "version": 1,
        "sha": 2,
        "docker_label": 3,
        "model_id": 4,
        "model_sha": 5,
        "model_dtype": 6,
        "model_type": 7,
        "max_concurrent_requests": 8,
        "max_input_length": 9,
        "max_batch_tokens": 10,
        "max_batch_requests": 11,
        "max_client_batch_size": 12,
        "tokenization_workers": 13,
    },
    pb.Metadata: {
        "compute_chars": 1,
        "compute_tokens": 2,
        "total_time_ns": 3,
        "tokenization_time_ns": 4,
        "queue_time_ns": 5,
        "inference_time_ns": 6,
    },
    pb.EmbedRequest: {
        "inputs": 1,
        "truncate": 2,
        "normalize": 3,
        "truncation_direction": 4,
        "prompt_name": 5,
        "dimensions": 6,
    },
    pb.EmbedResponse: {"embeddings": 1, "metadata": 2},
}


@pytest.fixture
def channel(stack: Stack) -> Iterator[grpc.Channel]:
    """A plain channel: TEI's clients are made by any gRPC, and send a key as metadata."""
    with grpc.insecure_channel(stack.endpoint) as channel:
        yield channel


@pytest.fixture
def key(stack: Stack) -> dict[str, Any]:
    return {"metadata": (("authorization", f"Bearer {stack.api_key}"),), "timeout": 30}


def test_names_and_numbers_are_those_of_the_public_interface() -> None:
    found = {message: {field.name: field.number for field in message.DESCRIPTOR.fields} for message in FIELDS}
    assert found == FIELDS
    services = pb.DESCRIPTOR.services_by_name
    assert {name: set(service.methods_by_name) for name, service in services.items()} == {
        "Info": {"Info"},
        "Embed": {"Embed", "EmbedStream"},
    }


def test_info_describes_what_is_served(channel: grpc.Channel, key: dict[str, Any], client: Client) -> None:
    info = pb_grpc.InfoStub(channel).Info(pb.InfoRequest(), **key)
    assert info.model_id == "compact-code+compact-text"
    assert info.model_sha == client.embed_response(["a"], "query").space
    assert (info.model_type, info.max_input_length, info.max_client_batch_size) == (pb.MODEL_TYPE_EMBEDDING, 512, 1)


@pytest.mark.parametrize(
    ("asked", "input_type"), [({}, "passage"), ({"prompt_name": "query"}, "query"), ({"normalize": True}, "passage")]
)
def test_the_vector_is_that_of_our_own_service(
    channel: grpc.Channel, key: dict[str, Any], client: Client, asked: dict[str, Any], input_type: str
) -> None:

    def both(attempt: int) -> tuple[pb.EmbedResponse, np.ndarray]:
        reply = pb_grpc.EmbedStub(channel).Embed(pb.EmbedRequest(inputs=TEXTS[0], **asked), **key)
        return reply, client.embed(TEXTS[:1], input_type)[0]

    reply, expected_V = with_steady_cache(client, both)
    assert np.array_equal(np.array(reply.embeddings, np.float32), expected_V)
    embedding = client.embed_response(TEXTS[:1], input_type).embeddings[0]
    assert reply.metadata.compute_chars == len(TEXTS[0])
    assert reply.metadata.compute_tokens == embedding.code_token_count + embedding.text_token_count
    assert reply.metadata.total_time_ns > reply.metadata.tokenization_time_ns > 0


@pytest.mark.parametrize(("dimensions", "half"), [(1536, slice(0, 1536)), (1024, slice(1536, 2560))])
def test_a_half_is_had_by_its_length(
    channel: grpc.Channel, key: dict[str, Any], client: Client, dimensions: int, half: slice
) -> None:
    request = pb.EmbedRequest(inputs=TEXTS[0], dimensions=dimensions)
    found = np.array(pb_grpc.EmbedStub(channel).Embed(request, **key).embeddings, np.float32)
    expected = client.embed(TEXTS[:1], "passage")[0, half]
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-6)


def test_a_stream_answers_in_the_order_of_its_texts(channel: grpc.Channel, key: dict[str, Any], client: Client) -> None:
    """Replies carry no name. Texts of different lengths and halves are worked on apart."""
    texts = [f"value_{index} = {'x' * (index % 7 * 40)}" for index in range(200)]
    requests = [
        pb.EmbedRequest(inputs=text, dimensions=1536 if index % 5 == 0 else 2560) for index, text in enumerate(texts)
    ]
    replies = list(pb_grpc.EmbedStub(channel).EmbedStream(iter(requests), **key))
    expected = client.embed(texts, "passage")
    assert [len(reply.embeddings) for reply in replies] == [request.dimensions for request in requests]
    for index, reply in enumerate(replies):
        found = np.array(reply.embeddings, np.float32)
        whole = expected[index, : len(found)]
        np.testing.assert_allclose(found, whole / np.linalg.norm(whole), atol=2e-3)


def test_a_bad_text_ends_a_stream_after_the_replies_before_it(channel: grpc.Channel, key: dict[str, Any]) -> None:
    requests = [pb.EmbedRequest(inputs=text) for text in ("one", "two", " ", "four")]
    replies = pb_grpc.EmbedStub(channel).EmbedStream(iter(requests), **key)
    assert [len(next(replies).embeddings) for _ in range(2)] == [2560, 2560]
    with pytest.raises(grpc.RpcError) as failure:
        next(replies)
    assert failure.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "inputs: is empty" in failure.value.details()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"inputs": ""}, "inputs: is empty"),
        ({"normalize": False}, "normalize: is false"),
        ({"truncation_direction": pb.TRUNCATION_DIRECTION_LEFT}, "truncation_direction: is not"),
        ({"prompt_name": "STS"}, "prompt_name: is 'STS'; use query or passage"),
        ({"dimensions": 512}, "dimensions: is 512; model duovec has 2560"),
        ({"inputs": "word " * 600}, "inputs: 602 tokens, but encoder compact-code reads at most 512"),
    ],
)
def test_what_cannot_be_had_is_refused(
    channel: grpc.Channel, key: dict[str, Any], asked: dict[str, Any], message: str
) -> None:
    """An option that was ignored would give another vector than was asked for."""
    with pytest.raises(grpc.RpcError) as failure:
        pb_grpc.EmbedStub(channel).Embed(pb.EmbedRequest(**({"inputs": "open a socket"} | asked)), **key)
    assert failure.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert message in failure.value.details()


@pytest.mark.parametrize("method", ["Info/Info", "Embed/Embed"])
def test_it_takes_a_key_like_every_service(channel: grpc.Channel, method: str) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        channel.unary_unary(f"/tei.v1.{method}")(b"", timeout=30)
    assert failure.value.code() == grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("method", ["Embed/EmbedSparse", "Embed/EmbedAll", "Predict/Predict", "Rerank/Rerank"])
def test_what_makes_no_sense_here_is_unimplemented(channel: grpc.Channel, key: dict[str, Any], method: str) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        channel.unary_unary(f"/tei.v1.{method}")(b"", **key)
    assert failure.value.code() == grpc.StatusCode.UNIMPLEMENTED
