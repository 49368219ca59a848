"""What callers get for bad input: the code, the reason, the field, and what to do."""

import grpc
import pytest

from duovec.v1 import embedding_service_pb2 as pb
from duovec.v1 import embedding_service_pb2_grpc as pb_grpc
from duovec.v1 import vector_pb2
from gateway.client.client import Client
from gateway.client.errors import ClientError, from_rpc_error
from gateway.local.stack import Stack

PASSAGE = vector_pb2.INPUT_TYPE_PASSAGE


@pytest.mark.parametrize(
    ("texts", "input_type", "reason", "message"),
    [
        ([], PASSAGE, "INVALID_INPUT", "texts: has 0 items; send 1 to 256"),
        (["x"] * 257, PASSAGE, "INVALID_INPUT", "texts: has 257 items; send 1 to 256"),
        (["ok", ""], PASSAGE, "INVALID_INPUT", "texts[1]: is empty"),
        (["\n\t "], PASSAGE, "INVALID_INPUT", "texts[0]: is empty or of whitespace only"),
        (["ok"], vector_pb2.INPUT_TYPE_UNSPECIFIED, "INVALID_INPUT", "input_type: is 0"),
        (["a\x00b"], PASSAGE, "INVALID_INPUT", "texts[0]: has a null character"),
        (["x" * 1_000_001], PASSAGE, "INVALID_INPUT", "texts[0]: has 1000001 characters, the limit is 1000000"),
        (["ok", "word " * 600], PASSAGE, "TEXT_TOO_LONG", "texts[1]: 602 tokens"),
    ],
)
def test_a_bad_text_is_refused_by_name(
    stack: Stack, texts: list[str], input_type: vector_pb2.InputType, reason: str, message: str
) -> None:
    with grpc.insecure_channel(stack.endpoint) as channel, pytest.raises(grpc.RpcError) as raised:
        request = pb.EmbedRequest(texts=texts, input_type=input_type)
        metadata = [("authorization", f"Bearer {stack.api_key}")]
        pb_grpc.EmbeddingServiceStub(channel).Embed(request, timeout=30, metadata=metadata)
    error = from_rpc_error(raised.value, stack.endpoint)
    assert error.code == grpc.StatusCode.INVALID_ARGUMENT
    assert error.reason == reason
    assert message in str(error)
    assert error.violations[0].field == message.split(":")[0]


def test_an_unknown_codebase_is_not_found(client: Client) -> None:
    for call in (
        lambda: client.search("nowhere", "anything"),
        lambda: client.get_codebase("nowhere"),
        lambda: client.delete_codebase("nowhere"),
        lambda: list(client.list_files("nowhere")),
    ):
        with pytest.raises(ClientError) as failure:
            call()
        assert failure.value.code == grpc.StatusCode.NOT_FOUND
        assert failure.value.reason == "CODEBASE_NOT_FOUND"
        assert "'nowhere'" in str(failure.value)


def test_a_codebase_is_created_once(client: Client) -> None:
    client.create_codebase("only-once")
    with pytest.raises(ClientError) as failure:
        client.create_codebase("only-once")
    assert failure.value.code == grpc.StatusCode.ALREADY_EXISTS
    assert failure.value.reason == "CODEBASE_EXISTS"
    client.delete_codebase("only-once")


@pytest.mark.parametrize("codebase_id", ["", "Upper", "-dash", "a" * 64, "a/b", "ä"])
def test_a_malformed_codebase_id_is_refused(client: Client, codebase_id: str) -> None:
    with pytest.raises(ClientError) as failure:
        client.create_codebase(codebase_id)
    assert failure.value.code == grpc.StatusCode.INVALID_ARGUMENT
    assert failure.value.violations[0].field == "codebase_id"
