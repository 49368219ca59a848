"""From one pair of encoders to another while the service is searched and written to, and a gateway is killed."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import grpc
import numpy as np
import pytest
from compact_checkpoint import ENCODER, write_adapters
from fault_caller import API_KEY, Caller, chunk_request
from numpy.typing import NDArray

from duovec.v1 import search_service_pb2 as search_pb
from gateway.client.client import Client
from gateway.client.errors import ClientError
from gateway.embedding.embedder import Embedder
from gateway.embedding.proof import ProvenEncoders
from gateway.embedding.space import InputType, Space, passage_of
from gateway.embedding.triton import Priority, TritonClient
from gateway.local.postgres import Postgres
from gateway.local.process import GatewayServer, free_port
from gateway.local.triton import Triton
from gateway.store.pool import Database

ENCODERS = ("compact-code", "compact-text")
# Numbers of the chunks of a codebase that is compared whole, and of one that an index is asked for.
EXACT_LIMIT = 200
BASE = {"exact": range(100), "indexed": range(100, 400)}
CHUNKS = 400
QUESTIONS = [f"multiply a value by {number}" for number in (3, 50, 77, 120, 260, 399)] + ["function", "return value"]
# Of similarities: batch mates move a query by less, a vector of another space by far more, which is shown, too.
TOLERANCE = 0.005
LOCK = """
SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid), spaces s
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.objid::bigint = s.space_key
  AND l.classid::bigint = hashtext('duovec.fill')::bigint & 4294967295 AND s.fingerprint = $1
"""
Vectors = dict[str, NDArray[np.float64]]


@dataclass
class Site:
    """Two gateways on one database and one Triton."""

    repository: Path
    triton: Triton
    database_url: str
    killed: GatewayServer
    other: GatewayServer

    async def fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """As the system."""
        database = (await Database.connect(self.database_url, min_size=1, max_size=1)).as_system()
        async with database.acquire(30) as connection:
            records: list[asyncpg.Record] = await connection.fetch(statement, *arguments)
        await database.close()
        return records

    async def holder(self, space: str) -> str | None:
        """Which gateway holds the lock under which a space is filled."""
        records = await self.fetch(LOCK, space)
        return records[0]["application_name"] if records else None

    async def stored(self, space: str) -> Vectors:
        """The stored vectors of a space, (2560,) of norm 1, by symbol."""
        records = await self.fetch(
            "SELECT c.symbol, e.embedding FROM embeddings e JOIN chunks c USING (chunk_id)"
            " JOIN spaces s USING (space_key) WHERE s.fingerprint = $1",
            space,
        )
        return {record["symbol"]: unit(record["embedding"].to_numpy()) for record in records}


def unit(vector: NDArray[np.floating]) -> NDArray[np.float64]:
    wide = vector.astype(np.float64)
    return wide / np.linalg.norm(wide)


@pytest.fixture
async def site(published_models: Path, fault_dir: Path) -> AsyncIterator[Site]:
    repository = fault_dir / "models"
    shutil.copytree(published_models, repository)
    postgres = Postgres(fault_dir / "postgres", log_path=fault_dir / "postgres.log")
    triton = Triton(repository, ENCODERS, work_dir=fault_dir / "triton", log_path=fault_dir / "triton.log")
    await postgres.start()
    await triton.start()
    low_limit = Path(__file__).with_name("low_exact_limit")
    gateways = []
    for name in ("killed", "other"):
        environment = {
            "DUOVEC_DATABASE_URL": f"{postgres.url}?application_name={name}",
            "DUOVEC_TRITON_URL": triton.url,
            "DUOVEC_MODEL_REPOSITORY": str(repository),
            "DUOVEC_ADMIN_KEY": API_KEY,
            "DUOVEC_DRAIN_S": "1",
            "LOW_EXACT_LIMIT": str(EXACT_LIMIT),
            "PYTHONPATH": os.pathsep.join([str(low_limit), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep),
        }
        gateway = GatewayServer(f"127.0.0.1:{free_port()}", environment, log_path=fault_dir / f"{name}.log")
        await gateway.start()
        gateways.append(gateway)
    yield Site(repository, triton, postgres.url, *gateways)
    for gateway in gateways:
        await gateway.stop()
    await triton.stop()
    await postgres.stop()


@dataclass
class Answer:
    """What a search gave: the symbols of its hits with their similarities."""

    codebase_id: str
    question: str
    space: str
    method: int
    hits: list[tuple[str, float]]


@dataclass
class Searcher:
    """Asks by vectors alone, again and again, and for each chunk that was just acknowledged."""

    caller: Caller
    spaces: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    newest: int = 0

    async def run(self) -> None:
        while True:
            for question in QUESTIONS:
                for codebase_id in BASE:
                    await self.search(codebase_id, question, expected_count=10)
                if self.newest:
                    await self.search("indexed", question, path=f"{self.newest}.py", expected_count=1)

    async def search(self, codebase_id: str, question: str, *, path: str = "", expected_count: int) -> None:
        request = search_pb.SearchRequest(
            codebase_ids=[codebase_id], query=question, lexical_weight=0.0, page_size=10, unlogged=True
        )
        if path:
            request.filter.path_globs.append(path)
        reply = await self.caller.search_by(request)
        hits = [(hit.chunk.symbol, hit.similarity) for hit in reply.hits]
        if len(hits) != expected_count or reply.partial or any(hit.lexical_score for hit in reply.hits):
            self.wrong.append(f"{codebase_id} {path} {question}: {hits} {reply.partial_reasons}")
        if not self.spaces or self.spaces[-1] != reply.space:
            self.spaces.append(reply.space)
        # Of one chunk there is no best to compare with.
        self.answers.append(Answer("" if path else codebase_id, question, reply.space, reply.method, hits))

    async def write(self) -> None:
        """Acknowledge a new chunk now and then; `run` finds it at once."""
        number = CHUNKS
        while True:
            (reply,) = await self.caller.index([chunk_request("indexed", number)])
            if not reply.HasField("indexed"):
                self.wrong.append(f"{number} was not stored: {reply.error}")
            else:
                self.newest = number
            number += 1
            await asyncio.sleep(0.3)

    async def until_more(self, space: str) -> None:
        """Wait until searches have gone to a space for a while, in which chunks were written."""
        await until("the other follows", lambda: self.spaces[-1] == space)
        newest, asked = self.newest, len(self.answers)
        await until("more was written", lambda: self.newest > newest + 2 and len(self.answers) > asked + 2)


def publish_another(site: Site) -> None:
    """The code encoder with another head: a space whose vectors have nothing in common with those of the first."""
    command = [str(Path(sys.executable).with_name("duovec-export")), "publish", "--encoder", ENCODER]
    command += ["--checkpoint", str(write_adapters(site.repository.parent / "shuffled", shuffled=True))]
    command += ["--repository", str(site.repository), "--triton-url", site.triton.url]
    command += ["--runtime", "onnxruntime", "--precision", "fp32", "--gate-pairs", "20", "--gate-longest", "16"]
    subprocess.run(command, check=True)


async def until(what: str, condition: object, *, timeout_s: float = 120) -> None:
    async with asyncio.timeout(timeout_s):
        while not await asyncio.to_thread(condition):  # type: ignore[arg-type]
            await asyncio.sleep(0.1)


async def test_a_space_is_changed_under_load_and_back(site: Site) -> None:
    """Nobody's search fails, loses a hit or mixes vectors, whichever process dies meanwhile."""
    await asyncio.to_thread(publish_another, site)
    async with grpc.aio.insecure_channel(site.other.url) as channel:
        caller = Caller(channel, site.other.url)
        for codebase_id, numbers in BASE.items():
            await caller.create(codebase_id)
            replies = await caller.index([chunk_request(codebase_id, number) for number in numbers])
            assert all(reply.HasField("indexed") for reply in replies)
        searcher = Searcher(caller)
        with Client(site.other.url, api_key=API_KEY) as admin, Client(site.killed.url, api_key=API_KEY) as first:
            async with asyncio.TaskGroup() as load:
                tasks = [load.create_task(searcher.run()), load.create_task(searcher.write())]
                stored = await change(site, admin, first, searcher)
                for task in tasks:
                    task.cancel()
    old, new = stored
    assert searcher.wrong == []
    assert searcher.spaces == [old, new, old, new]
    assert searcher.newest > CHUNKS
    await check_answers(site, searcher.answers, stored)
    methods = {answer.method for answer in searcher.answers if (answer.codebase_id, answer.space) == ("indexed", new)}
    assert methods == {search_pb.SEARCH_METHOD_BINARY}


async def change(site: Site, admin: Client, first: Client, searcher: Searcher) -> dict[str, Vectors]:
    """Build, fill with a kill in the middle, activate, roll back, activate, drop; gives what was stored in both."""
    listed = await asyncio.to_thread(admin.spaces.list)
    (old,) = [row.fingerprint for row in listed.spaces]
    binary = search_pb.SEARCH_METHOD_BINARY
    await until("an index is asked", lambda: any(answer.method == binary for answer in searcher.answers[-3:]))
    built = await asyncio.to_thread(first.spaces.build)
    new = built.fingerprint
    assert new == listed.served_space != old
    assert built.pending_chunk_count >= CHUNKS
    with pytest.raises(ClientError, match="not verified yet"):
        await asyncio.to_thread(admin.spaces.activate, new)

    await fill_by_the_one_that_dies(site, first, new)
    await until("some are there", lambda: admin.spaces.get(new).pending_chunk_count < CHUNKS - 60)
    assert await site.holder(new) == "killed"
    os.kill(site.killed.pid, signal.SIGKILL)
    await site.killed.wait()
    left = (await asyncio.to_thread(admin.spaces.get, new)).pending_chunk_count
    assert 0 < left < CHUNKS
    # The other one takes it up where it was.
    await asyncio.to_thread(lambda: admin.spaces.reembed(new))
    await until("it is verified", lambda: admin.spaces.get(new).HasField("verification"))
    row = await asyncio.to_thread(admin.spaces.get, new)
    assert list(row.verification.faults) == []
    assert row.verification.passed
    assert row.verification.recomputed_count == 64
    assert row.verification.min_cosine > 0.9999
    assert row.verification.mean_recall >= 0.95
    assert "retrieval was not compared" in row.verification.notices[0]

    await site.killed.start()
    # By the one, while the other is searched.
    await asyncio.to_thread(first.spaces.activate, new)
    await searcher.until_more(new)
    assert (await asyncio.to_thread(first.spaces.roll_back)).fingerprint == old
    await searcher.until_more(old)
    with pytest.raises(ClientError, match="drop it in"):
        await asyncio.to_thread(admin.spaces.drop, new)
    with pytest.raises(ClientError, match="the active one"):
        await asyncio.to_thread(admin.spaces.drop, old)
    await asyncio.to_thread(first.spaces.activate, new)
    await searcher.until_more(new)
    vectors = await site.stored(old)
    # As if the time had passed that others may still search it.
    await site.fetch(
        "UPDATE spaces SET deactivate_time = deactivate_time - interval '1 min' WHERE fingerprint = $1", old
    )
    await until("the old one is gone", lambda: is_dropped(first, old))
    assert [row.fingerprint for row in (await asyncio.to_thread(admin.spaces.list)).spaces] == [new]
    await searcher.until_more(new)
    return {old: vectors, new: await site.stored(new)}


async def fill_by_the_one_that_dies(site: Site, first: Client, space: str) -> None:
    """Begin to fill a space until it is not the other gateway that got the lock."""
    async with asyncio.timeout(120):
        while True:
            await asyncio.to_thread(lambda: first.spaces.reembed(space, max_chunks_per_second=60))
            while (holder := await site.holder(space)) is None:
                await asyncio.sleep(0.05)
            if holder == "killed":
                return
            await asyncio.to_thread(lambda: first.spaces.reembed(space, stop=True))
            while await site.holder(space):
                await asyncio.sleep(0.05)


def is_dropped(client: Client, space: str) -> bool:
    """Drop a space; under load its table may be too busy, and the call is to be repeated."""
    try:
        client.spaces.drop(space)
    except ClientError as error:
        if error.reason != "SPACE_IN_USE":
            raise
        return False
    return True


async def embedded(site: Site, space: str, texts: Sequence[str], input_type: InputType) -> Vectors:
    """Vectors of texts in a space, from Triton itself: neither a gateway nor its cache has a part in them."""
    found = Space.find(site.repository, space, code_encoder=ENCODERS[0], text_encoder=ENCODERS[1])
    assert found is not None
    client = TritonClient(site.triton.url, concurrency=8)
    embedder = Embedder(found, ProvenEncoders(client))
    encoded = await embedder.encode(await embedder.tokenize(texts, input_type), priority=Priority.BULK, timeout_s=60)
    await client.close()
    assert encoded.errors == {}
    return {text: unit(vector_V) for text, vector_V in zip(texts, encoded.vectors_BV, strict=True)}


async def check_answers(site: Site, answers: Sequence[Answer], stored: dict[str, Vectors]) -> None:
    """Every similarity is that of the question and the chunk in the space that the reply named, and none is lost."""
    asked = {space: await embedded(site, space, QUESTIONS, InputType.QUERY) for space in stored}
    for space, vectors in stored.items():
        await check_vectors(site, space, vectors)
    (old, new), recalls, seen = stored, [], []
    for answer in answers:
        question_V, vectors = asked[answer.space][answer.question], stored[answer.space]
        found = [similarity for _, similarity in answer.hits]
        expected = [question_V @ vectors[symbol] for symbol, _ in answer.hits]
        np.testing.assert_allclose(found, expected, atol=TOLERANCE, err_msg=f"{answer}")
        others = stored[old if answer.space == new else new]
        seen += [
            abs(question_V @ others[symbol] - similarity) > 3 * TOLERANCE
            for symbol, similarity in answer.hits
            if symbol in others
        ]
        if answer.codebase_id:
            base = [question_V @ vectors[f"function_{number}"] for number in BASE[answer.codebase_id]]
            best = sorted(base, reverse=True)[:10]
            if answer.codebase_id == "exact":
                np.testing.assert_allclose(found, best, atol=TOLERANCE, err_msg=f"{answer}")
            else:
                recalls.append(np.mean(np.array(found) >= best[-1] - TOLERANCE))
    assert np.mean(recalls) >= 0.95
    # If a vector of the other space had stood in its place it would have been seen.
    assert np.mean(seen) >= 0.95


async def check_vectors(site: Site, space: str, vectors: Vectors) -> None:
    """The stored vectors of a space are those of their texts in it: of the first chunks, and of those written last."""
    numbers = sorted(int(symbol.removeprefix("function_")) for symbol in vectors)
    passages = {}
    for number in (*numbers[:CHUNKS:10], *numbers[CHUNKS:]):
        chunk = chunk_request("", number).chunk
        passages[chunk.symbol] = passage_of(chunk.symbol, chunk.content)
    again = await embedded(site, space, list(passages.values()), InputType.PASSAGE)
    assert min(vectors[symbol] @ again[text] for symbol, text in passages.items()) > 0.998
