"""What a gateway says of requests: neither its logs nor its errors hold a key, or a word of a text or of code.

The logs are those of the whole stack of this session: PostgreSQL and Triton see the requests' insides, too.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from chunk_streams import index_chunks

from duovec.v1 import index_service_pb2, training_service_pb2
from gateway.client.client import Client
from gateway.client.errors import ClientError, from_rpc_error
from gateway.local.stack import Stack
from gateway.store.api_key import ApiKey

# Words that nothing else of the stack says.
WORDS = [f"{animal}-{number}-zq" for number, animal in enumerate(("okapi", "quokka", "axolotl", "numbat", "fossa"))]
SECRET_TEXT = " ".join(WORDS)
LONG = f"{SECRET_TEXT} " * 4000
CHUNK: dict[str, Any] = {
    "path": "a.py",
    "language": "python",
    "kind": "text",
    "start_line": 1,
    "end_line": 1,
    "file_sha256": bytes(32),
    "file_chunk_count": 1,
}


def chunk(content: str, **other: Any) -> index_service_pb2.IndexChunksRequest:
    return index_service_pb2.IndexChunksRequest(
        codebase_id="no-secrets", item_id="1", chunk={**CHUNK, "content": content, **other}
    )


def calls(client: Client) -> list[Callable[[], Any]]:
    """Requests with the words in every field that takes a text, good ones and ones that fail at every stage."""

    def index(*requests: index_service_pb2.IndexChunksRequest) -> str:
        return str([reply.error for reply in index_chunks(client, iter(requests))])

    def start(recipe: str) -> Any:
        return client.training.start(training_service_pb2.TrainingSpec(recipe=recipe))

    return [
        lambda: client.embed([SECRET_TEXT], "query"),
        lambda: client.embed([SECRET_TEXT, ""], "query"),
        lambda: client.embed([LONG], "passage"),
        lambda: client.embed([SECRET_TEXT] * 257, "passage"),
        lambda: client.embed([SECRET_TEXT + "\x00"], "passage"),
        lambda: client.embed([SECRET_TEXT * 30_000], "passage"),
        lambda: client.search("no-secrets", SECRET_TEXT),
        lambda: client.search("no-secrets", code=SECRET_TEXT),
        lambda: client.search("no-secrets", SECRET_TEXT + "\x00"),
        lambda: client.search("no-secrets", LONG),
        lambda: client.search("no-such-codebase", SECRET_TEXT),
        lambda: client.search("no-secrets", SECRET_TEXT, page_token="bm90IGEgdG9rZW4="),
        lambda: client.search("no-secrets", SECRET_TEXT, limit=1000),
        lambda: client.search("no-secrets", SECRET_TEXT, paths=["[" * 50]),
        lambda: index(chunk(SECRET_TEXT)),
        lambda: index(chunk(LONG)),
        lambda: index(chunk(SECRET_TEXT + "\x00"), chunk(SECRET_TEXT, start_line=9), chunk(SECRET_TEXT, kind="odd")),
        lambda: index(chunk(SECRET_TEXT, file_sha256=b"short"), chunk(SECRET_TEXT, path="../a.py")),
        lambda: start(SECRET_TEXT),
        lambda: start(f"encoder = '{SECRET_TEXT}'"),
        lambda: start(f'encoder = "compact-code"\n{WORDS[0]} = "{SECRET_TEXT}"'),
    ]


def said(call: Callable[[], Any]) -> str:
    """What a caller is told of a failure, with all its details; of a success only what streams say of their items."""
    try:
        reply = call()
    except ClientError as error:
        return f"{error} {error.violations}"
    return reply if isinstance(reply, str) else ""


@pytest.fixture(scope="module")
def keys(stack: Stack) -> list[str]:
    """Keys of every kind; the last three are refused."""
    with Client(stack.endpoint, api_key=stack.api_key) as admin:
        admin.create_codebase("no-secrets")
        admin.access.create_principal("no-secrets")
        admin.access.set_grant("no-secrets", "no-secrets", "write")
        valid, revoked = (admin.access.create_api_key("no-secrets").key for _ in range(2))
        rotated = admin.access.rotate_api_key(valid.split("_")[1]).key
        admin.access.revoke_api_key(revoked.split("_")[1])
    wrong_secret = "_".join((*rotated.split("_")[:2], "e" * 64))
    return [stack.api_key, rotated, revoked, ApiKey.generate().text, wrong_secret]


def test_neither_logs_nor_errors_hold_keys_or_texts(stack: Stack, keys: list[str]) -> None:
    told, failure_count = [], 0
    for key in keys:
        with Client(stack.endpoint, api_key=key) as client:
            for call in calls(client):
                told.append(said(call))
                failure_count += told[-1] not in {"", "[]"}
    # Keys where none belong.
    with grpc.insecure_channel(stack.endpoint) as channel:
        method = channel.unary_unary("/duovec.v1.CodebaseService/ListCodebases")
        for value in (keys[0], f"Basic {keys[0]}", f"Bearer {keys[0]} ", f"Bearer {keys[0]}x", f"Bearer x{keys[1]}"):
            try:
                method(b"", timeout=30, metadata=[("authorization", value)])
            except grpc.RpcError as error:
                told.append(str(from_rpc_error(error, "")) + repr(error))
        with pytest.raises(grpc.RpcError):
            method(b"\xff" + SECRET_TEXT.encode(), timeout=30, metadata=[("authorization", f"Bearer {keys[0]}")])
    assert failure_count > 60
    logs = {path.name: path.read_text(errors="replace") for path in log_files(stack)}
    assert {"gateway.log", "postgres.log", "triton.log"} <= set(logs)
    for name, text in [*logs.items(), *(("an error", text) for text in told)]:
        for secret in [key.split("_")[2] for key in keys] + WORDS:
            assert secret not in text, name
    with Client(stack.endpoint, api_key=stack.api_key) as admin:
        for event in admin.access.list_audit_events(about="no-secrets"):
            assert not any(key.split("_")[2] in str(event) for key in keys)
        admin.delete_codebase("no-secrets")
        admin.access.delete_principal("no-secrets")


def log_files(stack: Stack) -> list[Path]:
    return sorted((stack.admin_key_file.parent / "logs").glob("*.log"))
