"""The page of benchmarks, from what they wrote: `tests/benchmarks/results`."""

import ast
import json
import re
from pathlib import Path
from typing import Any

from markdown_tables import table

RESULTS = Path(__file__).parents[2] / "tests" / "benchmarks" / "results"
_NATURAL = "natural"
# How the results name a way, and how the page does.
_WAYS = {
    "bound": "the encoders alone, without gateway and Triton",
    "StreamEmbed": "duovec, `StreamEmbed`",
    "bound int8": "int8-bf16 encoders alone",
    "StreamEmbed int8": "duovec with int8-bf16 encoders, `StreamEmbed`",
    "sentence-transformers": "sentence-transformers, fp32",
    "sentence-transformers bf16": "sentence-transformers, bf16",
    "infinity torch": "infinity, torch",
    "infinity ONNX": "infinity, ONNX",
}
_SHOWN = {"peers", "search", "export", "cache", "storage", "flops"}
_METHODS = {"exact": "every vector", "hnsw": "HNSW over half floats", "binary": "HNSW over signs"}
_INTRODUCTION = """# Benchmarks

Every figure below was written by a program of `tests/benchmarks` into `tests/benchmarks/results`, on machines with
two cores and no GPU, and this page is made from those files. Such machines differ in speed by half: only figures of one
table belong together. `make bench` measures again, but for {by_hand}:
these are run by `python -m tests.benchmarks.NAME`. Nothing was measured on a GPU, nor with Qodo-Embed-1-1.5B and
jina-embeddings-v3: the encoders are the compact pair. Measurements that decided something stand, with their tables, in
[the decisions](project/decisions.md).
"""


def benchmark_page() -> str:
    """The page."""
    others = [
        part
        for name in sorted(path.stem for path in RESULTS.glob("*.json"))
        if name not in _SHOWN
        for part in _other(name)
    ]
    return "\n".join(
        [
            _INTRODUCTION.format(by_hand=_by_hand()),
            "## Embedding, beside others\n",
            _setting("peers"),
            embedding_table(),
            _VERSIONS.format(versions=_versions(), **_least_cosines()),
            ratio_table(),
            "## Search by number of vectors\n",
            _setting("search"),
            _SEARCH.format(real_rows=max(run["real_rows"] for run in _result("search")["runs"])),
            search_table(),
            _BUILDING,
            building_table(),
            "## Runtimes and precisions of one encoder\n",
            _setting("export"),
            _EXPORT.format(**_result("export")),
            export_table(),
            "## The embedding cache\n",
            _setting("cache"),
            cache_table(),
            "## Bytes of a stored chunk\n",
            _setting("storage"),
            _STORAGE.format(**{"chunks": _result("storage")["figures"]["chunks"]}),
            storage_table(),
            "## How much of the machine the encoders use\n",
            _setting("flops"),
            _FLOPS.format(**_result("flops")["square product, GFLOP/s"]),
            flops_table(),
            *others,
        ]
    )


_VERSIONS = """
Texts a second through both encoders, medians of several rounds. Everybody ran the same checkpoints; the least cosine
between another's vectors and ours was {cosine:.4f}. Of {precision} encoders it was {int8:.4f}: their speed is not
compared with others'. {versions}.

How many times as fast duovec was; below 1 it was slower:
"""
_SEARCH = """Through the store, without encoding: {real_rows:,} vectors of real code, and beyond those near copies of
them. Recall@10 is against comparing all vectors. *Wide* and *narrow* have a filter that lets many or few chunks pass;
*words* ranks by words, too. A dash was not measured.
"""
_BUILDING = """
What the indexes take, and how fast vectors are stored:
"""
_EXPORT = """`{encoder}`, {threads} threads, tokens a second by length of the rows, and what the export's gate found
against torch in fp32.
"""
_STORAGE = """Averages of {chunks:,} chunks.
"""
_FLOPS = """One product of 2048 × 2048 in bf16 reaches {OpenVINO:.0f} GFLOP/s on two threads.
"""


def _by_hand() -> str:
    """What has results, and is not run by `make bench`."""
    makefile = (RESULTS.parents[2] / "Makefile").read_text(encoding="utf-8")
    run = set(re.findall(r"-m tests\.benchmarks\.(\w+)", makefile))
    *others, last = (f"`{path.stem}`" for path in sorted(RESULTS.glob("*.json")) if path.stem not in run)
    return f"{', '.join(others)} and {last}"


def _result(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def _setting(name: str) -> str:
    """Which program measured, and on what: load is that of other programs, before it began."""
    machine = _result(name)["machine"]
    told = [f"{machine['processors']} cores"]
    told += [machine[key] for key in ("machine",) if key in machine]
    told += [f"bf16 by {' and '.join(machine[key])}" for key in ("bf16 by",) if machine.get(key)]
    told += [f"Python {machine[key]}" for key in ("python",) if key in machine]
    told += [f"load before {machine[key]}" for key in ("load average before",) if key in machine]
    return f"`tests/benchmarks/{name}.py`; {', '.join(told)}.\n"


def _other(name: str) -> list[str]:
    """A benchmark that has no table of its own: its figures as they are."""
    source = (RESULTS.parent / f"{name}.py").read_text(encoding="utf-8")
    what = (ast.get_docstring(ast.parse(source)) or name).splitlines()[0]
    document = {key: value for key, value in _result(name).items() if key != "machine"}
    figures = document.pop("figures", {})
    parts = [f"## {name.replace('_', ' ').capitalize()}\n", f"{what}\n", _setting(name)]
    if figures and all(isinstance(value, dict) for value in figures.values()):
        columns = list(dict.fromkeys(column for row in figures.values() for column in row))
        parts.append(
            table(["", *columns], [[key, *(_cell(row.get(one)) for one in columns)] for key, row in figures.items()])
        )
        figures = {}
    rows = [[str(key), _cell(value)] for key, value in {**document, **figures}.items()]
    return [*parts, table(["Figure", "Value"], rows)] if rows else parts


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_cell(one)}" for key, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(_cell, value))
    return f"{value:,}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _versions() -> str:
    ways = _result("peers")["ways"]
    told = []
    for name, label in _WAYS.items():
        versions = ways[name].get("versions", {})
        if versions:
            told.append(f"{label}: " + ", ".join(f"{package} {version}" for package, version in versions.items()))
    return "; ".join(told)


def embedding_table() -> str:
    """Texts a second, by way and length."""
    ways = _result("peers")["ways"]
    rows = [[label, *map(_rate, ways[name]["texts/s"].values())] for name, label in _WAYS.items()]
    return table(["", *_lengths()], rows)


def _lengths() -> list[str]:
    """How long the texts were."""
    bound = _result("peers")["ways"]["bound"]
    natural = bound["tokens/s"][_NATURAL] / bound["texts/s"][_NATURAL]
    return [f"real code, {natural:.0f} tokens on average" if name == _NATURAL else name for name in bound["texts/s"]]


def ratio_table() -> str:
    """How many times as many texts `StreamEmbed` does, by way and length."""
    ways = _result("peers")["ways"]
    rows = [
        [f"than {label}", *(f"{ratio:.2f}" for ratio in ways[name]["StreamEmbed / it"].values())]
        for name, label in _WAYS.items()
        if "StreamEmbed / it" in ways[name]
    ]
    return table(["", *_lengths()], rows)


def _least_cosines() -> dict[str, Any]:
    """Between others' vectors and duovec's, and between those of int8 encoders and sentence-transformers'."""
    ways = _result("peers")["ways"]
    return {
        "cosine": min(float(way["least cosine"]) for way in ways.values() if "StreamEmbed / it" in way),
        "int8": float(ways["StreamEmbed int8"]["least cosine"]),
        "precision": ways["StreamEmbed int8"]["precision"],
    }


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def search_table() -> str:
    """Recall and milliseconds, by size and method."""
    rows = []
    for run in _result("search")["runs"]:
        for method, label in _METHODS.items():
            if f"{method}_1_p50_ms" not in run:
                continue
            rows.append(
                [
                    f"{run['rows']:,}",
                    label,
                    f"{run[f'{method}_recall_mean']:.3f}",
                    f"{run[f'{method}_recall_min']:.1f}",
                    *(_ms(run, f"{method}_{kind}") for kind in ("1", "16", "wide_1", "narrow_1", "hybrid_1")),
                ]
            )
    head = ["Vectors", "By", "Recall@10", "Least", "1 caller", "16 callers", "Wide", "Narrow", "Words"]
    return table([*head[:4], *(f"{name}: p50, p99 ms" for name in head[4:])], rows)


def _ms(run: dict[str, Any], prefix: str) -> str:
    if f"{prefix}_p50_ms" not in run:
        return "–"
    return f"{_short(run[f'{prefix}_p50_ms'])}, {_short(run[f'{prefix}_p99_ms'])}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 20 else f"{value:.1f}"


def building_table() -> str:
    """Sizes and rates, by size."""
    rows = [
        [
            f"{run['rows']:,}",
            *(
                f"{run[f'{m}_mib']:,.0f} MiB, {run[f'{m}_build_s']:,.0f} s" if f"{m}_mib" in run else "–"
                for m in ("hnsw", "binary")
            ),
            f"{run['store_rows_per_s']:,.0f}",
        ]
        for run in _result("search")["runs"]
    ]
    return table(["Vectors", "HNSW over half floats", "HNSW over signs", "Stored chunks a second"], rows)


def export_table() -> str:
    """Tokens a second and fidelity, by runtime and precision."""
    variants = _result("export")["variants"]
    lengths = list(variants[0]["tokens_per_s"])
    rows = [
        [
            f"{one['runtime']} {one['precision']}",
            *(f"{one['tokens_per_s'][length]:,}" for length in lengths),
            f"{one['min_cosine']:.4f}",
            f"{one['top10_overlap']:.3f}",
            f"{one['peak_mib']} MiB",
        ]
        for one in variants
    ]
    return table(["", *(f"{length} tokens" for length in lengths), "Least cosine", "Same top ten", "Peak"], rows)


def cache_table() -> str:
    """Milliseconds with and without it."""
    figures = _result("cache")["figures"]
    rows = [
        [name, *(f"{figures[f'{name}, {way}, ms']:,.1f} ms" for way in ("forward pass", "miss", "hit"))]
        for name in ("1 short text", "64 functions")
    ]
    return table(["", "By the encoders, no cache", "Miss", "Hit"], rows)


def storage_table() -> str:
    """Bytes, by table."""
    figures = _result("storage")["figures"]
    names = {"embeddings_s1": "vector", "chunk_words": "words", "chunks": "text and place"}
    rows = [
        [label, *(f"{figures[f'{name}, {part}']:,.0f}" for part in ("table", "indexes"))]
        for name, label in names.items()
    ]
    return table(["", "Table, bytes", "Indexes, bytes, without those over vectors"], rows)


def flops_table() -> str:
    """GFLOP/s, by length."""
    rows = [
        [
            f"real code, {figures['tokens a text']:.0f} tokens on average" if name == _NATURAL else name,
            *(
                f"{figures[key]:,.0f}"
                for key in ("encoders, real GFLOP/s", "encoders, padded GFLOP/s", "products alone, padded GFLOP/s")
            ),
        ]
        for name, figures in _result("flops")["figures"].items()
    ]
    return table(["", "Encoders, GFLOP/s", "With padding", "Their matrix products alone"], rows)
