"""Quality as one HTML page: no script, nothing fetched, charts inline, dark and light."""

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from html import escape
from itertools import groupby
from pathlib import Path

from duovec.v1.quality_service_pb2 import SearchQuality
from gateway.cli.quality_charts import Series, bar_chart, legend, line_chart

_STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1b1f24; --soft: #59636e; --line: #d9dee3; --grid: #e8ebee;
  --one: #0b6bcb; --two: #b35900; --strong: #084a8c; --middle: #3f8fdf; --weak: #9cc5ef; --rest: #c3cad2;
  --bad: #b42318; --card: #f6f8fa; }
@media (prefers-color-scheme: dark) { :root { --paper: #0f1419; --ink: #e6e9ec; --soft: #9aa5b1; --line: #303a44;
  --grid: #222b34; --one: #58a6ff; --two: #f0883e; --strong: #a5d0ff; --middle: #4a93e0; --weak: #2b5c92;
  --rest: #4a5561; --bad: #ff7b72; --card: #171e26; } }
body { background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; margin: 0 auto;
  max-width: 980px; padding: 24px 20px 64px; }
h1 { font-size: 24px; } h2 { font-size: 20px; margin-top: 44px; border-top: 1px solid var(--line); padding-top: 20px;
  overflow-wrap: anywhere; }
h3 { font-size: 15px; margin: 0; } p { margin: 6px 0; } .soft { color: var(--soft); font-size: 13px; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(340px, 1fr)); gap: 26px 32px; margin: 18px 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; margin: 10px 0; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 5px 0 5px 14px; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-weight: 600; } th:first-child, td:first-child { text-align: left; padding-left: 0; }
svg { width: 100%; height: auto; display: block; margin-top: 4px; }
svg text { font: 12px system-ui, sans-serif; } svg .tick { fill: var(--soft); } .grid { stroke: var(--grid); }
.line { fill: none; stroke-width: 2; } .dot { stroke: var(--paper); stroke-width: 1; }
.key { display: inline-block; width: 11px; height: 11px; border-radius: 2px; margin: 0 5px 0 12px; }
.key:first-child { margin-left: 0; }
.line.one { stroke: var(--one); } .dot.one, .bar.one { fill: var(--one); } .key.one { background: var(--one); }
.line.two { stroke: var(--two); } .dot.two { fill: var(--two); } .key.two { background: var(--two); }
.line.bad { stroke: var(--bad); } .dot.bad { fill: var(--bad); } .key.bad { background: var(--bad); }
.line.strong { stroke: var(--strong); } .dot.strong { fill: var(--strong); } .key.strong { background: var(--strong); }
.line.middle { stroke: var(--middle); } .dot.middle { fill: var(--middle); } .key.middle { background: var(--middle); }
.line.weak { stroke: var(--weak); } .dot.weak { fill: var(--weak); } .key.weak { background: var(--weak); }
.bar.rest { fill: var(--rest); } .key.rest { background: var(--rest); }
dt { font-weight: 600; margin-top: 10px; } dd { margin: 0; color: var(--soft); }
"""

_DEFINITIONS = (
    (
        "Searches",
        "Of a codebase those count that named it and showed a hit of it, or nothing at all; ranks are those among its "
        "hits. Weeks begin on Monday, 00:00 UTC. With feedback: something was said of one of the hits.",
    ),
    ("Click-through at k", "Share of all searches of which a hit at rank 1 to k was opened or found useful."),
    (
        "MRR",
        "Mean over the searches with feedback of 1 / rank of the first hit that was useful, or opened and not found "
        "useless; 0 without one.",
    ),
    (
        "nDCG@10",
        "Mean over the searches with feedback: a useful hit gains 2, an opened one 1, divided by log2(rank + 1), up to "
        "rank 10; 1 would be the best order of the hits with feedback.",
    ),
    (
        "Query drift",
        "Squared distance between the mean vectors of the week's queries and of those of the four weeks before, "
        "without what chance adds to it. It lies around 0 where nothing changed, and is at most 4.",
    ),
)


def write_page(rows: Sequence[SearchQuality], week_count: int, path: Path) -> None:
    """Write the page of some rows.

    Args:
        rows: By codebase and space.
        week_count: Weeks that were asked for.
        path: The file; replaced where there is one.

    Raises:
        OSError: The disk refuses.
    """
    groups = groupby(rows, lambda row: (row.codebase_id, row.space))
    body = "".join(_section(codebase_id, space, list(group)) for (codebase_id, space), group in groups)
    if not rows:
        body = "<p>No search was logged in this time.</p>"
    definitions = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in _DEFINITIONS)
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>duovec quality</title><style>{_STYLE}</style></head><body><h1>duovec quality</h1>"
        f'<p class="soft">The last {week_count} weeks, from the log of searches and the feedback on them.</p>'
        f"{body}<h2>What the figures are</h2><dl>{definitions}</dl></body></html>\n"
    )
    path.write_text(page, encoding="utf-8")


def _section(codebase_id: str, space: str, rows: Sequence[SearchQuality]) -> str:
    name = escape(codebase_id) if codebase_id else "All codebases together"
    searches = sum(row.search_count for row in rows)
    judged = sum(row.judged_count for row in rows)
    return (
        f'<h2>{name}</h2><p class="soft">Space {escape(space[:12])}. {searches:,} searches, {judged:,} of them with '
        f'feedback.</p><div class="charts">{_charts(rows)}</div><div class="wide">{_table(rows)}</div>'
    )


def _charts(rows: Sequence[SearchQuality]) -> str:
    by_week = {_week(row): row for row in rows}
    weeks = _weeks(min(by_week), max(by_week))

    def of(figure: Callable[[SearchQuality], float | None]) -> list[float | None]:
        return [figure(by_week[week]) if week in by_week else None for week in weeks]

    def optional(name: str) -> list[float | None]:
        return of(lambda row: getattr(row, name) if row.HasField(name) else None)

    searches = (
        Series("with feedback", "one", of(lambda row: row.judged_count)),
        Series("without", "rest", of(lambda row: row.search_count - row.judged_count)),
    )
    clicks = (
        Series("at 1", "strong", of(lambda row: row.click_through_at_1)),
        Series("at 3", "middle", of(lambda row: row.click_through_at_3)),
        Series("at 10", "weak", of(lambda row: row.click_through_at_10)),
    )
    ranks = (Series("MRR", "one", optional("mrr")), Series("nDCG@10", "two", optional("ndcg_at_10")))
    none = (Series("no hit", "bad", of(lambda row: row.zero_hit_count / row.search_count)),)
    drift = (Series("drift", "one", optional("query_drift")),)
    charts = (
        ("Searches a week", searches, bar_chart("Searches a week", weeks, searches)),
        ("Click-through", clicks, line_chart("Click-through", weeks, clicks, "{:.0%}", least_top=0.1)),
        ("Rank of what was useful", ranks, line_chart("MRR and nDCG@10", weeks, ranks, "{:.2f}", least_top=1.0)),
        ("Searches without a hit", none, line_chart("Searches without a hit", weeks, none, "{:.0%}", least_top=0.1)),
        ("Query drift", drift, line_chart("Query drift", weeks, drift, "{:.3f}", least_top=0.02)),
    )
    return "".join(
        f'<div><h3>{title}</h3><p class="soft">{legend(series)}</p>{chart}</div>' for title, series, chart in charts
    )


def _table(rows: Sequence[SearchQuality]) -> str:
    headings = ("week of", "searches", "no hit", "judged", "@1", "@3", "@10", "MRR", "nDCG@10", "drift")
    head = "".join(f"<th>{heading}</th>" for heading in headings)
    lines = []
    for row in rows:
        cells = (
            str(_week(row)),
            f"{row.search_count:,}",
            f"{row.zero_hit_count:,}",
            f"{row.judged_count:,}",
            f"{row.click_through_at_1:.1%}",
            f"{row.click_through_at_3:.1%}",
            f"{row.click_through_at_10:.1%}",
            f"{row.mrr:.3f}" if row.HasField("mrr") else "–",
            f"{row.ndcg_at_10:.3f}" if row.HasField("ndcg_at_10") else "–",
            f"{row.query_drift:.4f}" if row.HasField("query_drift") else "–",
        )
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def _week(row: SearchQuality) -> date:
    return row.week_start.ToDatetime().date()


def _weeks(first: date, last: date) -> list[date]:
    """Mondays from one to another, both included."""
    return [first + timedelta(weeks=n) for n in range((last - first).days // 7 + 1)]
