"""The calls that an index run makes beside its stream bear a service that is away, as the stream does."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from gateway.client.client import AsyncClient, Client
from gateway.client.errors import ClientError
from gateway.client.indexer import IndexingFailed, index_tree
from gateway.client.report import NoProgress
from gateway.local.process import free_port

from .fake_service import FakeService, abort, serving

DELETE, LIST = "DeleteChunks", "ListFiles"


class RefusingService(FakeService):
    """Refuses so many calls of an RPC.

    Attributes:
        refusals: How many, by its name.
        code: By what code.
        delay_s: When to come back, as it says; 0 to say nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.refusals: dict[str, int] = {}
        self.code = grpc.StatusCode.UNAVAILABLE
        self.delay_s = 0.0

    def ListFiles(self, request: Any, context: Any) -> Any:  # noqa: N802 - named after the RPC
        self._refuse(LIST, context)
        return super().ListFiles(request, context)

    def DeleteChunks(self, request: Any, context: Any) -> Any:  # noqa: N802 - named after the RPC
        self._refuse(DELETE, context)
        return super().DeleteChunks(request, context)

    def _refuse(self, name: str, context: Any) -> None:
        if self.refusals.get(name, 0) > 0:
            self.refusals[name] -= 1
            abort(context, self.code, "PostgreSQL is away", "DATABASE_UNAVAILABLE", delay_s=self.delay_s)


class Pauses(NoProgress):
    """Notes them."""

    def __init__(self) -> None:
        self.told: list[tuple[str, float]] = []

    def waiting(self, refusal: ClientError, seconds: float) -> None:
        self.told.append((str(refusal), seconds))


@pytest.fixture(autouse=True)
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten attempts in a second, where four are what a call makes."""
    monkeypatch.setattr("gateway.client.backoff._FIRST_S", 0.002)


@pytest.fixture
def service() -> RefusingService:
    return RefusingService()


@pytest.fixture
def client(service: FakeService) -> Iterator[Client]:
    with serving(service) as endpoint, Client(endpoint) as client:
        yield client


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for number in range(5):
        (tmp_path / f"{number}.py").write_text(f"def f{number}():\n    return {number}\n")
    return tmp_path


@pytest.mark.parametrize("rpc", [LIST, DELETE])
def test_a_database_that_restarts_beside_the_stream_ends_no_run(
    service: RefusingService, client: Client, tree: Path, rpc: str
) -> None:
    """Each call but these would be borne for two minutes."""
    index_tree(client, tree, "x")
    (tree / "0.py").unlink()
    service.refusals = {rpc: 9}
    pauses = Pauses()
    report = index_tree(client, tree, "x", progress=pauses)
    assert (report.files_removed, report.chunks_deleted, service.refusals) == (1, 1, {rpc: 0})
    assert [message for message, _ in pauses.told] == ["PostgreSQL is away"] * 9


@pytest.mark.parametrize("rpc", [LIST, DELETE])
def test_a_call_that_was_not_in_time_is_made_again(
    service: RefusingService, client: Client, tree: Path, rpc: str
) -> None:
    """As a chunk is sent again; whoever makes the call alone is told, who chose the deadline."""
    index_tree(client, tree, "x")
    (tree / "0.py").unlink()
    service.code, service.refusals = grpc.StatusCode.DEADLINE_EXCEEDED, {rpc: 9}
    assert index_tree(client, tree, "x").files_removed == 1
    service.refusals = {LIST: 1}
    with pytest.raises(ClientError) as failure:
        list(client.list_files("x"))
    assert failure.value.code == grpc.StatusCode.DEADLINE_EXCEEDED


async def test_nor_does_it_in_the_asynchronous_client(service: RefusingService, tree: Path) -> None:
    with serving(service) as endpoint:
        async with AsyncClient(endpoint) as client:
            await index_tree(client, tree, "x")
            (tree / "0.py").unlink()
            service.refusals = {LIST: 9, DELETE: 9}
            assert (await index_tree(client, tree, "x")).files_removed == 1


def test_a_gateway_that_is_away_when_a_run_begins_ends_none(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it was there before; it is the channel then that says so, not the service."""
    monkeypatch.setattr("gateway.client.backoff._FIRST_S", 0.05)
    service = FakeService()
    port = free_port()

    class Restarts(Pauses):
        """Has the gateway come back when four attempts were in vain."""

        def __init__(self, start: Callable[[], object]) -> None:
            super().__init__()
            self._start = start

        def waiting(self, refusal: ClientError, seconds: float) -> None:
            super().waiting(refusal, seconds)
            if len(self.told) == 5:
                self._start()

    with Client(f"127.0.0.1:{port}") as client:
        with serving(service, port):
            index_tree(client, tree, "x")
        (tree / "0.py").unlink()
        again = serving(service, port)
        pauses = Restarts(again.__enter__)
        try:
            report = index_tree(client, tree, "x", progress=pauses)
        finally:
            again.__exit__(None, None, None)
    assert report.files_removed == 1
    assert all("nothing answers" in message for message, _ in pauses.told)


def test_the_delay_that_a_call_is_told_is_kept(service: RefusingService, client: Client, tree: Path) -> None:
    service.code, service.delay_s, service.refusals = grpc.StatusCode.RESOURCE_EXHAUSTED, 0.05, {LIST: 6}
    began = time.monotonic()
    pauses = Pauses()
    index_tree(client, tree, "x", progress=pauses)
    assert time.monotonic() - began >= 6 * 0.05
    assert min(seconds for _, seconds in pauses.told) >= 0.05


def test_patience_ends(service: RefusingService, client: Client, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.client.stream._PATIENCE_S", 0.3)
    service.refusals = {LIST: 1000}
    began = time.monotonic()
    with pytest.raises(IndexingFailed, match="PostgreSQL is away"):
        index_tree(client, tree, "x")
    assert time.monotonic() - began > 0.1


def test_a_service_that_was_never_there_is_not_waited_for(tree: Path) -> None:
    """Whoever forgot to start it learns that soon."""
    pauses = Pauses()
    with Client("127.0.0.1:1") as client, pytest.raises(IndexingFailed, match="nothing answers"):
        index_tree(client, tree, "x", progress=pauses)
    assert pauses.told == []


def test_other_calls_stay_as_they_are(service: RefusingService, client: Client, tree: Path) -> None:
    """Also of a client by which a run went."""
    index_tree(client, tree, "x")
    service.refusals = {LIST: 4}
    with pytest.raises(ClientError, match="PostgreSQL is away"):
        list(client.list_files("x"))
    assert service.refusals == {LIST: 0}


def test_a_client_that_is_closed_meanwhile_ends_the_run(service: RefusingService, client: Client, tree: Path) -> None:
    index_tree(client, tree, "x")
    service.refusals = {LIST: 1000}

    class Closes(NoProgress):
        def waiting(self, refusal: ClientError, seconds: float) -> None:
            with ThreadPoolExecutor(1) as other:
                other.submit(client.close).result()

    with pytest.raises(IndexingFailed, match="the client is closed"):
        index_tree(client, tree, "x", progress=Closes())
