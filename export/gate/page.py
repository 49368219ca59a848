"""The gate's reports as one HTML page: no script, nothing fetched, charts inline, dark and light."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from export.disk import replace_text, writing
from export.gate.charts import distance_chart, quality_chart
from export.gate.checks import checks_of
from export.gate.metrics import Cosines
from export.gate.report import GateReport

_STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1b1f24; --soft: #59636e; --line: #d9dee3; --grid: #e8ebee;
  --reference: #8a94a0; --exported: #0b6bcb; --bad: #b42318; --good: #1a7f37; --card: #f6f8fa; }
@media (prefers-color-scheme: dark) { :root { --paper: #0f1419; --ink: #e6e9ec; --soft: #9aa5b1; --line: #303a44;
  --grid: #222b34; --reference: #76828f; --exported: #58a6ff; --bad: #ff7b72; --good: #56d364; --card: #171e26; } }
body { background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; margin: 0 auto;
  max-width: 860px; padding: 24px 20px 64px; }
h1 { font-size: 24px; } h2 { font-size: 20px; margin-top: 44px; border-top: 1px solid var(--line); padding-top: 20px; }
h3 { font-size: 16px; margin: 26px 0 6px; } p { margin: 6px 0; } .soft { color: var(--soft); }
table { border-collapse: collapse; width: 100%; margin: 10px 0; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 5px 10px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; } td.number, th.number { text-align: right; white-space: nowrap; }
.verdict { font-weight: 700; } .good { color: var(--good); } .bad { color: var(--bad); }
.failure { border-left: 3px solid var(--bad); background: var(--card); padding: 6px 12px; overflow-wrap: anywhere; }
svg { width: 100%; height: auto; display: block; } svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
svg .tick { fill: var(--soft); } .grid { stroke: var(--grid); } .limit { stroke: var(--bad); stroke-dasharray: 5 4; }
svg .limit-label { fill: var(--bad); } .whisker { stroke: var(--exported); stroke-width: 1.5; }
.box { fill: var(--exported); opacity: 0.45; } .median { stroke: var(--ink); stroke-width: 2; }
rect.reference { fill: var(--reference); } rect.exported { fill: var(--exported); }
.key { display: inline-block; width: 11px; height: 11px; border-radius: 2px; margin: 0 5px 0 14px; }
"""


_VERDICT = {True: ("good", "holds"), False: ("bad", "is out")}


def write_page(reports: Sequence[GateReport], path: Path) -> None:
    """Write the page of some reports.

    Raises:
        ExportError: The disk refuses.
    """
    body = "".join(_section(report) for report in reports)
    passed = sum(report.passed for report in reports)
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>duovec gate</title><style>{_STYLE}</style></head><body><h1>duovec gate</h1>"
        f'<p class="soft">{passed} of {len(reports)} exported models passed.</p>{body}</body></html>\n'
    )
    with writing(path):
        replace_text(path, page)


def _section(report: GateReport) -> str:
    verdict = '<span class="verdict good">passed</span>' if report.passed else '<span class="verdict bad">failed</span>'
    pruned = ", pruned" if report.pruned else ""
    failures = "".join(f'<p class="failure">{escape(line)}</p>' for line in report.failures)
    skipped = ""
    if report.skipped_buckets:
        skipped = f" Not run: {', '.join(map(str, report.skipped_buckets))} tokens."
    return (
        f"<h2>{escape(report.encoder)} in {escape(report.runtime)} {escape(report.precision)}{pruned}: {verdict}</h2>"
        f'<p class="soft">Compared with {escape(report.reference)}, in {report.seconds:.0f} s. Token ids of '
        f"{report.compared_texts} texts are those of transformers' tokenizer.</p>"
        f"{failures}{_checks(report)}"
        "<h3>Cosine distance to fp32 torch, by batch and length</h3>"
        f"{distance_chart(_shape_rows(report), 1.0 - report.tolerance.min_cosine)}"
        '<p class="soft">Line: all rows. Box: the middle half. Mark: the median. Logarithmic.'
        f" Lengths run: {', '.join(map(str, report.buckets))} tokens.{skipped}</p>"
        f"{_retrieval(report)}"
    )


def _shape_rows(report: GateReport) -> list[tuple[str, Cosines]]:
    return [
        (f"{shape.batch} {'row' if shape.batch == 1 else 'rows'} of {shape.length}", shape.cosines)
        for shape in report.shapes
    ]


def _checks(report: GateReport) -> str:
    rows = "".join(
        f'<tr><td>{escape(check.name)}</td><td class="number">{escape(check.measured)}</td>'
        f'<td class="number">{escape(check.limit)}</td>'
        f'<td class="{_VERDICT[check.holds][0]}">{_VERDICT[check.holds][1]}</td></tr>'
        for check in checks_of(report)
    )
    head = '<tr><th>check</th><th class="number">measured</th><th class="number">tolerance</th><th></th></tr>'
    return f"<table>{head}{rows}</table>"


def _retrieval(report: GateReport) -> str:
    retrieval = report.retrieval
    spread = [("queries", retrieval.queries), ("functions", retrieval.passages)]
    rows = "".join(
        f"<tr><td>{escape(query.query)}</td><td>{escape(query.code)}</td>"
        f'<td class="number">{query.reference_rank} → {query.exported_rank}</td>'
        f'<td class="number">{query.overlap:.0%}</td></tr>'
        for query in retrieval.worst
    )
    return (
        f"<h3>Search: {retrieval.pairs} docstrings, each among {retrieval.pairs} functions</h3>"
        '<p class="soft"><span class="key" style="background:var(--reference)"></span>reference, neither pruned nor '
        'quantized<span class="key" style="background:var(--exported)"></span>exported model</p>'
        f"{quality_chart(retrieval.reference, retrieval.exported)}"
        "<h3>Cosine distance of the searched vectors to the reference's</h3>"
        f"{distance_chart(spread, None)}"
        "<h3>The queries that changed most</h3>"
        '<table><tr><th>query</th><th>its function</th><th class="number">rank</th>'
        f'<th class="number">top-10 in common</th></tr>{rows}</table>'
    )
