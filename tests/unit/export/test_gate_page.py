"""The report for people: a page that needs nothing else, and a table."""

import dataclasses
import io
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from export.gate.checks import checks_of, failures_of
from export.gate.metrics import Cosines
from export.gate.page import write_page
from export.gate.report import (
    GateReport,
    InvarianceResult,
    Quality,
    QueryResult,
    RetrievalResult,
    ShapeResult,
    Tolerance,
)
from export.gate.table import gate_table
from export.gate.tolerances import TOLERANCES
from export.serving import Precision


def cosines(largest: float) -> Cosines:
    """Distances up to `largest`."""
    distances = tuple(largest * share for share in (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0))
    return Cosines(1.0 - largest, 1.0 - largest / 2, distances)


@pytest.fixture
def report() -> GateReport:
    """One that fails at its second shape, and whose worst query holds HTML."""
    shapes = (ShapeResult(1, 16, cosines(2e-5), 1e-4, 1e-7), ShapeResult(32, 16, cosines(4e-3), 1e-2, 1e-7))
    retrieval = RetrievalResult(
        pairs=200,
        overlap_at_10=0.991,
        reference=Quality(0.7895, 0.8276, (140, 31, 18, 11)),
        exported=Quality(0.7881, 0.8260, (139, 32, 18, 11)),
        queries=cosines(3e-5),
        passages=cosines(5e-5),
        worst=(QueryResult("Return <b>bold</b> & more", "html.escape", 1, 3, 0.9),),
    )
    made = GateReport(
        encoder="compact-text",
        runtime="openvino",
        precision="bf16",
        pruned=False,
        reference="transformers 5",
        tolerance=TOLERANCES[Precision.BF16],
        buckets=(16,),
        skipped_buckets=(4096,),
        compared_texts=433,
        shapes=shapes,
        invariance=InvarianceResult(64, 128, 2e-5, 92),
        retrieval=retrieval,
        seconds=12.3,
    )
    return dataclasses.replace(made, failures=failures_of(made))


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(path: Path) -> _Reader:
    """Parse a page, which must be well formed."""
    reader = _Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    assert reader.open == []
    return reader


def test_page_needs_nothing_else_and_shows_every_figure(report: GateReport, tmp_path: Path) -> None:
    """No script, nothing fetched; verdict, tolerances, both models and the worst query, as text."""
    write_page([report], tmp_path / "page.html")
    page = read(tmp_path / "page.html")
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert not {"src", "href", "onclick"} & {name for name, _ in page.attributes}
    assert "url(" not in page.text and "@import" not in page.text
    assert "prefers-color-scheme: dark" in page.text
    for words in ("compact-text in openvino bf16: failed", "0.7895", "0.7881", "≥ 0.999", "0.996000", "is out"):
        assert words in page.text
    assert "Return <b>bold</b> & more" in page.text  # shown as text, not as markup
    assert "b" not in page.tags
    assert "Not run: 4096 tokens" in page.text
    assert report.failures[0] in page.text


@pytest.mark.parametrize(
    ("limit", "out"),
    [
        ({"min_cosine": 0.9999}, "cosine to fp32 torch, least of any row"),
        ({"mean_cosine": 0.9999}, "cosine to fp32 torch, mean at the worst shape"),
        ({"max_norm_error": 1e-8}, "deviation of a norm from 1"),
        ({"max_batch_distance": 1e-6}, "cosine distance of a row alone and among 63 others"),
        ({"min_overlap": 0.995}, "top-10 overlap over 200 queries"),
        ({"max_mrr_loss": 0.001}, "MRR@10, reference → exported"),
        ({"max_ndcg_loss": 0.001}, "nDCG@10, reference → exported"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_shown_as_out_is_what_decides(report: GateReport, limit: dict[str, float], out: str) -> None:
    """A table all green under a verdict that refuses, or the other way round, would send people looking."""
    loose = Tolerance(0.9, 0.9, 1e-2, 1e-2, 0.9, 0.1, 0.1)
    fine = dataclasses.replace(report, tolerance=loose)
    assert failures_of(fine) == ()
    assert all(check.holds for check in checks_of(fine))
    refused = dataclasses.replace(report, tolerance=dataclasses.replace(loose, **limit))
    (check,) = [check for check in checks_of(refused) if not check.holds]
    assert check.name == out
    assert failures_of(refused) == check.faults != ()


def test_boxes_stand_where_the_distances_are(report: GateReport, tmp_path: Path) -> None:
    """A decade is as wide as the next: the second shape's box is log10(4e-3 / 2e-5) decades to the right."""
    write_page([report], tmp_path / "page.html")
    svg = (tmp_path / "page.html").read_text().split("<svg")[1]
    decades = {int(label): float(x) for x, label in re.findall(r'class="tick" x="([\d.]+)"[^>]*>1e(-?\d+)<', svg)}
    ends = [float(x) for x in re.findall(r'class="whisker" x1="[\d.]+" x2="([\d.]+)"', svg)]
    width = (decades[-2] - decades[-5]) / 3
    assert ends[1] - ends[0] == pytest.approx(width * math.log10(4e-3 / 2e-5), abs=0.2)
    limit = float(re.findall(r'class="limit" x1="([\d.]+)"', svg)[0])
    assert limit == pytest.approx(decades[-3], abs=0.2)


def test_numbers_that_are_none_are_shown_as_such(report: GateReport, tmp_path: Path) -> None:
    """A page of a broken model is still a page, and says what is broken."""
    nan = Cosines(math.nan, math.nan, (math.nan,) * 7)
    broken = dataclasses.replace(
        report,
        shapes=tuple(dataclasses.replace(shape, cosines=nan) for shape in report.shapes),
        retrieval=dataclasses.replace(
            report.retrieval, queries=nan, passages=nan, exported=Quality(math.nan, math.nan, (0, 0, 0, 200))
        ),
    )
    write_page([broken], tmp_path / "page.html")
    page = read(tmp_path / "page.html")
    assert page.text.count("not a number") == 4
    assert 'x="nan"' not in (tmp_path / "page.html").read_text()


def test_table_shows_verdict_limits_and_shapes(report: GateReport) -> None:
    """What `verify` prints."""
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(gate_table([report]))
    text = console.export_text()
    assert "compact-text in openvino bf16: FAILED" in text
    assert re.search(r"cosine to fp32 torch, least of any row\s+│\s+0\.996000\s+│\s+≥ 0\.999\s+│\s+out", text)
    assert re.search(r"top-10 overlap over 200 queries\s+│\s+0\.991\s+│\s+≥ 0\.98\s+│\s+ok", text)
    assert re.search(r"32\s+16\s+0\.9960000\s+0\.9980000\s+1\.0e-02", text)
    assert "not run: 4096 tokens" in text
