"""How indexing scales with the number of chunks: a table, and a JSON line for results/growth.json.

Usage: python -m tests.benchmarks.growth [--sizes 1000 10000 100000]   (starts its own stack; needs the compact pair in
.duovec)

Each size goes into a codebase of its own, as lines of code, none twice: the encoders do some hundred of them a second,
so that what is around them weighs as much as it can, and 100,000 take minutes. A size that takes seconds is indexed
five times, and its rate is the median. Memory is what each process holds when it is done.
"""

import argparse
import asyncio
import itertools
import os
import random
import statistics
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from duovec.v1 import chunk_pb2
from gateway.client.client import Client
from gateway.client.errors import ClientError
from gateway.local.stack import Stack, StackSettings
from tests.benchmarks.keeping import keep, rounded
from tests.benchmarks.throughput import REPOSITORY

LIBRARY = Path(sysconfig.get_path("stdlib"))
CHARACTERS = range(20, 61)
_LINES_PER_FILE = 10
_SHORT = 5000


def lines(count: int) -> list[str]:
    """Different lines of the standard library, in random order; what is beyond them are the same with a number."""
    found: dict[str, None] = {}
    for path in sorted(LIBRARY.rglob("*.py")):
        if "site-packages" not in path.parts:
            text = path.read_text(encoding="utf-8", errors="replace")
            found |= dict.fromkeys(line.strip() for line in text.split("\n") if len(line.strip()) in CHARACTERS)
        if len(found) > 2 * count:
            break
    chosen = list(found)
    random.Random(1).shuffle(chosen)
    numbered = (f"{line}  # {number}" for number in itertools.count(1) for line in chosen)
    return list(itertools.islice(itertools.chain(chosen, numbered), count))


def chunks(codebase: str, texts: Sequence[str]) -> list[chunk_pb2.Chunk]:
    """One a line, ten a file."""
    return [
        chunk_pb2.Chunk(
            path=f"{codebase}/{number // _LINES_PER_FILE}.py",
            language="python",
            kind="text",
            start_line=number % _LINES_PER_FILE + 1,
            end_line=number % _LINES_PER_FILE + 1,
            content=text,
            file_sha256=bytes(32),
            file_chunk_count=_LINES_PER_FILE,
        )
        for number, text in enumerate(texts)
    ]


def index(client: Client, codebase: str, texts: Sequence[str]) -> float:
    """Seconds until all are stored."""
    client.create_codebase(codebase)
    started = time.perf_counter()
    outcomes = [outcome for _, outcome in client.index_chunks(codebase, chunks(codebase, texts))]
    taken = time.perf_counter() - started
    assert not any(isinstance(outcome, ClientError) for outcome in outcomes)
    assert len(outcomes) == len(texts)
    return taken


def measure(stack: Stack, sizes: Sequence[int]) -> dict[str, dict[str, float]]:
    """Chunks a second, and megabytes of the gateway and of the client, by size."""
    client_process = psutil.Process()
    [gateway] = [
        one for one in client_process.children(recursive=True) if one.cmdline()[-2:] == ["-m", "gateway.server"]
    ]
    times = {size: 5 if size < _SHORT else 1 for size in sizes}
    texts = iter(lines(500 + sum(size * count for size, count in times.items())))
    figures = {}
    with Client(stack.endpoint, api_key=stack.api_key) as client:
        index(client, "warm", list(itertools.islice(texts, 500)))
        for size, count in times.items():
            taken = [
                index(client, f"growth-{size}-{number}", list(itertools.islice(texts, size))) for number in range(count)
            ]
            figures[f"{size:,}"] = {
                "chunks/s": size / statistics.median(taken),
                "gateway, MB": gateway.memory_info().rss / 1e6,
                "client, MB": client_process.memory_info().rss / 1e6,
            }
            print(
                f"{size:>9,} chunks" + "".join(f"{value:10.1f} {name}" for name, value in figures[f"{size:,}"].items())
            )
    return figures


async def main() -> None:
    """Start a stack, measure, stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="duovec-bench-") as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101 - PostgreSQL's account must be able to enter
        settings = StackSettings(data_dir=Path(folder), model_repository=REPOSITORY, listen="127.0.0.1:0")
        async with Stack(settings) as stack:
            figures = await asyncio.to_thread(measure, stack, options.sizes)
    keep("growth", {"by chunks": {size: rounded(values) for size, values in figures.items()}})


if __name__ == "__main__":
    asyncio.run(main())
