"""How far the encoders are from the hardware: FLOP/s beside those of their matrix products alone; a table, a JSON line.

Usage: python -m tests.benchmarks.flops [--repository .duovec/model_repository] [--quick]
Keeps the figures in results/flops.json; --quick only shows that it runs, and keeps nothing.

Counted are matrix products only, two operations for each multiplication: linear layers with their adapters, attention's
scores and mixtures, the head. Everything else, such as softmax, norms, GELU and the tokens' embeddings, takes time and
counts nothing. *Real* counts the texts' tokens, *padded* what the micro-batches compute. Beside it run the very same
products of the very same micro-batches, in the same precision with the same threads, and nothing between them: compiled
by OpenVINO, and by torch's oneDNN; the faster one of each kind of product counts. And one large square product.
"""

import argparse
import asyncio
import functools
import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer as HubTokenizer

from export.python_backend.host import group_by_length, padded_width
from export.spec import load_builtin
from gateway.embedding.space import Encoder, Space
from tests.benchmarks.flops_products import KINDS, Batch, OpenVinoProducts, Products, TorchProducts, products_of
from tests.benchmarks.keeping import keep, rounded
from tests.benchmarks.peers import ENCODERS, ROOT, scenarios
from tests.benchmarks.throughput import THREADS, Bound, seconds

SQUARE = 2048


def libraries_of(products: Products, dtype: torch.dtype, precision: str) -> dict[str, OpenVinoProducts | TorchProducts]:
    """The products by each library."""
    return {
        "OpenVINO": OpenVinoProducts(products, precision, THREADS),
        "torch": TorchProducts(products, dtype),
    }


def square_flops_per_s(dtype: torch.dtype, precision: str) -> dict[str, float]:
    """A large square product by both libraries, best of five."""
    products = Products(1, ((SQUARE, SQUARE, 0),), 1, 1, (1, 1))
    left = [torch.randn(SQUARE, SQUARE).to(dtype)]
    found = {}
    for name, library in libraries_of(products, dtype, precision).items():
        run = functools.partial(library.run, "linear", left)
        run()
        found[name] = 2 * SQUARE**3 / min(seconds(run) for _ in range(5))
    return found


def micro_batches(encoder: Encoder, lengths_B: Any) -> list[Batch]:
    """What the Python backend makes of rows of these lengths."""
    return [
        (len(group), min(padded_width(int(lengths_B[group[-1]])), encoder.max_tokens))
        for group in group_by_length(lengths_B, encoder.token_budget)
    ]


def measure(
    bound: Bound, encoders: Sequence[Encoder], texts: list[str], rounds: int, dtype: torch.dtype, precision: str
) -> dict[str, Any]:
    """Both encoders on these texts, and their products alone, in turns; medians."""
    rows = asyncio.run(bound.rows(texts))
    work = []
    real = padded = 0
    for encoder, one in zip(encoders, rows, strict=True):
        products = products_of(load_builtin(encoder.name))
        batches = micro_batches(encoder, one.lengths)
        inputs = {batch: products.inputs(batch, dtype) for batch in set(batches)}
        libraries = libraries_of(products, dtype, precision)
        work.append((batches, inputs, libraries))
        padded += sum(sum(products.flops(batch).values()) for batch in batches)
        real += sum(sum(products.flops((1, length)).values()) for length in one.lengths.tolist())

    def alone(library: str, kind: str) -> None:
        for batches, inputs, libraries in work:
            for batch in batches:
                libraries[library].run(kind, inputs[batch][kind])

    taken: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        # The first round compiles for the shapes, and is not counted.
        ways: Mapping[str, Callable[[], None]] = {"encoders": functools.partial(bound.in_turns, rows)} | {
            f"{library}, {kind}": functools.partial(alone, library, kind)
            for library in ("OpenVINO", "torch")
            for kind in KINDS
        }
        for name, way in ways.items():
            spent = seconds(way)
            if number:
                taken.setdefault(name, []).append(spent)
    medians = {name: statistics.median(times) for name, times in taken.items()}
    products_s = sum(min(medians[f"OpenVINO, {kind}"], medians[f"torch, {kind}"]) for kind in KINDS)
    return {
        "texts": len(texts),
        "tokens a text": float(rows[0].lengths.mean()),
        "encoders, real GFLOP/s": real / medians["encoders"] / 1e9,
        "encoders, padded GFLOP/s": padded / medians["encoders"] / 1e9,
        "products alone, padded GFLOP/s": padded / products_s / 1e9,
        "encoders / products alone": products_s / medians["encoders"],
        "seconds": {name: round(median, 4) for name, median in medians.items()},
    }


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repository", type=Path, default=ROOT / ".duovec" / "model_repository")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    space = Space.load(options.repository, code_encoder=ENCODERS[0], text_encoder=ENCODERS[1])
    encoders = (space.code, space.text)
    published = {json.loads((encoder.folder / "manifest.json").read_bytes())["precision"] for encoder in encoders}
    assert len(published) == 1, f"the encoders differ in their precision: {published}"
    precision, dtype = ("bf16", torch.bfloat16) if published == {"bf16"} else ("f32", torch.float32)
    bound = Bound(space)
    tokenizer = HubTokenizer.from_file(str(space.code.tokenizer_path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    texts = scenarios(tokenizer, 24 if options.quick else 200, 1, 16 if options.quick else 1)[0]
    square = square_flops_per_s(dtype, precision)
    found = {}
    for scenario, those in texts.items():
        found[scenario] = measure(bound, encoders, those, 1 if options.quick else 3, dtype, precision)
        print(f"{scenario}: {found[scenario]['seconds']}", file=sys.stderr)
    best = max(square.values())
    print(f"{'GFLOP/s in ' + precision:<34}" + "".join(f"{scenario:>14}" for scenario in texts))
    for name in ("encoders, real GFLOP/s", "encoders, padded GFLOP/s", "products alone, padded GFLOP/s"):
        print(f"{name.removesuffix(' GFLOP/s'):<34}" + "".join(f"{one[name]:>14.1f}" for one in found.values()))
    print(
        f"{'encoders / products alone':<34}"
        + "".join(f"{one['encoders / products alone']:>14.2f}" for one in found.values())
    )
    print(
        f"one product of {SQUARE} × {SQUARE}: " + ", ".join(f"{name} {rate / 1e9:.1f}" for name, rate in square.items())
    )
    for one in found.values():
        one["encoders, padded / square product"] = one["encoders, padded GFLOP/s"] * 1e9 / best
    document = {
        "precision": precision,
        "threads": THREADS,
        "square product, GFLOP/s": {name: round(rate / 1e9, 1) for name, rate in square.items()},
        "figures": rounded(found),
    }
    keep("flops", document, only_print=options.quick)


if __name__ == "__main__":
    main()
