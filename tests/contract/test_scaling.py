"""deploy/SCALING.md quotes what was measured, and its arithmetic is right."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gateway.store.search_plan import Counts, Method, Plan, most_compared

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "deploy" / "SCALING.md").read_text(encoding="utf-8")
COUNTS = {"10 million": 10_000_000, "100 million": 100_000_000, "1 billion": 1_000_000_000}


def result(name: str) -> dict[str, Any]:
    """What a benchmark wrote."""
    found: dict[str, Any] = json.loads((ROOT / "tests/benchmarks/results" / f"{name}.json").read_text(encoding="utf-8"))
    return found


def row(first: str, *, table: int = 0) -> list[str]:
    """The cells after the first of a table's row, without emphasis."""
    (*lines,) = re.findall(rf"^\| {re.escape(first)} \|(.*)\|$", TEXT, re.MULTILINE)
    return [cell.strip(" *") for cell in lines[table].split("|")]


def number(cell: str) -> float:
    """The first number of a cell, of bytes in GB."""
    found = float(re.findall(r"[\d.,]+", cell)[0].replace(",", ""))
    return found * 1000 if " TB" in cell else found


STORED = result("storage")["figures"]
(MILLION,) = [run for run in result("search")["runs"] if run["rows"] == 1_000_000]
VECTOR = STORED["embeddings_s1, table"] + STORED["embeddings_s1, indexes"]
WORDS = STORED["chunk_words, table"] + STORED["chunk_words, indexes"]
CHUNK = STORED["chunks, table"] + STORED["chunks, indexes"]
SIGNS = MILLION["binary_mib"] * 2**20 / 1_000_000


def test_bytes_of_a_chunk_are_those_that_were_measured() -> None:
    """By table, and their sum."""
    assert number(row("its vector, 2,560 half floats, one to a page of 8 kB")[0]) == pytest.approx(VECTOR, rel=0.05)
    assert number(row("its words and their index")[0]) == pytest.approx(WORDS, rel=0.05)
    assert number(row("its text, path, lines, digests")[0]) == pytest.approx(CHUNK, rel=0.05)
    assert number(row("its place in the index over signs")[0]) == pytest.approx(SIGNS, rel=0.05)
    assert number(row("on disk")[0]) == pytest.approx((VECTOR + WORDS + CHUNK + SIGNS) / 1000, rel=0.05)
    assert f"{round(STORED['characters a chunk'])} characters" in TEXT


def test_chunks_are_stored_as_fast_as_was_measured() -> None:
    """From the slowest size to the fastest."""
    rates = [run["store_rows_per_s"] for run in result("search")["runs"]]
    slowest, fastest = re.findall(r"[\d,]+", row("stored as the indexer does")[0])
    assert number(slowest) == pytest.approx(min(rates), rel=0.02)
    assert number(fastest) == pytest.approx(max(rates), rel=0.02)


def test_search_is_as_it_was_measured() -> None:
    """At a million; a run of the benchmark differs from the one before by more than by rounding."""
    (line,) = re.findall(r"^Measured at a million.*?\n\n", TEXT, re.MULTILINE | re.DOTALL)
    recall, one_ms, sixteen_ms, build_s = (float(figure) for figure in re.findall(r"\*\*(\d[\d.]*)", line))
    assert recall == pytest.approx(MILLION["binary_recall_mean"], abs=0.02)
    assert one_ms == pytest.approx(MILLION["binary_1_p50_ms"], rel=0.5)
    assert sixteen_ms == pytest.approx(MILLION["binary_16_p50_ms"], rel=0.5)
    assert build_s == pytest.approx(MILLION["binary_build_s"], rel=0.5)
    assert float(re.findall(r"which is \*(\d+)\*", line)[0]) == pytest.approx(16_000 / sixteen_ms, abs=0.5)


def test_what_is_compared_whole_takes_as_long_as_it_was_measured() -> None:
    """Up to the counts that the plan of a search comes to; most codebases of a cell are such parts of it."""
    (text,) = re.findall(r"So is what a filter leaves.*?\n\n", TEXT, re.DOTALL)

    def most(in_space: int, pool: int) -> int:
        counts = Counts(searched=1, matching=None, in_space=in_space, has_hnsw=False, has_binary=True)
        return most_compared(Plan(Method.BINARY, pool), counts)

    limits = [most(100_000, 100), most(1_000_000, 1000), most(10_000_000, 1000)]
    told = re.findall(r"([\d,]+) (?:chunks )?of\s(?:100,000|a million|10 million)", text)
    assert [number(one) for one in told] == [pytest.approx(limit, rel=0.01) for limit in limits]
    million_s, sixteen_s = (float(figure) for figure in re.findall(r"\*\*([\d.]+) s\*\*", text))
    assert million_s == pytest.approx(MILLION["exact_1_p50_ms"] / 1000, rel=0.05)
    assert sixteen_s == pytest.approx(MILLION["binary_narrow_16_p50_ms"] / 1000, rel=0.05)
    largest_s, in_cell_s, a_second, in_cell_a_second = (
        float(figure) for figure in re.findall(r"(?<!\*)\*([\d.]+)(?: s)?\*(?!\*)", text)
    )
    assert largest_s == pytest.approx(million_s * limits[1] / 1e6, abs=0.05)
    assert in_cell_s == pytest.approx(million_s * limits[2] / 1e6, abs=0.05)
    assert a_second == pytest.approx(16 / sixteen_s, abs=0.5)
    assert in_cell_a_second == pytest.approx(a_second * limits[1] / limits[2], abs=0.5)


@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_disks_and_memory_are_the_count_times_the_bytes(name: str, count: int) -> None:
    """To two digits."""
    expected = (VECTOR + WORDS + CHUNK + SIGNS, VECTOR + SIGNS, SIGNS, 1290)
    for cell, size_bytes in zip(row(name, table=1), expected, strict=True):
        assert number(cell) == pytest.approx(size_bytes * count / 1e9, rel=0.04), cell


@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_hours_are_the_count_over_the_rate(name: str, count: int) -> None:
    """Of 40 chunks a second and core, and of the assumed share of the data sheets."""
    gflop = 137 * 2 * (1.31 + 0.30)
    rates = (40, 0.4 * 989e3 / gflop, 0.4 * 121e3 / gflop)
    for cell, rate in zip(row(name), rates, strict=True):
        assert number(cell) == pytest.approx(count / rate / 3600, rel=0.02), cell
