"""The page of quality: it needs nothing else, and its marks stand where the figures are."""

import re
from datetime import date
from html.parser import HTMLParser
from pathlib import Path

import pytest

from gateway.cli.quality_charts import Series, bar_chart, line_chart
from gateway.cli.quality_page import write_page

from .quality_rows import make_row

WEEKS = [date(2026, 9, 7), date(2026, 9, 14), date(2026, 9, 21), date(2026, 9, 28)]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

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


def test_the_page_needs_nothing_else_and_shows_every_figure(tmp_path: Path) -> None:
    """No script, nothing fetched; a section a codebase, and what others named their codebase is text."""
    rows = [
        make_row(0, ""),
        make_row(0, "<b>demo</b>", judged_count=40, mrr=0.6125, ndcg_at_10=0.7125, click_through_at_3=0.305),
        make_row(3, "<b>demo</b>", search_count=1234, query_drift=0.0123),
    ]
    write_page(rows, 12, tmp_path / "page.html")
    page = read(tmp_path / "page.html")
    assert not {"script", "link", "img", "iframe", "b"} & set(page.tags)
    assert not {"src", "href", "onclick", "style"} & set(page.attributes)
    assert "url(" not in page.text and "@import" not in page.text
    assert "prefers-color-scheme: dark" in page.text
    for words in (
        "All codebases together",
        "<b>demo</b>",
        "0.613",
        "0.713",
        "30.5%",
        "1,234",
        "0.0123",
        "log2(rank + 1)",
    ):
        assert words in page.text, words
    assert page.tags.count("svg") == 2 * 5


def points(svg: str, style: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(rf'class="dot {style}" cx="([\d.]+)" cy="([\d.]+)"', svg)]


def ticks(svg: str) -> dict[float, float]:
    """Heights of the labels on the vertical axis, at the middle of their text."""
    found = re.findall(r'class="tick" x="41" y="([\d.]+)" text-anchor="end">(-?[\d.,]+)(%?)<', svg)
    return {float(label.replace(",", "")) / (100 if percent else 1): float(y) - 4 for y, label, percent in found}


@pytest.mark.parametrize(
    ("values", "form"),
    [([0.2, None, 0.37, 1.0], "{:.2f}"), ([0.004, 0.019, -0.003, None], "{:.3f}"), ([0.01, 0.02, 0.08, 0.1], "{:.0%}")],
)
def test_lines_run_through_the_figures_and_break_where_there_is_none(values: list[float | None], form: str) -> None:
    """By the labels of the axis, which are what they say: each is a multiple of one step."""
    svg = line_chart("x", WEEKS, [Series("s", "one", values)], form, least_top=0.01)
    known = [value for value in values if value is not None]
    at = ticks(svg)
    low, high = min(at), max(at)
    scale = (at[high] - at[low]) / (high - low)
    assert low <= min(known) and max(known) <= high
    assert [at[label] for label in at] == pytest.approx([at[low] + (label - low) * scale for label in at], abs=0.2)
    heights = [y for _, y in points(svg, "one")]
    assert heights == pytest.approx([at[low] + (value - low) * scale for value in known], abs=0.2)
    lines = re.findall(r'<polyline class="line one" points="([^"]+)"', svg)
    gap = values.index(None) if None in values else len(values)
    expected = [run for run in (known[:gap], known[gap:]) if len(run) > 1]
    assert [len(line.split()) for line in lines] == [len(run) for run in expected]


def test_bars_are_as_high_as_the_counts_and_stand_on_each_other() -> None:
    svg = bar_chart("x", WEEKS, [Series("a", "one", [30, 0, None, 10]), Series("b", "rest", [70, 20, None, 0])])
    at = ticks(svg)
    unit = (at[0] - at[max(at)]) / max(at)
    bars = re.findall(r'class="bar (\w+)" x="([\d.]+)" y="([\d.]+)" width="[\d.]+" height="([\d.]+)"', svg)
    sizes = [(style, round(float(height) / unit)) for style, _, _, height in bars]
    assert sizes == [("one", 30), ("rest", 70), ("rest", 20), ("one", 10)]
    # The second stands on the first, of the same week.
    assert bars[0][1] == bars[1][1]
    assert float(bars[1][2]) + float(bars[1][3]) == pytest.approx(float(bars[0][2]), abs=0.2)


def test_weeks_without_a_search_have_their_place(tmp_path: Path) -> None:
    """Three weeks apart is three times as far as one."""
    write_page([make_row(0), make_row(1), make_row(4)], 12, tmp_path / "page.html")
    svg = (tmp_path / "page.html").read_text().split("<svg")[2]
    xs = [x for x, _ in points(svg, "strong")]
    assert xs[2] - xs[1] == pytest.approx(3 * (xs[1] - xs[0]), abs=0.2)
