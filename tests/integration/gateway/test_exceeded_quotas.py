"""Quotas of the running service: refused with a delay that is true, streams slowed, others undisturbed."""

import time
from collections.abc import Iterator
from itertools import count

import grpc
import pytest

from duovec.v1 import embedding_service_pb2, vector_pb2
from duovec.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from gateway.client.client import Client
from gateway.client.errors import ClientError, from_rpc_error
from gateway.local.stack import Stack

_numbers = count()
TEXT = "def open_socket(host, port): return socket.create_connection((host, port))"


@pytest.fixture
def limited(client: Client) -> Iterator[tuple[str, str]]:
    """A principal and its key."""
    name = f"limited-{next(_numbers)}"
    client.access.create_principal(name)
    yield name, client.access.create_api_key(name).key
    client.access.delete_principal(name)


@pytest.fixture
def stub(stack: Stack) -> Iterator[EmbeddingServiceStub]:
    """Without the client's repetitions."""
    with grpc.insecure_channel(stack.endpoint) as channel:
        yield EmbeddingServiceStub(channel)


def request(*texts: str) -> embedding_service_pb2.EmbedRequest:
    return embedding_service_pb2.EmbedRequest(texts=texts, input_type=vector_pb2.INPUT_TYPE_PASSAGE)


def embed(stub: EmbeddingServiceStub, key: str, *texts: str) -> embedding_service_pb2.EmbedResponse:
    metadata = (("authorization", f"Bearer {key}"),)
    try:
        return stub.Embed(request(*texts), timeout=60, metadata=metadata)
    except grpc.RpcError as error:
        raise from_rpc_error(error, "") from None


def tokens(response: embedding_service_pb2.EmbedResponse) -> int:
    """As the service counts: by both encoders."""
    return sum(one.code_token_count + one.text_token_count for one in response.embeddings)


def test_calls_beyond_the_quota_are_refused_until_the_time_that_is_told(
    stack: Stack, client: Client, limited: tuple[str, str], stub: EmbeddingServiceStub
) -> None:
    """And others than the limited one notice nothing; nor does it, once the limit is lifted."""
    name, key = limited
    client.access.set_quota(name, requests_per_s=2)
    for _ in range(2):
        embed(stub, key, "x")
    with pytest.raises(ClientError, match="your quota is 2 calls a second; retry in 0.") as refused:
        while True:
            embed(stub, key, "x")
    assert (refused.value.code, refused.value.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")
    assert refused.value.retry_delay_s is not None
    assert 0 < refused.value.retry_delay_s <= 0.5
    embed(stub, stack.api_key, "x")
    time.sleep(refused.value.retry_delay_s)  # the promise itself
    embed(stub, key, "x")
    # The client waits for its turn by itself.
    with Client(stack.endpoint, api_key=key) as patient:
        for _ in range(3):
            patient.embed(["x"], "query")
    client.access.set_quota(name, requests_per_s=0)
    for _ in range(10):
        embed(stub, key, "x")


def test_tokens_are_those_that_the_replies_report(
    client: Client, limited: tuple[str, str], stub: EmbeddingServiceStub
) -> None:
    """A minute's worth goes at once; one text more is told how long its tokens take to come."""
    name, key = limited
    cost = tokens(embed(stub, key, TEXT))
    began = time.monotonic()
    client.access.set_quota(name, tokens_per_minute=3 * cost)
    for _ in range(3):
        assert tokens(embed(stub, key, TEXT)) == cost
    with pytest.raises(ClientError, match=f"{cost} tokens exceed your quota of {3 * cost} a minute") as refused:
        embed(stub, key, TEXT)
    assert refused.value.reason == "QUOTA_EXCEEDED"
    # Of the twenty seconds that its tokens take, those are over that the test has taken so far.
    assert refused.value.retry_delay_s is not None
    assert 20 - (time.monotonic() - began) - 0.01 <= refused.value.retry_delay_s <= 20.01
    with Client(client.endpoint, api_key=key, timeout_s=5) as one:
        # What costs no tokens goes on.
        assert list(one.list_codebases()) == []
        with pytest.raises(ClientError, match="exceed your quota"):
            one.embed([TEXT], "passage")


def test_streams_are_slowed_and_no_item_fails(
    client: Client, limited: tuple[str, str], stub: EmbeddingServiceStub
) -> None:
    """Two seconds' worth beyond the burst takes two seconds, and every item has its vector."""
    name, key = limited
    cost = tokens(embed(stub, key, TEXT))
    per_minute = 60 * cost  # one text a second
    client.access.set_quota(name, tokens_per_minute=per_minute)

    def items() -> Iterator[embedding_service_pb2.StreamEmbedRequest]:
        for number in range(62):
            yield embedding_service_pb2.StreamEmbedRequest(
                item_id=str(number), text=TEXT, input_type=vector_pb2.INPUT_TYPE_PASSAGE
            )

    began = time.monotonic()
    replies = list(stub.StreamEmbed(items(), timeout=60, metadata=(("authorization", f"Bearer {key}"),)))
    assert sorted(int(reply.item_id) for reply in replies if reply.HasField("embedding")) == list(range(62))
    assert time.monotonic() - began > 1.5


def test_only_administrators_set_quotas_and_everybody_sees_its_own(
    stack: Stack, client: Client, limited: tuple[str, str]
) -> None:
    name, key = limited
    client.access.set_quota(name, requests_per_s=100.5)
    with Client(stack.endpoint, api_key=key) as one:
        quota = one.access.get_principal().quota
        assert (quota.requests_per_s, quota.HasField("tokens_per_minute")) == (100.5, False)
        with pytest.raises(ClientError, match="only an administrator may do this"):
            one.access.set_quota(name)
    for wrong in ({"requests_per_s": -1.0}, {"requests_per_s": float("nan")}, {"tokens_per_minute": 10**12 + 1}):
        with pytest.raises(ClientError, match="quota.*: is .*; use 0 to 1,000,000"):
            client.access.set_quota(name, **wrong)
    client.access.set_quota(name)
    assert not client.access.get_principal(name).quota.HasField("requests_per_s")
