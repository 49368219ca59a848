"""`duovec index` as a process of its own, against parts that can each be killed; what is stored, and what is found."""

import asyncio
import hashlib
import itertools
import os
import random
import signal
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import grpc
import numpy as np
from fault_caller import API_KEY, Caller, chunk_request
from pgvector.asyncpg import register_vector

from duovec.v1 import search_service_pb2
from gateway.client.chunking import chunk_file
from gateway.client.client import Client
from gateway.client.errors import ClientError
from gateway.embedding.space import passage_of
from gateway.local.postgres import Postgres
from gateway.local.process import GatewayServer, launch_command
from gateway.local.triton import Triton

CODEBASE = "bulk"
WRITTEN = "written"
# Path, hash and number of chunks of the file, position, symbol, kind, lines, content.
StoredChunk = tuple[str, bytes, int, int, str, str, int, int, str]
Version = tuple[str, bytes]

_STORED = (
    "SELECT path, file_sha256, file_chunk_count, ordinal, symbol, kind, start_line, end_line, content,"
    " (SELECT count(*) FROM embeddings e WHERE e.chunk_id = c.chunk_id) AS vector_count"
    " FROM chunks c JOIN codebases USING (codebase_key) WHERE codebase_id = $1"
)
_SAMPLE = (
    "SELECT c.symbol, c.content, e.embedding FROM chunks c JOIN embeddings e USING (chunk_id)"
    " JOIN codebases b ON b.codebase_key = c.codebase_key"
    " WHERE codebase_id = $1 ORDER BY chunk_id"
)
_FOUND_PER_PAGE = 100
# What a part that is dead or starting may say; everything else is a fault.
_PASSING = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}


def chunks_of(tree: Path) -> Counter[StoredChunk]:
    """What is to be stored of a tree: each chunk once."""
    expected: Counter[StoredChunk] = Counter()
    for path in sorted(tree.rglob("*.py")):
        source = path.read_bytes()
        if source:
            name = path.relative_to(tree).as_posix()
            chunks = chunk_file(name, source)
            for ordinal, chunk in enumerate(chunks):
                where = (name, hashlib.sha256(source).digest(), len(chunks), ordinal)
                expected[*where, chunk.symbol, chunk.kind, chunk.start_line, chunk.end_line, chunk.content] += 1
    return expected


def versions_of(chunks: Counter[StoredChunk]) -> dict[Version, int]:
    """How many chunks each file has."""
    return {(chunk[0], chunk[1]): chunk[2] for chunk in chunks}


@dataclass
class BulkSite:
    """Everything that takes part in a bulk load."""

    postgres: Postgres
    triton: Triton
    gateway: GatewayServer
    database_url: str
    log: Path

    async def index(self, tree: Path) -> asyncio.subprocess.Process:
        """Begin to index, as a process that does not outlive this one."""
        command = [str(Path(sys.executable).with_name("duovec")), "index", str(tree), "--codebase", CODEBASE]
        return await asyncio.create_subprocess_exec(
            *launch_command([*command, "--endpoint", self.gateway.url, "--json"]),
            env={**os.environ, "DUOVEC_API_KEY": API_KEY},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def kill(self, part: str, indexing: asyncio.subprocess.Process) -> None:
        """Kill a part at once, and bring it back, unless it is the client."""
        if part == "client":
            indexing.kill()
            return
        killed: Postgres | Triton | GatewayServer = getattr(self, part)
        kill = os.kill if part == "postgres" else os.killpg
        kill(killed.pid, signal.SIGKILL)
        await killed.wait()
        await killed.stop()
        await killed.start()

    async def least_cosine(self, codebase_id: str, count: int, chance: random.Random) -> float:
        """Embed some stored chunks anew: how near the farthest of the stored vectors is to what it must be."""
        connection = await asyncpg.connect(self.database_url)
        try:
            await register_vector(connection)
            records = await connection.fetch(_SAMPLE, codebase_id)
        finally:
            await connection.close()
        sample = chance.sample(records, min(count, len(records)))
        texts = [passage_of(record["symbol"], record["content"]) for record in sample]
        with Client(self.gateway.url, api_key=API_KEY) as client:
            fresh_BD = await asyncio.to_thread(client.embed, texts, "passage", truncate=True)
        stored_BD = np.stack([record["embedding"].to_numpy().astype(np.float32) for record in sample])
        stored_BD /= np.linalg.norm(stored_BD, axis=1, keepdims=True)
        return float(np.einsum("bd,bd->b", fresh_BD, stored_BD).min())

    async def stored(self) -> tuple[Counter[StoredChunk], list[str]]:
        """What the database holds, and what of it has not exactly one vector."""
        connection = await asyncpg.connect(self.database_url)
        try:
            records = await connection.fetch(_STORED, CODEBASE)
        finally:
            await connection.close()
        odd = [f"{record['path']}#{record['ordinal']}" for record in records if record["vector_count"] != 1]
        return Counter(tuple(record)[:-1] for record in records), odd

    async def written(self) -> Counter[str]:
        """How often each chunk of the writer is there with exactly one vector."""
        connection = await asyncpg.connect(self.database_url)
        try:
            records = await connection.fetch(_STORED, WRITTEN)
        finally:
            await connection.close()
        return Counter(record["symbol"] for record in records if record["vector_count"] == 1)

    async def until_stored(self, wanted: set[Version], count: int, indexing: asyncio.subprocess.Process) -> None:
        """Wait until so many chunks of some versions are stored, or the indexer has ended."""
        paths, hashes = zip(*wanted, strict=True)
        connection = await asyncpg.connect(self.database_url)
        try:
            while indexing.returncode is None:
                stored = await connection.fetchval(
                    "SELECT count(*) FROM chunks JOIN unnest($1::text[], $2::bytea[]) AS wanted (path, file_sha256)"
                    " USING (path, file_sha256)",
                    list(paths),
                    list(hashes),
                )
                if stored >= count:
                    return
                await asyncio.sleep(0.005)
        finally:
            await connection.close()


@dataclass
class Writer:
    """Sends one chunk after the other, each once, and remembers what was acknowledged."""

    caller: Caller
    acknowledged: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)

    async def run(self) -> None:
        """Write until cancelled."""
        for number in itertools.count():
            request = chunk_request(WRITTEN, number)
            code, message = grpc.StatusCode.OK, ""
            try:
                [reply] = await self.caller.index([request], timeout_s=20)
                if not reply.HasField("indexed"):
                    code = next(one for one in grpc.StatusCode if one.value[0] == reply.error.code)
                    message = f"of the item: {reply.error.message}"
            except ClientError as error:
                code, message = error.code, str(error)
            if code is grpc.StatusCode.OK:
                self.acknowledged.add(request.chunk.symbol)
            else:
                self.refused[code.name] += 1
                if code not in _PASSING:
                    self.wrong.append(f"{number}: {code} {message}")
            await asyncio.sleep(0.05)


@dataclass
class Searcher:
    """Looks for every chunk of one file after the other, and says when what it finds is no whole version."""

    caller: Caller
    old: dict[Version, int]
    new: dict[Version, int]
    wrong: list[str] = field(default_factory=list)
    answer_count: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    beside_count: int = 0
    """How often an old version was found whole, beside a part of the new one."""

    def paths(self) -> list[str]:
        """Files whose versions fit one page together: only a page is of one moment."""
        size: Counter[str] = Counter()
        for (path, _), count in [*self.old.items(), *(self.new.items() - self.old.items())]:
            size[path] += count
        return sorted({path for path, _ in self.old if size[path] <= _FOUND_PER_PAGE})

    async def run(self) -> None:
        """Search until cancelled."""
        paths = self.paths()
        while True:
            for path in paths:
                request = search_service_pb2.SearchRequest(
                    codebase_ids=[CODEBASE], query="open a file", page_size=_FOUND_PER_PAGE
                )
                request.filter.path_globs.append(path)
                try:
                    response = await self.caller.search_by(request)
                except ClientError as error:
                    self.refused[error.code.name] += 1
                    if error.code not in _PASSING:
                        self.wrong.append(f"{path}: {error.code} {error}")
                    await asyncio.sleep(0.05)
                else:
                    self._judge(path, response)

    def _judge(self, path: str, response: search_service_pb2.SearchResponse) -> None:
        self.answer_count += 1
        found: dict[Version, set[int]] = {}
        for hit in response.hits:
            found.setdefault((path, hit.chunk.file_sha256), set()).add(hit.chunk.ordinal)
        sizes = self.old | self.new
        shown = {sha.hex()[:8]: f"{len(ordinals)} of {sizes.get((path, sha))}" for (_, sha), ordinals in found.items()}
        if len(response.hits) != sum(map(len, found.values())) or response.next_page_token:
            self.wrong.append(f"{path}: {shown} in {len(response.hits)} hits")
        whole = {version for version, ordinals in found.items() if ordinals == set(range(sizes.get(version, 0)))}
        is_removed = all(name != path for name, _ in self.new)
        if not (whole & sizes.keys() or (is_removed and not found)) or found.keys() - sizes.keys():
            self.wrong.append(f"{path}: {shown}")
        self.beside_count += bool(whole & self.old.keys() and found.keys() - whole)
