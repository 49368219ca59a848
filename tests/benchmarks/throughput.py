"""How much of the encoders' own speed is left behind gRPC, Triton and the database: a table, and one JSON line.

The bound runs both encoders in one process, with the runtime and the micro-batches of the published model: one after
the other, both at the same time with two threads each, and as many of each as Triton has, with one; the fastest counts.

Usage: python -m tests.benchmarks.throughput [--chunks 1500]   (starts its own stack; needs the compact
pair in .duovec)
"""

import argparse
import asyncio
import itertools
import os
import random
import statistics
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import grpc
import numpy as np

from duovec.v1 import chunk_pb2, embedding_service_pb2, embedding_service_pb2_grpc, vector_pb2
from export.python_backend.host import EncoderHost, Rows, open_host
from gateway.client.chunk_messages import chunk_messages
from gateway.client.client import Client
from gateway.client.errors import ClientError
from gateway.embedding.space import Encoder, InputType, Space, passage_of
from gateway.embedding.tokenizer import Tokenizer
from gateway.local.stack import Stack, StackSettings
from tests.benchmarks.keeping import keep, rounded

ROOT = Path(__file__).parents[2]
LIBRARY = Path(sysconfig.get_path("stdlib"))
REPOSITORY = ROOT / ".duovec" / "model_repository"
THREADS = 2
_FRESH = itertools.count(100_000)


def real_chunks(count: int) -> list[chunk_pb2.Chunk]:
    """Chunks of the standard library, each text once, at their natural lengths."""
    chunks: dict[str, chunk_pb2.Chunk] = {}
    for path in sorted(LIBRARY.glob("*.py")) + sorted(LIBRARY.glob("email/*.py")):
        for chunk in chunk_messages(path.name, path.read_bytes(), bytes(32)):
            chunks.setdefault(passage_of(chunk.symbol, chunk.content), chunk)
    found = list(chunks.values())
    return found[:: max(1, len(found) // count)][:count]


def renewed(chunks: Sequence[chunk_pb2.Chunk]) -> list[chunk_pb2.Chunk]:
    """The chunks, each with a number before it that none had before: no vector comes from a cache, and all have as many
    tokens more.
    """
    found = []
    for chunk in chunks:
        copy = chunk_pb2.Chunk()
        copy.CopyFrom(chunk)
        copy.content = f"{next(_FRESH)}\n{chunk.content}"
        found.append(copy)
    return found


def passages(chunks: Sequence[chunk_pb2.Chunk]) -> list[str]:
    """What is embedded for them."""
    return [passage_of(chunk.symbol, chunk.content) for chunk in chunks]


class Bound:
    """Both encoders in this process."""

    def __init__(self, space: Space) -> None:
        self._encoders = (space.code, space.text)
        self._hosts = [self._open(encoder, THREADS) for encoder in self._encoders]
        self._published = [[self._open(encoder, 1) for _ in range(encoder.instances)] for encoder in self._encoders]

    def _open(self, encoder: Encoder, num_threads: int) -> EncoderHost:
        return open_host(encoder.folder, num_threads=num_threads, token_budget=encoder.token_budget)

    async def rows(self, texts: Sequence[str]) -> list[Rows]:
        """The texts as each encoder reads them."""
        found = []
        for encoder in self._encoders:
            tokens = await Tokenizer(encoder).tokenize(texts, InputType.PASSAGE)
            lengths = np.array([len(row.ids_T) for row in tokens])
            ids = np.zeros((len(tokens), lengths.max()), dtype=np.int64)
            for position, row in enumerate(tokens):
                ids[position, : len(row.ids_T)] = row.ids_T
            task_id = encoder.task_ids.get(InputType.PASSAGE)
            tasks = None if task_id is None else np.full(len(tokens), task_id)
            found.append(Rows(ids, lengths, tasks))
        return found

    def in_turns(self, rows: Sequence[Rows]) -> None:
        """One encoder, then the other."""
        for host, one in zip(self._hosts, rows, strict=True):
            host.embed([one])

    def at_once(self, rows: Sequence[Rows]) -> None:
        """Both in threads."""
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda pair: pair[0].embed([pair[1]]), zip(self._hosts, rows, strict=True)))

    def as_published(self, rows: Sequence[Rows]) -> None:
        """Each encoder's instances with one thread each; they take the rows of every length in turns."""
        work = []
        for hosts, one in zip(self._published, rows, strict=True):
            order_B = np.argsort(one.lengths, kind="stable")
            for number, host in enumerate(hosts):
                mine = order_B[number :: len(hosts)]
                part = Rows(one.ids[mine], one.lengths[mine], None if one.tasks is None else one.tasks[mine])
                work.append((host, part))
        with ThreadPoolExecutor(len(work)) as pool:
            list(pool.map(lambda pair: pair[0].embed([pair[1]]), work))

    def one_text(self, rows: Sequence[Rows], pool: ThreadPoolExecutor) -> None:
        """An instance of each encoder, both at once."""
        list(pool.map(lambda pair: pair[0][0].embed([pair[1]]), zip(self._published, rows, strict=True)))


def seconds(work: Callable[..., object], *arguments: object) -> float:
    """Wall time."""
    started = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - started


def stream_embed(endpoint: str, api_key: str, texts: Sequence[str]) -> None:
    """Every text through StreamEmbed."""

    def requests() -> Iterator[embedding_service_pb2.StreamEmbedRequest]:
        for number, text in enumerate(texts):
            yield embedding_service_pb2.StreamEmbedRequest(
                item_id=str(number),
                text=text,
                input_type=vector_pb2.INPUT_TYPE_PASSAGE,
                truncate=True,
                vector_format=vector_pb2.VECTOR_FORMAT_FLOAT32_LE,
            )

    with grpc.insecure_channel(endpoint) as channel:
        stub = embedding_service_pb2_grpc.EmbeddingServiceStub(channel)
        metadata = (("authorization", f"Bearer {api_key}"),)
        replies = sum(reply.HasField("embedding") for reply in stub.StreamEmbed(requests(), metadata=metadata))
    assert replies == len(texts)


def index(client: Client, codebase: str, chunks: Sequence[chunk_pb2.Chunk]) -> None:
    """Every chunk through IndexChunks, stored."""
    client.create_codebase(codebase)
    outcomes = [outcome for _, outcome in client.index_chunks(codebase, chunks, truncate=True)]
    assert not any(isinstance(outcome, ClientError) for outcome in outcomes), outcomes
    assert len(outcomes) == len(chunks)


def measure(
    bound: Bound, endpoint: str, api_key: str, chunks: Sequence[chunk_pb2.Chunk], rounds: int
) -> dict[str, float]:
    """Chunks a second of each way, in turns, so that the machine's moods hit all alike; medians."""
    rows = asyncio.run(bound.rows(passages(renewed(chunks))))
    taken: dict[str, list[float]] = {}
    with Client(endpoint, api_key=api_key) as client:
        ways: dict[str, Callable[[Sequence[chunk_pb2.Chunk]], object]] = {
            "bound, in turns": lambda _: bound.in_turns(rows),
            "bound, at once": lambda _: bound.at_once(rows),
            "bound, as published": lambda _: bound.as_published(rows),
            "StreamEmbed": lambda fresh: stream_embed(endpoint, api_key, passages(fresh)),
            "index": lambda fresh: index(client, f"throughput-{next(_FRESH)}", fresh),
        }
        for number in range(rounds):
            for name, way in ways.items():
                fresh = renewed(chunks)
                taken.setdefault(name, []).append(seconds(way, fresh))
                print(f"round {number + 1}: {name} {taken[name][-1]:.1f} s", file=sys.stderr)
        embed = partial(client.embed, input_type="passage", truncate=True)
        taken["Embed of 100 texts, s"] = []
        for _ in range(5):
            hundred = passages(renewed(chunks[:: len(chunks) // 100][:100]))
            taken["Embed of 100 texts, s"].append(seconds(embed, hundred))
        taken["Embed of 4 texts, 32 callers"] = [_callers(endpoint, api_key, chunks)]
        short = _short_texts(bound, client)
    rates = {
        name: len(chunks) / statistics.median(times) for name, times in taken.items() if not name.startswith("Embed")
    }
    best = max(rate for name, rate in rates.items() if name.startswith("bound"))
    return {
        **{f"{name}, chunks/s": rate for name, rate in rates.items()},
        "tokens a chunk": float(np.mean([one.lengths for one in rows])),
        "StreamEmbed / bound": rates["StreamEmbed"] / best,
        "index / bound": rates["index"] / best,
        "Embed of 100 texts, ms": 1000 * statistics.median(taken["Embed of 100 texts, s"]),
        "Embed of 4 texts by 32 callers / bound": taken["Embed of 4 texts, 32 callers"][0] / best,
        **short,
    }


def _short_texts(bound: Bound, client: Client, count: int = 200) -> dict[str, float]:
    """One new query of nine words at a time, by both encoders in this process and by the service, in turns; medians."""
    taken: dict[str, list[float]] = {"runtime": [], "Embed": []}

    def query() -> str:
        return f"open the file {next(_FRESH)} and read its lines"

    with ThreadPoolExecutor(2) as pool:
        for _ in range(20 + count):
            taken["runtime"].append(seconds(bound.one_text, asyncio.run(bound.rows([query()])), pool))
            taken["Embed"].append(seconds(client.embed, [query()], "query"))
    runtime_ms, embed_ms = (1000 * statistics.median(times[20:]) for times in taken.values())
    return {
        "one short text by the runtime, ms": runtime_ms,
        "one short text by Embed, ms": embed_ms,
        "one short text by Embed, ms more": embed_ms - runtime_ms,
    }


def _callers(endpoint: str, api_key: str, chunks: Sequence[chunk_pb2.Chunk]) -> float:
    """Texts a second that 32 callers get who send four at a time, of all lengths that there are."""
    deadline = time.perf_counter() + 10
    counts = []

    def call(number: int) -> None:
        chance = random.Random(number)
        done = 0
        with Client(endpoint, api_key=api_key) as client:
            while time.perf_counter() < deadline:
                client.embed(passages(renewed(chance.choices(chunks, k=4))), "passage", truncate=True)
                done += 4
        counts.append(done)

    started = time.perf_counter()
    threads = [threading.Thread(target=call, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - started)


async def main() -> None:
    """Start a stack, measure, stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    chunks = real_chunks(options.chunks)
    bound = Bound(Space.load(REPOSITORY, code_encoder="compact-code", text_encoder="compact-text"))
    bound.in_turns(await bound.rows(passages(chunks[:64])))
    with tempfile.TemporaryDirectory(prefix="duovec-bench-") as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101 - PostgreSQL's account must be able to enter
        settings = StackSettings(data_dir=Path(folder), model_repository=REPOSITORY, listen="127.0.0.1:0")
        async with Stack(settings) as stack:
            figures = await asyncio.to_thread(measure, bound, stack.endpoint, stack.api_key, chunks, options.rounds)
    for name, figure in figures.items():
        print(f"{name:<40}{figure:10.2f}")
    keep("throughput", {"figures": rounded(figures)})


if __name__ == "__main__":
    asyncio.run(main())
