"""The asynchronous client over real gRPC: what it gives, and what is left when it is given up."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from git_repository import GitRepository

from duovec.v1 import chunk_pb2
from gateway.client import AsyncClient, Client, ClientError, IndexingFailed, index_tree, sync_tree
from gateway.local.process import free_port

from .fake_service import FakeService, serving


class SlowService(FakeService):
    """Holds Embed until it is released or given up."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.ended, self.released = threading.Event(), threading.Event(), threading.Event()

    def Embed(self, request: Any, context: Any) -> Any:  # noqa: N802 - named after the RPC
        context.add_callback(self.ended.set)
        self.begun.set()
        assert self.released.wait(30)
        return super().Embed(request, context)


@pytest.fixture
def service() -> FakeService:
    service = FakeService()
    service.stored["x"] = {}
    return service


@pytest.fixture
def slow() -> Iterator[SlowService]:
    service = SlowService()
    yield service
    service.released.set()


@pytest.fixture
async def client(service: FakeService) -> AsyncIterator[AsyncClient]:
    with serving(service) as endpoint:
        async with AsyncClient(endpoint, api_key="k3y") as client:
            yield client


def chunks(count: int) -> Iterator[chunk_pb2.Chunk]:
    return (chunk_pb2.Chunk(path=f"{number}.py", content=str(number)) for number in range(count))


@contextlib.asynccontextmanager
async def no_task_left() -> AsyncIterator[None]:
    """What a call began ends with it, or a turn of the loop later."""
    before = asyncio.all_tasks()
    yield
    async with asyncio.timeout(60):
        while asyncio.all_tasks() - before:
            await asyncio.sleep(0.01)


async def test_it_gives_what_the_blocking_client_gives(client: AsyncClient, service: FakeService) -> None:
    service.stored["y"] = {}
    with Client(client.endpoint, api_key="k3y") as blocking:
        texts = ["a", "b"]
        np.testing.assert_array_equal(
            await client.embed(texts, "query"), await asyncio.to_thread(blocking.embed, texts, "query")
        )
        assert [one.codebase_id async for one in client.list_codebases()] == ["x", "y"]
        assert [one.codebase_id for one in blocking.list_codebases()] == ["x", "y"]
        assert await client.health() == blocking.health() == "SERVING"
    assert service.metadata["authorization"] == "Bearer k3y"


async def test_an_error_carries_reason_and_violations(client: AsyncClient) -> None:
    with pytest.raises(ClientError) as failure:
        await client.embed(["a", " "], "query")
    assert (failure.value.code.name, failure.value.reason) == ("INVALID_ARGUMENT", "INVALID_INPUT")
    assert [one.field for one in failure.value.violations] == ["texts[1]"]


async def test_an_overloaded_service_is_asked_again_while_others_go_on(
    client: AsyncClient, service: FakeService
) -> None:
    service.overloaded = 2
    embedding = asyncio.create_task(client.embed(["a"], "query"))
    while len(service.calls) < 2:
        await asyncio.sleep(0.001)  # the loop turns while the client waits
    assert (await embedding).shape == (1, 2560)
    assert service.calls == ["Embed"] * 3


async def test_a_call_whose_task_is_cancelled_ends_at_the_service(slow: SlowService) -> None:
    with serving(slow) as endpoint:
        async with AsyncClient(endpoint, api_key="k") as client, no_task_left():
            call = asyncio.create_task(client.embed(["a"], "query"))
            assert await asyncio.to_thread(slow.begun.wait, 30)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert await asyncio.to_thread(slow.ended.wait, 30)


async def test_a_deadline_ends_a_call(slow: SlowService) -> None:
    with serving(slow) as endpoint:
        async with AsyncClient(endpoint, api_key="k", timeout_s=0.3) as client:
            with pytest.raises(ClientError, match="did not answer in time") as failure:
                await client.embed(["a"], "query")
            assert failure.value.code == grpc.StatusCode.DEADLINE_EXCEEDED
        async with AsyncClient(endpoint, api_key="k") as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await client.embed(["a"], "query")


async def test_closing_ends_calls_with_an_error_and_not_as_if_their_tasks_were_cancelled(
    slow: SlowService, service: FakeService
) -> None:
    """A CancelledError that nobody asked for would end a TaskGroup without a word."""
    service.silent = True

    async def index(client: AsyncClient) -> None:
        async for _ in client.index_chunks("x", chunks(9)):
            pass

    with serving(slow) as endpoint, serving(service) as other:
        client, indexing = AsyncClient(endpoint, api_key="k"), AsyncClient(other, api_key="k")
        async with no_task_left():
            calls = asyncio.gather(client.embed(["a"], "query"), index(indexing), return_exceptions=True)
            while not (slow.begun.is_set() and service.received):
                await asyncio.sleep(0.001)
            await asyncio.gather(client.close(), indexing.close())
            assert [str(one) for one in await calls] == ["the client is closed"] * 2
        with pytest.raises(ClientError, match="the client is closed"):
            await client.embed(["a"], "query")


def test_it_may_be_made_before_the_loop_and_belongs_to_one(service: FakeService) -> None:
    with serving(service) as endpoint:
        client = AsyncClient(endpoint, api_key="k")

        async def embed() -> tuple[int, ...]:
            return (await client.embed(["a"], "query")).shape

        assert asyncio.run(embed()) == (1, 2560)
        with pytest.raises(ClientError, match="used in another event loop before"):
            asyncio.run(embed())
        asyncio.run(client.close())


async def test_chunks_are_taken_from_either_kind_of_iterable(client: AsyncClient, service: FakeService) -> None:
    async def slowly() -> AsyncIterator[chunk_pb2.Chunk]:
        for chunk in chunks(5):
            await asyncio.sleep(0)
            yield chunk

    service.fail_items = {"3": 3}
    for source in (chunks(5), slowly()):
        outcomes = {chunk.path: outcome async for chunk, outcome in client.index_chunks("x", source)}
        assert outcomes.keys() == {f"{number}.py" for number in range(5)}
        failed = outcomes.pop("3.py")
        assert isinstance(failed, ClientError)
        assert (failed.code, str(failed)) == (grpc.StatusCode.INVALID_ARGUMENT, "the chunk is bad")
        assert not any(isinstance(outcome, ClientError) for outcome in outcomes.values())


@pytest.mark.parametrize("give_up", ["cancel", "break", "raise"])
async def test_a_stream_that_is_given_up_leaves_nothing(client: AsyncClient, give_up: str) -> None:
    async def index() -> None:
        async for _ in client.index_chunks("x", chunks(100_000), window=8):
            if give_up == "break":
                break
            if give_up == "raise":
                raise LookupError

    async with no_task_left():
        task = asyncio.create_task(index())
        if give_up == "cancel":
            while not task.done() and len(asyncio.all_tasks()) < 3:
                await asyncio.sleep(0)
            await asyncio.sleep(0.05)
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError, LookupError):
            await task


async def test_what_was_not_answered_goes_again_when_the_service_restarts(service: FakeService) -> None:
    """Fifty callers and an indexer see three restarts as nothing but a delay."""
    port, calls, stopping = free_port(), 0, asyncio.Event()

    async def embed(client: AsyncClient) -> None:
        nonlocal calls
        while not stopping.is_set():
            assert (await client.embed(["a"], "query")).shape == (1, 2560)
            calls += 1

    async def until_stopped() -> AsyncIterator[chunk_pb2.Chunk]:
        for chunk in chunks(1_000_000):
            if stopping.is_set():
                return
            yield chunk
            await asyncio.sleep(0)

    async def index(client: AsyncClient) -> list[str]:
        outcomes = [one async for one in client.index_chunks("x", until_stopped())]
        assert not [outcome for _, outcome in outcomes if isinstance(outcome, ClientError)]
        return [chunk.path for chunk, _ in outcomes]

    async def some_work() -> None:
        seen, received = calls, len(service.received)
        while calls < seen + 100 or len(service.received) < received + 10:
            await asyncio.sleep(0.01)
            if indexing.done():
                await indexing

    async with AsyncClient(f"127.0.0.1:{port}", api_key="k") as client, no_task_left():
        with serving(service, port):
            callers = [asyncio.create_task(embed(client)) for _ in range(50)]
            indexing = asyncio.create_task(index(client))
            await some_work()
        for _ in range(2):
            with serving(service, port):
                await some_work()
        with serving(service, port):
            await some_work()
            stopping.set()
            paths = await indexing
            await asyncio.gather(*callers)
    assert service.streams == 4
    assert len(paths) == len(set(paths)) == len(service.stored["x"])


async def test_a_folder_is_indexed_as_by_the_blocking_client(
    client: AsyncClient, service: FakeService, tmp_path: Path
) -> None:
    for number in range(20):
        (tmp_path / f"{number}.py").write_text(f"def f{number}():\n    return {number}\n")
    async with no_task_left():
        report = await index_tree(client, tmp_path, "new")
        assert (report.created, report.files_changed, report.chunks_embedded) == (True, 20, 20)
        again = await index_tree(client, tmp_path, "new")
        assert (again.created, again.files_unchanged) == (False, 20)
    with Client(client.endpoint, api_key="k3y") as blocking:
        by_blocking = await asyncio.to_thread(index_tree, blocking, tmp_path, "other")
    report.codebase_id, report.elapsed_s = "other", by_blocking.elapsed_s
    assert by_blocking == report


async def test_indexing_that_is_cancelled_goes_on_where_it_was(service: FakeService, tmp_path: Path) -> None:
    for number in range(60):
        (tmp_path / f"{number}.py").write_text(f"def f{number}():\n    return {number}\n")
    with serving(service) as endpoint:
        async with AsyncClient(endpoint, api_key="k") as client, no_task_left():
            first = asyncio.create_task(index_tree(client, tmp_path, "x", window=1))
            while len(service.stored["x"]) < 10:
                await asyncio.sleep(0.001)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            stored = len(service.stored["x"])
            assert stored < 60
            report = await index_tree(client, tmp_path, "x")
            assert report.files_unchanged >= stored - 1
            assert report.chunks_embedded + report.chunks_unchanged + report.files_unchanged == 60


async def test_indexing_that_the_service_ends_says_what_is_done(
    client: AsyncClient, service: FakeService, tmp_path: Path
) -> None:
    (tmp_path / "a.py").write_text("def f():\n    return 1\n")
    service.silent = True
    with pytest.raises(IndexingFailed, match=r"nothing was answered in 0\.2 s.*run again to resume"):
        await index_tree(client, tmp_path, "x", stall_timeout_s=0.2)


async def test_a_commit_is_synced_as_by_the_blocking_client(
    client: AsyncClient, service: FakeService, tmp_path: Path
) -> None:
    repository = GitRepository(tmp_path / "repo")
    repository.commit({f"{number}.py": f"def f{number}():\n    return {number}\n" for number in range(9)})
    async with no_task_left():
        report = await sync_tree(client, repository.folder, "new")
        assert (report.recorded, report.index.chunks_embedded) == (True, 9)
        repository.commit({"1.py": "def f1():\n    return 100\n"})
        again = await sync_tree(client, repository.folder, "new")
    assert (again.base_commit_id, again.index.files_scanned, again.index.chunks_embedded) == (report.commit_id, 1, 1)
    assert service.revisions["new"].commit_id == again.commit_id


async def test_a_thread_that_works_for_a_task_is_through_when_the_task_is(client: AsyncClient) -> None:
    """Or it would read on from what the task has closed."""
    begun, go_on, through = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert go_on.wait(30)
        through.set()

    task = asyncio.create_task(client._connection.transport.offload(work))
    assert await asyncio.to_thread(begun.wait, 30)
    task.cancel()
    await asyncio.wait([task], timeout=0.05)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert through.is_set()
