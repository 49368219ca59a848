"""What is taken away holds from the next request on, and for streams that are open from the next batch on."""

import hashlib
import queue
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import grpc
import pytest
from chunk_streams import index_chunks

from duovec.v1 import chunk_pb2, embedding_service_pb2, index_service_pb2, vector_pb2
from duovec.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from gateway.client.client import Client
from gateway.client.errors import ClientError, from_rpc_error
from gateway.local.stack import Stack

CODEBASE = "revoking"


@pytest.fixture
def writer(stack: Stack, client: Client) -> Iterator[Client]:
    """A principal that may write one codebase; `client` is the administrator."""
    client.access.create_principal("writer")
    client.create_codebase(CODEBASE)
    client.access.set_grant(CODEBASE, "writer", "write")
    with Client(stack.endpoint, api_key=client.access.create_api_key("writer").key) as writer:
        yield writer
    client.delete_codebase(CODEBASE)
    client.access.delete_principal("writer")


def key_id(client: Client) -> str:
    return next(client.access.list_api_keys("writer")).key_id


def chunk_request(number: int) -> index_service_pb2.IndexChunksRequest:
    content = f"x = {number}"
    return index_service_pb2.IndexChunksRequest(
        codebase_id=CODEBASE,
        item_id=str(number),
        chunk=chunk_pb2.Chunk(
            path=f"{number}.py",
            language="python",
            kind="text",
            start_line=1,
            end_line=1,
            content=content,
            file_sha256=hashlib.sha256(content.encode()).digest(),
            file_chunk_count=1,
        ),
    )


def test_a_revoked_key_is_refused_from_the_next_request_on(client: Client, writer: Client) -> None:
    assert writer.get_codebase(CODEBASE).codebase_id == CODEBASE
    revoked = client.access.revoke_api_key(key_id(client))
    with pytest.raises(ClientError, match=f"the API key {revoked.key_id} was revoked") as failure:
        writer.get_codebase(CODEBASE)
    assert (failure.value.code.name, failure.value.reason) == ("UNAUTHENTICATED", "API_KEY_REVOKED")
    assert client.access.revoke_api_key(revoked.key_id).revoke_time == revoked.revoke_time


def test_a_principal_that_is_deleted_is_refused_from_the_next_request_on(client: Client, writer: Client) -> None:
    client.access.delete_principal("writer")
    with pytest.raises(ClientError) as failure:
        writer.get_codebase(CODEBASE)
    assert failure.value.reason == "API_KEY_INVALID"
    # Another of the same name inherits nothing.
    client.access.create_principal("writer")
    with pytest.raises(ClientError) as failure:
        writer.get_codebase(CODEBASE)
    assert failure.value.reason == "API_KEY_INVALID"
    assert [grant.principal_id for grant in client.access.list_grants(CODEBASE)] == ["admin"]


def test_a_rotated_key_may_go_on_for_a_while(stack: Stack, client: Client, writer: Client) -> None:
    """Programs move from the old key to the new without a pause; without that wish the old one ends at once."""
    first = key_id(client)
    second = writer.access.rotate_api_key(first, old_key_lifetime=timedelta(hours=1))
    assert writer.get_codebase(CODEBASE).codebase_id == CODEBASE
    with Client(stack.endpoint, api_key=second.key) as moved:
        assert moved.get_codebase(CODEBASE).codebase_id == CODEBASE
        third = moved.access.rotate_api_key(second.api_key.key_id)
        with pytest.raises(ClientError) as failure:
            moved.get_codebase(CODEBASE)
        assert failure.value.reason == "API_KEY_EXPIRED"
    rows = {row.key_id: row for row in client.access.list_api_keys("writer")}
    assert set(rows) == {first, second.api_key.key_id, third.api_key.key_id}
    lifetime = rows[first].expire_time.ToDatetime() - second.api_key.create_time.ToDatetime()
    assert abs(lifetime - timedelta(hours=1)) < timedelta(seconds=5)
    assert not rows[third.api_key.key_id].HasField("expire_time")


TAKEN_AWAY: list[tuple[str, Callable[[Client], object], str, str]] = [
    ("the key", lambda admin: admin.access.revoke_api_key(key_id(admin)), "UNAUTHENTICATED", "API_KEY_REVOKED"),
    ("the grant", lambda admin: admin.access.delete_grant(CODEBASE, "writer"), "NOT_FOUND", "CODEBASE_NOT_FOUND"),
    (
        "the right to write",
        lambda admin: admin.access.set_grant(CODEBASE, "writer", "read"),
        "PERMISSION_DENIED",
        "ROLE_REQUIRED",
    ),
]


@pytest.mark.parametrize(("take", "code", "reason"), [case[1:] for case in TAKEN_AWAY], ids=[c[0] for c in TAKEN_AWAY])
def test_an_open_index_stream_ends(
    client: Client, writer: Client, take: Callable[[Client], object], code: str, reason: str
) -> None:
    """What was answered before is stored, what came after is not."""
    sent: queue.SimpleQueue[Any] = queue.SimpleQueue()
    replies = iter(index_chunks(writer, iter(sent.get, None)))
    sent.put(chunk_request(1))
    assert next(replies).indexed.chunk_id > 0
    take(client)
    sent.put(chunk_request(2))
    with pytest.raises(ClientError) as failure:
        next(replies)
    sent.put(None)
    assert (failure.value.code.name, failure.value.reason) == (code, reason)
    assert [file.path for file in client.list_files(CODEBASE)] == ["1.py"]


def test_an_open_embedding_stream_ends_with_its_key(stack: Stack, client: Client, writer: Client) -> None:
    """It reads nothing of the database but that."""
    sent: queue.SimpleQueue[Any] = queue.SimpleQueue()
    request = embedding_service_pb2.StreamEmbedRequest(item_id="1", text="x", input_type=vector_pb2.INPUT_TYPE_QUERY)
    key = writer.access.create_api_key(display_name="stream")
    with grpc.insecure_channel(stack.endpoint) as channel:
        replies = EmbeddingServiceStub(channel).StreamEmbed(
            iter(sent.get, None), timeout=60, metadata=[("authorization", f"Bearer {key.key}")]
        )
        sent.put(request)
        assert next(replies).HasField("embedding")
        client.access.revoke_api_key(key.api_key.key_id)
        sent.put(request)
        with pytest.raises(grpc.RpcError) as raised:
            next(replies)
        sent.put(None)
    assert from_rpc_error(raised.value, "").reason == "API_KEY_REVOKED"


def test_two_callers_at_once_are_not_taken_for_each_other(stack: Stack, client: Client, writer: Client) -> None:
    """Calls of both run interleaved in one process of the gateway, on the same connections to the database."""
    with (
        Client(stack.endpoint, api_key=client.access.create_api_key("writer").key) as second,
        ThreadPoolExecutor(16) as threads,
    ):
        callers = [(client, "admin"), (writer, "writer"), (second, "writer")]
        calls = [(threads.submit(caller.access.get_principal), name) for _ in range(100) for caller, name in callers]
        assert all(call.result().principal_id == name for call, name in calls)
