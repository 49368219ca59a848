from collections.abc import Iterator

import grpc
import numpy as np
import pytest

from gateway.client.backoff import backoff_s
from gateway.client.client import Client
from gateway.client.errors import ClientError, FieldViolation
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
    with Client(f"127.0.0.1:{port}", api_key="k3y", timeout_s=5) as client:
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


def test_a_request_that_is_too_large_is_told_what_to_do(service: FakeService, client: Client) -> None:
    """gRPC itself refuses it, and is not asked again."""
    with pytest.raises(
        ClientError, match=r"send fewer or shorter texts at once .*larger than max \(\d+ vs\. 4194304\)"
    ):
        client.embed(["x" * 5_000_000], "passage")
    assert service.calls == []
