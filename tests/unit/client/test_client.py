import contextlib
import http.server
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from gateway.client.backoff import backoff_s
from gateway.client.client import Client
from gateway.client.errors import ClientError, FieldViolation
from gateway.client.indexer import IndexingFailed
from gateway.client.report import IndexReport
from gateway.client.target import Target
from gateway.local.process import free_port

from .fake_service import FakeService, serving


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def client(service: FakeService) -> Iterator[Client]:
    with serving(service) as endpoint, Client(endpoint, api_key="k3y") as client:
        yield client


def test_embed_gives_float32_rows_in_order(client: Client) -> None:
    vectors = client.embed(["a", "b"], "query")
    assert vectors.shape == (2, 2560)
    assert vectors.dtype == np.float32
    assert vectors.argmax(axis=1).tolist() == [0, 1]


def test_half_precision_is_asked_for_and_comes_as_float32(client: Client) -> None:
    """Who works with the vectors need not care how they travelled."""
    response = client.embed_response(["a", "b"], "query", precision="float16")
    assert {len(one.vector.float16_le) for one in response.embeddings} == {2 * 2560}
    vectors = client.embed(["a", "b"], "query", precision="float16")
    assert (vectors.shape, vectors.dtype) == ((2, 2560), np.float32)
    assert vectors.argmax(axis=1).tolist() == [0, 1]


def test_the_key_is_sent_as_a_bearer_token(service: FakeService, client: Client) -> None:
    client.embed(["a"], "passage")
    assert service.metadata["authorization"] == "Bearer k3y"


def test_an_error_carries_reason_and_violations(client: Client) -> None:
    with pytest.raises(ClientError) as failure:
        client.embed(["a", " "], "query")
    error = failure.value
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_INPUT")
    assert error.violations == (FieldViolation("texts[1]", "it is blank"),)


def test_an_overloaded_service_is_asked_again(service: FakeService, client: Client) -> None:
    service.overloaded = 2
    assert client.embed(["a"], "query").shape == (1, 2560)
    assert service.calls == ["Embed"] * 3


def test_a_call_that_a_server_dropped_as_it_went_is_asked_again(service: FakeService, client: Client) -> None:
    """gRPC says CANCELLED of what it had received and not begun."""
    service.cancelled = 1
    assert client.embed(["a"], "query").shape == (1, 2560)
    assert service.calls == ["Embed"] * 2


def test_who_comes_back_is_found_by_the_first_call(service: FakeService) -> None:
    """However long it was away: gRPC by itself would not look for longer than all repetitions take."""
    port = free_port()
    with Client(f"127.0.0.1:{port}", api_key="k3y", timeout_s=30) as client:
        for _ in range(3):
            with pytest.raises(ClientError) as failure:
                client.embed(["a"], "query")
            assert failure.value.code == grpc.StatusCode.UNAVAILABLE
        with serving(service, port):
            assert client.embed(["a"], "query").shape == (1, 2560)


def test_repetitions_end(service: FakeService, client: Client) -> None:
    service.overloaded = 100
    with pytest.raises(ClientError) as failure:
        client.embed(["a"], "query")
    assert failure.value.retry_delay_s == pytest.approx(0.05)
    assert len(service.calls) == 4


@pytest.mark.parametrize(("max_attempts", "refusals", "calls"), [(1, 1, 1), (8, 6, 7), (8, 100, 8)])
def test_the_caller_chooses_how_often(service: FakeService, max_attempts: int, refusals: int, calls: int) -> None:
    service.overloaded = refusals
    with (
        serving(service) as endpoint,
        Client(endpoint, api_key="k", max_attempts=max_attempts) as client,
        pytest.raises(ClientError) if calls <= refusals else contextlib.nullcontext(),
    ):
        client.embed(["a"], "query")
    assert len(service.calls) == calls


def test_creation_is_not_repeated(service: FakeService, client: Client) -> None:
    client.create_codebase("x")
    with pytest.raises(ClientError) as failure:
        client.create_codebase("x")
    assert failure.value.reason == "CODEBASE_EXISTS"
    assert service.calls == ["CreateCodebase"] * 2


def test_an_unimplemented_method_is_a_client_error(client: Client) -> None:
    with pytest.raises(ClientError) as failure:
        client.status()
    assert failure.value.code == grpc.StatusCode.UNIMPLEMENTED


def test_health_is_read_from_the_standard_service(client: Client) -> None:
    assert client.health() == "SERVING"


def test_a_delay_that_was_asked_for_is_not_undercut() -> None:
    assert all(2.0 <= backoff_s(1, 2.0) <= 2.5 for _ in range(100))
    assert all(0.1 <= backoff_s(1, None) <= 0.2 for _ in range(100))
    assert backoff_s(50, None) <= 10.0
    assert 5.0 <= backoff_s(1025, None) <= 10.0
    assert 5.0 <= backoff_s(10**6, None) <= 10.0


def test_a_request_that_is_too_large_is_told_what_to_do(service: FakeService, client: Client) -> None:
    """gRPC itself refuses it, and is not asked again."""
    with pytest.raises(
        ClientError, match=r"send fewer or shorter texts at once .*larger than max \(\d+ vs\. 4194304\)"
    ):
        client.embed(["x" * 5_000_000], "passage")
    assert service.calls == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"texts": "socket"}, "texts is one string; give a list of texts"),
        ({"input_type": "Query"}, "input_type is 'Query'; use query or passage"),
        ({"precision": "double"}, "precision is 'double'; use float32 or float16"),
        ({"texts": ["fine", "\ud800"]}, r"texts\[1\] is not UTF-8: 'utf-8' codec can't encode"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_it_is_sent(
    service: FakeService, client: Client, arguments: dict[str, Any], said: str
) -> None:
    """A string is a sequence of strings, whose letters would be embedded one by one."""
    with pytest.raises(ClientError, match=said) as failure:
        client.embed(**{"texts": ["a"], "input_type": "query", **arguments})
    assert failure.value.code == grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(ClientError, match=said):
        list(client.stream_embed(**{"texts": ["a"], "input_type": "query", **arguments}))
    assert service.calls == []


def test_texts_may_be_an_array(client: Client) -> None:
    assert client.embed(np.array(["a", "b"]), "query").argmax(axis=1).tolist() == [0, 1]
    client.create_codebase("x")
    response = client.search("x", like_chunk_id=np.int64(3), blend=np.float32(0.5))  # type: ignore[arg-type]
    assert response.exact


def test_a_closed_client_says_so(client: Client) -> None:
    client.close()
    client.close()
    with pytest.raises(ClientError, match="the client is closed") as failure:
        client.embed(["a"], "query")
    assert failure.value.code == grpc.StatusCode.FAILED_PRECONDITION


def test_an_error_goes_from_process_to_process(client: Client) -> None:
    """As those of a pool do."""
    with pytest.raises(ClientError) as failure:
        client.embed(["a", " "], "query")
    copy = pickle.loads(pickle.dumps(failure.value))
    assert (str(copy), copy.code, copy.violations) == (str(failure.value), failure.value.code, failure.value.violations)
    wrapped = pickle.loads(pickle.dumps(IndexingFailed(failure.value, IndexReport("x", files_changed=3))))
    assert (wrapped.reason, wrapped.report.files_changed) == ("INVALID_INPUT", 3)


FORKS = """
import asyncio, os, signal, sys
from gateway.client import AsyncClient, Client, ClientError

endpoint = sys.argv[1]

def in_fork(what):
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        try:
            print(what(), flush=True)
        except ClientError as error:
            print(error.code.name, str(error).partition(",")[0].rstrip("0123456789"), flush=True)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0

def embed(client):
    return client.embed(["a"], "query").shape

def own():
    with Client(endpoint, api_key="k") as client:
        return embed(client)

async def embed_async():
    async with AsyncClient(endpoint, api_key="k") as client:
        return (await client.embed(["a"], "query")).shape

with Client(endpoint, api_key="k") as client:
    embed(client)
    in_fork(lambda: embed(client))
    in_fork(own)
    in_fork(lambda: asyncio.run(embed_async()))
    asyncio.run(embed_async())
    in_fork(own)
    in_fork(lambda: asyncio.run(embed_async()))
    print(embed(client))
"""


def test_a_fork_makes_clients_of_its_own(client: Client) -> None:
    """What does not survive a fork fails there, where it would hang; multiprocessing forks on Linux."""
    ran = subprocess.run(
        [sys.executable, "-c", FORKS, client.endpoint],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert ran.returncode == 0, ran.stderr
    shape = "(1, 2560)"
    assert ran.stdout.splitlines() == [
        "FAILED_PRECONDITION the client was made in process ",
        shape,
        shape,
        "FAILED_PRECONDITION process ",
        "FAILED_PRECONDITION process ",
        shape,
    ]


@pytest.mark.parametrize(
    "endpoint",
    [
        "localhost",
        "127.0.0.1:99999",
        "127.0.0.1:0",
        ":",
        "127.0.0.1:50051/",
        " 127.0.0.1:50051",
        "grpc://h:1",
        "http://h",
    ],
)
def test_what_is_no_endpoint_is_not_asked(endpoint: str) -> None:
    """gRPC takes 99999 for another port, and asks for names that nobody meant."""
    with pytest.raises(ClientError, match="is no endpoint; give HOST:PORT") as failure:
        Client(endpoint, api_key="k")
    assert failure.value.code == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("endpoint", "address"),
    [
        ("http://127.0.0.1:50051/", "127.0.0.1:50051"),
        ("https://duovec.example.org", "duovec.example.org:443"),
        ("https://duovec.example.org:50051", "duovec.example.org:50051"),
        ("[::1]:50051", "[::1]:50051"),
        ("unix:/run/duovec.sock", "unix:/run/duovec.sock"),
        ("ipv4:127.0.0.1:1,127.0.0.1:2", "ipv4:127.0.0.1:1,127.0.0.1:2"),
        ("dns:///localhost:50051", "dns:///localhost:50051"),
    ],
)
def test_an_endpoint_may_be_written_in_several_ways(endpoint: str, address: str) -> None:
    assert Target.of(endpoint, "", None).address == address


def test_the_port_of_something_else_is_told_apart() -> None:
    """As that for HTTP, which is easily taken for it."""
    server = http.server.HTTPServer(
        ("127.0.0.1", 0), type("Quiet", (http.server.BaseHTTPRequestHandler,), {"log_message": lambda *_: None})
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    with (
        Client(f"127.0.0.1:{server.server_port}", api_key="k", max_attempts=1) as client,
        pytest.raises(ClientError, match="it does not speak gRPC; is this the port for HTTP"),
    ):
        client.embed(["a"], "query")
    server.shutdown()
    server.server_close()
    thread.join()
