"""How long a store waits for gateways that fail, with a service in memory and no cluster."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pytest
from client.fake_service import FakeService, abort, serving

from gateway.batch.partitions import Columns, plan
from gateway.batch.store import Store, read

PATIENCE_S = 0.5


class FailingService(FakeService):
    """Its unary calls fail as often as they are told to.

    Attributes:
        failures: Code and delay, seconds, of the next calls.
        called_at: When each came.
    """

    def __init__(self) -> None:
        super().__init__()
        self.failures: list[tuple[grpc.StatusCode, float]] = []
        self.called_at: list[float] = []

    def CreateCodebase(self, request: Any, context: Any) -> Any:  # noqa: N802 - named after the RPC
        self._fail(context)
        return super().CreateCodebase(request, context)

    def DeleteChunks(self, request: Any, context: Any) -> Any:  # noqa: N802 - named after the RPC
        self._fail(context)
        return super().DeleteChunks(request, context)

    def _fail(self, context: Any) -> None:
        self.called_at.append(time.monotonic())
        if self.failures:
            code, delay_s = self.failures.pop(0)
            abort(context, code, "not now", "OVERLOADED", delay_s=delay_s)


@pytest.fixture
def service() -> FailingService:
    return FailingService()


@pytest.fixture
def endpoint(service: FailingService) -> Iterator[str]:
    with serving(service) as endpoint:
        yield endpoint


@pytest.fixture
def row(tmp_path: Path) -> dict[str, Any]:
    """One chunk."""
    root = tmp_path / "repository"
    root.mkdir()
    (root / "a.py").write_text("def one():\n    return 1\n")
    (partition,) = plan([str(root)], "x", columns=Columns())
    (row,) = read(pa.table({"partition": [partition.to_json()]})).to_pylist()
    return dict(row)


@pytest.fixture
def store(endpoint: str, tmp_path: Path) -> Store:
    return Store([endpoint], str(tmp_path / "done"), None, PATIENCE_S)


def test_patience_begins_with_the_first_failure(service: FailingService, store: Store, row: dict[str, Any]) -> None:
    """However long the work before it went well."""

    def be_slow(_: object) -> None:
        if service.streams == 1:
            time.sleep(PATIENCE_S * 1.5)
            # So often the client itself makes the call that follows.
            service.failures = [(grpc.StatusCode.UNAVAILABLE, 0.0)] * 4

    service.refuse = be_slow
    report = store.store(row)
    assert (report["refusal"], service.streams, service.failures) == ("", 2, [])


def test_a_call_that_was_not_in_time_is_made_again(service: FailingService, store: Store, row: dict[str, Any]) -> None:
    """It says nothing of the next one."""
    service.failures = [(grpc.StatusCode.DEADLINE_EXCEEDED, 0.0)]
    report = store.store(row)
    assert (report["refusal"], report["chunks_embedded"]) == ("", 1)


def test_a_gateway_is_asked_when_it_says(service: FailingService, store: Store, row: dict[str, Any]) -> None:
    """Not before."""
    service.failures = [(grpc.StatusCode.RESOURCE_EXHAUSTED, PATIENCE_S * 2)]
    assert store.store(row)["refusal"] == ""
    first, second, _ = service.called_at
    assert second - first >= PATIENCE_S * 2


def test_patience_ends_though_what_is_stored_is_acknowledged(
    service: FailingService, store: Store, row: dict[str, Any]
) -> None:
    """Else a job whose last step always fails would send the same for ever."""
    service.refuse = lambda _: service.failures.append((grpc.StatusCode.DEADLINE_EXCEEDED, 0.0))
    report = store.store(row)
    assert (report["refusal"], report["code"]) == ("not now", "DEADLINE_EXCEEDED")
    assert len(service.received) > 1
