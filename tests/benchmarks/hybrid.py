"""What words beside vectors find: MRR@10 by their share of the score, of queries whose packages nobody trained on.

    python -m tests.benchmarks.hybrid DATA [--split dev] [--limit 600]

DATA is a set that `duovec-train mine` made. Every definition of the split is a chunk of one codebase in a stack of the
benchmark's own, with the published compact pair; queries are drawn evenly over the styles, names shown, as who searches
sees them. The default is to be chosen on `dev` and believed on `test`. Prints a table and one JSON line, kept in
results/hybrid.json.
"""

import argparse
import asyncio
import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from duovec.v1 import chunk_pb2
from gateway.client.client import Client
from gateway.client.errors import ClientError
from gateway.local.stack import Stack, StackSettings
from gateway.store.search_words import LEXICAL_WEIGHT
from tests.benchmarks.keeping import keep, kept, rounded
from training.dataset import Row, load_rows
from training.evaluation.bootstrap import paired_interval
from training.evaluation.questions import draw_rows

ROOT = Path(__file__).parents[2]
REPOSITORY = ROOT / ".duovec" / "model_repository"
WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 1.0)


def answers(rows: Sequence[Row]) -> dict[str, Row]:
    """A row of each definition, by the id of the definition."""
    by_unit: dict[str, Row] = {}
    for row in rows:
        by_unit.setdefault(row.unit or row.positive, row)
    return by_unit


def chunks(by_unit: dict[str, Row]) -> Iterator[chunk_pb2.Chunk]:
    """Each definition as a chunk of a file of its own, whose path says nothing: a path would give the answer away."""
    for number, row in enumerate(by_unit.values()):
        content = row.positive.partition("\n")[2]
        yield chunk_pb2.Chunk(
            path=f"{number}",
            language=row.language,
            symbol=row.symbol,
            kind="function",
            start_line=1,
            end_line=content.count("\n") + 1,
            content=content,
            file_sha256=hashlib.sha256(content.encode()).digest(),
            ordinal=0,
            file_chunk_count=1,
        )


def reciprocal_ranks(
    client: Client, asked: Sequence[Row], numbers: dict[str, int], weight: float
) -> NDArray[np.float64]:
    """Of each query 1 / the rank of its definition among ten hits, 0 where it is not there."""
    found = np.zeros(len(asked))
    for place, row in enumerate(track(asked, f"words {weight:g}", transient=True)):
        response = client.search("code", row.query, limit=10, truncate=True, lexical_weight=weight)
        paths = [hit.chunk.path for hit in response.hits]
        number = str(numbers[row.unit or row.positive])
        if number in paths:
            found[place] = 1 / (paths.index(number) + 1)
    return found


def measure(client: Client, rows: Sequence[Row], limit: int) -> dict[str, object]:
    """Index the definitions, ask, and give the figures."""
    by_unit = answers(rows)
    numbers = {unit: number for number, unit in enumerate(by_unit)}
    asked = draw_rows(rows, limit, seed=0)
    client.create_codebase("code")
    stored = client.index_chunks("code", chunks(by_unit), truncate=True)
    for chunk, reply in track(stored, "indexing", total=len(by_unit), transient=True):
        if isinstance(reply, ClientError):
            raise RuntimeError(f"{chunk.symbol}: {reply}")
    styles = np.array([row.style for row in asked])
    found = {weight: reciprocal_ranks(client, asked, numbers, weight) for weight in WEIGHTS}
    names = sorted(set(styles.tolist()))
    print(
        f"{'words':>6} {'all':>7} {'R@10':>7} " + " ".join(f"{name:>10}" for name in names) + "   against vectors alone"
    )
    figures = []
    for weight, ranks in found.items():
        interval = paired_interval(ranks, found[0.0])
        by_style = {name: float(ranks[styles == name].mean()) for name in names}
        figures.append(
            {
                "lexical_weight": weight,
                "mrr": float(ranks.mean()),
                "recall": float((ranks > 0).mean()),
                "styles": by_style,
                "against_vectors": [interval.low, interval.high],
            }
        )
        mark = "  default" if weight == LEXICAL_WEIGHT else ""
        print(
            f"{weight:6.1f} {ranks.mean():7.3f} {(ranks > 0).mean():7.3f} "
            + " ".join(f"{by_style[name]:10.3f}" for name in names)
            + f"   {interval.low:+.3f} to {interval.high:+.3f}{mark}"
        )
    return {"queries": len(asked), "definitions": len(by_unit), "weights": [rounded(one) for one in figures]}


async def main() -> None:
    """Run against a stack of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="dev", choices=["dev", "test"])
    parser.add_argument("--limit", type=int, default=600)
    arguments = parser.parse_args()
    rows = load_rows(arguments.data, arguments.split)
    with tempfile.TemporaryDirectory(prefix="duovec-bench-") as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101 - PostgreSQL's account must be able to enter
        settings = StackSettings(data_dir=Path(folder), model_repository=REPOSITORY, listen="127.0.0.1:0")
        async with Stack(settings) as stack:
            with Client(stack.endpoint, api_key=stack.api_key, timeout_s=600) as client:
                figures = await asyncio.to_thread(measure, client, rows, arguments.limit)
    splits = kept("hybrid").get("splits", {}) | {arguments.split: figures}
    keep("hybrid", {"splits": splits})


if __name__ == "__main__":
    asyncio.run(main())
