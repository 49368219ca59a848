"""Which weight of the words ranks best: MRR@10 of hybrid search by kind of query, over packages that nobody trained on.

    python -m tests.benchmarks.hybrid DATA [--queries 600]   (needs the published compact pair in .duovec)

DATA is a mined set. Of its dev split, and then of its test split, every definition is stored as one chunk under its own
path, and queries of every style, names of definitions as they are written, and their dotted names are asked of the
service with every weight. A weight is to be chosen by dev; test says what it is worth. Prints a table for each split,
with the interval of the gain over vectors alone, then one JSON line, kept in results/hybrid.json.
"""

import argparse
import asyncio
import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from duovec.v1 import chunk_pb2
from gateway.client.client import Client
from gateway.client.errors import ClientError
from gateway.local.stack import Stack, StackSettings
from gateway.store.search_words import LEXICAL_WEIGHT
from tests.benchmarks.keeping import keep, rounded
from training.dataset import Row, load_rows
from training.evaluation.bootstrap import paired_interval
from training.evaluation.questions import draw_rows

ROOT = Path(__file__).parents[2]
REPOSITORY = ROOT / ".duovec" / "model_repository"
WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 1.0)
# Pieces of code are searched by vectors alone, unless the caller says otherwise.
SKIPPED_STYLE = "code"


@dataclass(frozen=True)
class Query:
    """What is typed, and the definition that it is about."""

    text: str
    kind: str
    unit: str


def queries_of(rows: Sequence[Row], count: int) -> list[Query]:
    """Queries of the styles of a split, and the names of as many definitions, short and dotted."""
    drawn = draw_rows([row for row in rows if row.style != SKIPPED_STYLE], count, seed=0)
    named = [row for row in draw_rows(rows, len(rows), seed=1) if "." in row.symbol][: count // 4]
    return (
        [Query(row.query, row.style, row.unit) for row in drawn]
        + [Query(row.symbol.rpartition(".")[2], "identifier", row.unit) for row in named]
        + [Query(row.symbol, "dotted identifier", row.unit) for row in named]
    )


def chunks_of(rows: Sequence[Row]) -> Iterator[tuple[str, chunk_pb2.Chunk]]:
    """Every definition with its key, file by file, as chunks of one version of it."""
    units = sorted({row.unit: row for row in rows}.values(), key=lambda row: (row.origin, row.unit))
    for path, group in groupby(units, key=lambda row: row.origin.rpartition(":")[0]):
        file = list(group)
        digest = hashlib.sha256("".join(row.positive for row in file).encode()).digest()
        for ordinal, row in enumerate(file):
            start_line, end_line = row.origin.rpartition(":")[2].split("-")
            yield (
                row.unit,
                chunk_pb2.Chunk(
                    path=path,
                    language=row.language,
                    symbol=row.symbol,
                    kind="text",
                    start_line=int(start_line),
                    end_line=int(end_line),
                    content=row.positive.removeprefix(f"{row.symbol}\n"),
                    file_sha256=digest,
                    ordinal=ordinal,
                    file_chunk_count=len(file),
                ),
            )


def store(client: Client, codebase_id: str, rows: Sequence[Row]) -> dict[int, str]:
    """Store the definitions; their keys by chunk id."""
    client.create_codebase(codebase_id)
    definitions = list(chunks_of(rows))
    replies = client.index_chunks(codebase_id, (chunk for _, chunk in definitions), truncate=True)
    units = {(chunk.path, chunk.ordinal): unit for unit, chunk in definitions}
    unit_by_id: dict[int, str] = {}
    for chunk, reply in track(replies, "indexing", total=len(definitions), transient=True):
        if isinstance(reply, ClientError):
            raise RuntimeError(f"{chunk.path}, {chunk.symbol}: {reply}")
        unit_by_id[reply.chunk_id] = units[chunk.path, chunk.ordinal]
    return unit_by_id


def reciprocal_ranks(
    client: Client, codebase_id: str, queries: Sequence[Query], unit_by_id: dict[int, str], weight: float
) -> NDArray[np.float64]:
    """1 / rank of each query's definition, 0 where it is not among the first ten."""
    found = np.zeros(len(queries))
    for number, query in enumerate(track(queries, f"words {weight:g}", transient=True)):
        response = client.search(codebase_id, query.text, limit=10, lexical_weight=weight, truncate=True, unlogged=True)
        units = [unit_by_id[hit.chunk_id] for hit in response.hits]
        if query.unit in units:
            found[number] = 1 / (units.index(query.unit) + 1)
    return found


def measure(stack: Stack, split: str, rows: list[Row], count: int) -> dict[str, dict[str, float]]:
    """Figures by kind of query, and of all styles together (identifiers are asked besides)."""
    queries = queries_of(rows, count)
    with Client(stack.endpoint, api_key=stack.api_key, timeout_s=600) as client:
        unit_by_id = store(client, split, rows)
        ranks = {weight: reciprocal_ranks(client, split, queries, unit_by_id, weight) for weight in WEIGHTS}
    kinds = np.array([query.kind for query in queries])
    chosen = {kind: kinds == kind for kind in dict.fromkeys(kinds.tolist())}
    chosen["all styles"] = ~np.isin(kinds, ["identifier", "dotted identifier"])
    figures: dict[str, dict[str, float]] = {}
    for kind, which in chosen.items():
        figures[kind] = {"queries": int(which.sum())}
        for weight, found in ranks.items():
            gain = paired_interval(found[which], ranks[0.0][which])
            figures[kind] |= {
                f"mrr@10 {weight}": float(found[which].mean()),
                f"gain {weight} low": gain.low,
                f"gain {weight} high": gain.high,
            }
    print(f"{split}: {len(unit_by_id)} definitions, MRR@10 by weight of the words (gain over vectors alone at 95 %)")
    print(f"{'':<18}" + "".join(f"{weight:>8}" for weight in WEIGHTS))
    for kind, row in figures.items():
        print(f"{kind:<18}" + "".join(f"{row[f'mrr@10 {weight}']:>8.3f}" for weight in WEIGHTS), end="")
        low, high = (row[f"gain {LEXICAL_WEIGHT} {side}"] for side in ("low", "high"))
        print(f"   {LEXICAL_WEIGHT}: {low:+.3f} to {high:+.3f}   ({row['queries']} queries)", flush=True)
    return figures


async def run(data: Path, count: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="duovec-bench-") as name:
        os.chmod(name, 0o755)  # noqa: PTH101 - PostgreSQL's account must be able to enter
        settings = StackSettings(data_dir=Path(name) / "stack", model_repository=REPOSITORY, listen="127.0.0.1:0")
        async with Stack(settings) as stack:
            return {
                split: await asyncio.to_thread(measure, stack, split, load_rows(data, split), count)
                for split in ("dev", "test")
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of a mined set")
    parser.add_argument("--queries", type=int, default=600, help="queries of a split, evenly over its styles")
    arguments = parser.parse_args()
    keep("hybrid", rounded({"splits": asyncio.run(run(arguments.data, arguments.queries))}))


if __name__ == "__main__":
    main()
