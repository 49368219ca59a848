"""Bulk input that is too much, or wrong, or never read: bounded memory, a clear code, and others go on."""

import asyncio
import hashlib
import itertools
import random
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import grpc
import psutil
import pytest
from chunk_streams import index_chunks

from duovec.v1 import chunk_pb2, embedding_service_pb2, index_service_pb2, vector_pb2
from duovec.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from duovec.v1.index_service_pb2_grpc import IndexServiceStub
from gateway.client.client import Client
from gateway.client.errors import ClientError
from gateway.client.indexer import index_tree
from gateway.local.stack import Stack

MEGABYTE = 1024 * 1024
MILLION = 1_000_000
# What a gateway may take more while it is sent hundreds of megabytes. It begins at 110.
GROWTH = 200 * MEGABYTE
PASSAGE = vector_pb2.INPUT_TYPE_PASSAGE


@pytest.fixture
def codebase(client: Client) -> Iterator[str]:
    client.create_codebase("bulk-bad")
    yield "bulk-bad"
    client.delete_codebase("bulk-bad")


@pytest.fixture
def other(client: Client) -> Iterator[Callable[[], None]]:
    """What somebody else does meanwhile; a query and a text that were not seen before."""
    client.create_codebase("of-another")
    numbers = itertools.count()
    client_chunk(client, "of-another", "def add(first, second):\n    return first + second\n")

    def call() -> None:
        number = next(numbers)
        assert len(client.search("of-another", f"add number {number}").hits) == 1
        assert client.embed([f"x = {number}"], "passage").shape == (1, 2560)

    yield call
    client.delete_codebase("of-another")


def client_chunk(client: Client, codebase_id: str, content: str) -> index_service_pb2.IndexChunksResponse:
    [reply] = index_chunks(client, iter([chunk_request(codebase_id, 0, content)]))
    return reply


def chunk_request(
    codebase_id: str, number: int, content: str, *, truncate: bool = False
) -> index_service_pb2.IndexChunksRequest:
    chunk = chunk_pb2.Chunk(
        path=f"{number}.txt",
        language="text",
        kind="text",
        start_line=1,
        end_line=1,
        content=content,
        file_sha256=hashlib.sha256(content.encode()).digest(),
        file_chunk_count=1,
    )
    return index_service_pb2.IndexChunksRequest(
        codebase_id=codebase_id, item_id=str(number), chunk=chunk, truncate=truncate
    )


class Gateway:
    """The gateway's process."""

    def __init__(self) -> None:
        [self._process] = [
            process
            for process in psutil.Process().children()
            if process.cmdline()[-2:] == ["-m", "gateway.server"] and process.is_running()
        ]

    def rss(self) -> int:
        return int(self._process.memory_info().rss)

    @contextmanager
    def bounded(self, growth: int = GROWTH) -> Iterator[None]:
        """The block lets it grow by so much at most, at any moment."""
        before, most, ended = self.rss(), 0, threading.Event()

        def watch() -> None:
            nonlocal most
            while not ended.wait(0.02):
                most = max(most, self.rss())

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()
        assert most - before < growth


@pytest.fixture
def gateway(stack: Stack) -> Gateway:
    return Gateway()


def million_characters() -> str:
    """Words of several bytes a character, none of which comes twice."""
    chance = random.Random(1)
    letters = [chr(code) for code in range(0x4E00, 0x9FA5)]
    return "".join("".join(chance.choices(letters, k=9)) + " " for _ in range(MILLION // 10))


def test_texts_of_a_million_characters(
    client: Client, gateway: Gateway, codebase: str, other: Callable[[], None]
) -> None:
    """Refused by name, or cut and said so; of sixteen at once the gateway keeps little."""
    text = million_characters()
    with gateway.bounded():
        with pytest.raises(ClientError, match=r"texts\[1\]: 1000000 characters, but encoder") as refused:
            client.embed(["short", text], "passage")
        assert (refused.value.code, refused.value.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "TEXT_TOO_LONG")
        for number in range(4):
            response = client.embed_response([text, text[number + 1 :]], "passage", truncate=True)
            assert [embedding.truncated for embedding in response.embeddings] == [True, True]
        requests = [chunk_request(codebase, number, text[number:], truncate=number % 2 == 0) for number in range(16)]
        replies = {int(reply.item_id): reply for reply in index_chunks(client, iter(requests))}
        other()
    for number, reply in replies.items():
        if number % 2 == 0:
            assert reply.indexed.truncated
        else:
            assert reply.error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
            assert "chunk.content: " in reply.error.message
    [best, *_] = client.search(codebase, text[4 : 4 + 9 * 3], limit=8, truncate=True).hits
    assert len(best.chunk.content) > MILLION - 16


def test_ten_thousand_empty_files(client: Client, codebase: str, tmp_path: Path) -> None:
    """They are counted, a few are named, and what is none of them is stored."""
    for number in range(10_000):
        (tmp_path / f"{number:05}.py").touch()
    (tmp_path / "one.py").write_text("def one():\n    return 1\n")
    report = index_tree(client, tmp_path, codebase)
    assert dict(report.skipped) == {"empty": 10_000}
    assert report.skipped_examples == {"empty": [f"{number:05}.py" for number in range(5)]}
    assert [file.path for file in client.list_files(codebase)] == ["one.py"]


def test_one_huge_file(client: Client, gateway: Gateway, codebase: str, tmp_path: Path) -> None:
    """The largest that is taken is stored in full: one line, cut by characters; a byte more is skipped and named."""
    line = b"x = 1; " * (MILLION // 7)
    (tmp_path / "largest.min.js").write_bytes(line.ljust(MILLION, b" "))
    (tmp_path / "larger.min.js").write_bytes(line.ljust(MILLION + 1, b" "))
    with gateway.bounded():
        report = index_tree(client, tmp_path, codebase, max_chars=100_000)
    assert report.skipped_examples == {"too large": ["larger.min.js"]}
    [file] = client.list_files(codebase)
    assert file.path == "largest.min.js"
    assert file.stored_chunk_count == file.file_chunk_count >= 10
    assert (report.chunks_failed, report.files_incomplete) == (0, 0)


def test_a_client_that_does_not_read_its_replies(
    stack: Stack, gateway: Gateway, codebase: str, other: Callable[[], None]
) -> None:
    """What it sends is not taken any more, long before it fills the gateway; the others are served."""
    taken = 0
    stopped = threading.Event()

    def requests() -> Iterator[index_service_pb2.IndexChunksRequest]:
        nonlocal taken
        # Each is refused, with a reply that is longer than HTTP/2 lets through unread.
        for number in itertools.count():
            if stopped.is_set():
                return
            taken = number
            yield chunk_request(codebase, number, "\0" + "x" * 50_000)

    with gateway.bounded(), grpc.insecure_channel(stack.endpoint) as channel:
        metadata = (("authorization", f"Bearer {stack.api_key}"),)
        call = IndexServiceStub(channel).IndexChunks(requests(), metadata=metadata)
        before = 0
        while not 0 < taken == before:  # once it is under way, until it stands still
            before = taken
            other()
        stopped.set()
        call.cancel()
    assert 0 < taken < 20_000


def test_a_client_that_sends_without_end(stack: Stack, gateway: Gateway, other: Callable[[], None]) -> None:
    """It gets as far as its texts are embedded: nothing of 64 MB a second piles up."""
    sent = 0
    stopped = threading.Event()

    def requests() -> Iterator[embedding_service_pb2.StreamEmbedRequest]:
        nonlocal sent
        while not stopped.is_set():
            sent += 1
            text = f"{sent} " + "word " * 20_000
            yield embedding_service_pb2.StreamEmbedRequest(
                item_id=str(sent), text=text, input_type=PASSAGE, truncate=True
            )

    with gateway.bounded(), grpc.insecure_channel(stack.endpoint) as channel:
        metadata = (("authorization", f"Bearer {stack.api_key}"),)
        replies = EmbeddingServiceStub(channel).StreamEmbed(requests(), metadata=metadata)
        for answered, reply in enumerate(replies, 1):
            assert reply.embedding.truncated
            if answered % 8 == 0:
                other()
            if answered == 16:
                stopped.set()
                break
        ahead = sent - answered
        replies.cancel()
    assert ahead < 1000


async def flood(
    endpoint: str, api_key: str | None, data: bytes, count: int, method: str = "/duovec.v1.EmbeddingService/Embed"
) -> set[grpc.StatusCode]:
    """Send one request many times at once; the codes of the answers."""
    metadata = () if api_key is None else (("authorization", f"Bearer {api_key}"),)

    async def call(channel: grpc.aio.Channel) -> grpc.StatusCode:
        outcome = channel.unary_unary(method)(data, metadata=metadata, timeout=120)
        code: grpc.StatusCode = await outcome.code()
        return code

    async with grpc.aio.insecure_channel(endpoint) as channel:
        return set(await asyncio.gather(*(call(channel) for _ in range(count))))


def largest_request(*, truncate: bool) -> bytes:
    """Of 256 texts, 7.9 MB; every word is another one, and no text comes twice."""
    words = million_characters()
    texts = [f"{number} {words[number:][:10_000]}" for number in range(256)]
    request = embedding_service_pb2.EmbedRequest(texts=texts, input_type=PASSAGE, truncate=truncate)
    data: bytes = request.SerializeToString()
    assert 7_000_000 < len(data) < 8 * MEGABYTE
    return data


@pytest.mark.parametrize("method", ["/duovec.v1.EmbeddingService/Embed", "/grpc.health.v1.Health/Check"])
async def test_large_requests_of_anybody(
    stack: Stack, gateway: Gateway, other: Callable[[], None], method: str
) -> None:
    """Without a key 64 requests of 7.9 MB are not even received; health, which needs none, receives half of them."""
    data = largest_request(truncate=True)
    with gateway.bounded(GROWTH if "Embed" in method else 2 * GROWTH):
        flooding = asyncio.create_task(flood(stack.endpoint, None, data, 64, method))
        await asyncio.to_thread(other)
        codes = await flooding
    assert codes == {grpc.StatusCode.UNAUTHENTICATED if "Embed" in method else grpc.StatusCode.NOT_FOUND}


async def test_large_requests_at_once(stack: Stack, gateway: Gateway, other: Callable[[], None]) -> None:
    """What there is no room for is refused before it is tokenized, and searches go on beside what is."""
    with gateway.bounded(2 * GROWTH):
        flooding = asyncio.create_task(flood(stack.endpoint, stack.api_key, largest_request(truncate=False), 24))
        await asyncio.to_thread(other)
        codes = await flooding
    assert grpc.StatusCode.INVALID_ARGUMENT in codes
    assert codes <= {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED}


@pytest.fixture
async def database(session_dir: Path) -> AsyncIterator[asyncpg.Connection]:
    """As the database's owner."""
    password = (session_dir / "postgres" / "duovec.password").read_text()
    port = (session_dir / "postgres" / "postmaster.pid").read_text().split("\n")[3]
    connection = await asyncpg.connect(f"postgresql://duovec:{password}@127.0.0.1:{port}/duovec")
    yield connection
    await connection.close()


async def test_bulk_loads_into_a_codebase_that_is_being_deleted(
    stack: Stack, client: Client, gateway: Gateway, other: Callable[[], None], database: asyncpg.Connection
) -> None:
    """They end with NOT_FOUND at once: were they to wait, they would hold every connection, and others had none."""
    client.create_codebase("going")
    client_chunk(client, "going", "x = 0")

    def load(number: int) -> grpc.StatusCode | None:
        requests = (chunk_request("going", number * 1000 + chunk, "x = 1") for chunk in range(512))
        with Client(stack.endpoint, api_key=stack.api_key) as loader:
            try:
                for _ in index_chunks(loader, requests):
                    pass
            except ClientError as error:
                return error.code
        return None

    with ThreadPoolExecutor(8) as pool:
        # Whoever deletes waits for this chunk, as it would for the deletion of a million.
        async with database.transaction():
            await database.execute(
                "SELECT FROM chunks JOIN codebases USING (codebase_key) WHERE codebase_id = 'going'"
                " FOR KEY SHARE OF chunks"
            )
            deletion = pool.submit(client.delete_codebase, "going")
            while not await database.fetchval(
                "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid)))"
            ):
                await asyncio.sleep(0.01)
            with gateway.bounded():
                loads = [pool.submit(load, number) for number in range(6)]
                for _ in range(3):
                    await asyncio.to_thread(other)
                codes = [await asyncio.wrap_future(one) for one in loads]
        assert codes == [grpc.StatusCode.NOT_FOUND] * 6
        assert await asyncio.wrap_future(deletion) == 1
    assert await database.fetchval("SELECT count(*) FROM chunks WHERE content = 'x = 1'") == 0
    with pytest.raises(ClientError, match="does not exist"):
        client.get_codebase("going")


async def test_a_stream_does_not_go_on_in_a_codebase_that_was_made_anew(client: Client) -> None:
    """Its caller takes for stored what went with the old one."""
    client.create_codebase("again")
    begun, anew = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def requests() -> Iterator[index_service_pb2.IndexChunksRequest]:
        yield chunk_request("again", 0, "x = 0")
        anew.wait()
        yield chunk_request("again", 1, "x = 1")

    def load() -> None:
        for _ in index_chunks(client, requests()):
            loop.call_soon_threadsafe(begun.set)

    loading = asyncio.create_task(asyncio.to_thread(load))
    await begun.wait()
    client.delete_codebase("again")
    client.create_codebase("again")
    anew.set()
    with pytest.raises(ClientError, match="made anew since the stream began") as failure:
        await loading
    assert failure.value.code == grpc.StatusCode.NOT_FOUND
    assert client.delete_codebase("again") == 0
