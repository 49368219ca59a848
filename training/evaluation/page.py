"""The evaluation as one HTML page: no script, nothing fetched, charts inline, dark and light."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from export.disk import replace_text, writing
from training.evaluation.charts import line_chart
from training.evaluation.evaluate import PAIR, SPREAD, Evaluation
from training.evaluation.questions import CONDITIONS

_STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1b1f24; --soft: #59636e; --line: #d9dee3; --grid: #e8ebee;
  --c0: #0b6bcb; --c1: #1a7f37; --c2: #9a5b00; --c3: #8a94a0; --c4: #8250df; --c5: #bf3989; --bad: #b42318;
  --good: #1a7f37; }
@media (prefers-color-scheme: dark) { :root { --paper: #0f1419; --ink: #e6e9ec; --soft: #9aa5b1; --line: #303a44;
  --grid: #222b34; --c0: #58a6ff; --c1: #56d364; --c2: #e3a008; --c3: #76828f; --c4: #bc8cff; --c5: #f778ba;
  --bad: #ff7b72; --good: #56d364; } }
body { background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; margin: 0 auto;
  max-width: 900px; padding: 24px 20px 64px; }
h1 { font-size: 24px; } h2 { font-size: 20px; margin-top: 40px; border-top: 1px solid var(--line); padding-top: 18px; }
p { margin: 6px 0; } .soft { color: var(--soft); } .good { color: var(--good); } .bad { color: var(--bad); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; margin: 10px 0;
  font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 5px 10px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; } td.number, th.number { text-align: right; white-space: nowrap; }
td { overflow-wrap: anywhere; }
svg { width: 100%; height: auto; display: block; } svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
svg .tick { fill: var(--soft); } .grid { stroke: var(--grid); } .line { fill: none; stroke-width: 2; }
.line-0 { stroke: var(--c0); } .line-1 { stroke: var(--c1); } .line-2 { stroke: var(--c2); }
.line-3 { stroke: var(--c3); } .line-4 { stroke: var(--c4); } .line-5 { stroke: var(--c5); }
svg .name-0 { fill: var(--c0); } svg .name-1 { fill: var(--c1); }
svg .name-2 { fill: var(--c2); } svg .name-3 { fill: var(--c3); } svg .name-4 { fill: var(--c4); }
svg .name-5 { fill: var(--c5); }
"""
_COLUMNS = ("mrr@10", "ndcg@10", "recall@1", "recall@10", "recall@50")


def write_page(evaluation: Evaluation, runs: Sequence[tuple[str, list[dict[str, Any]]]], path: Path) -> None:
    """Write the page.

    Args:
        evaluation: What was measured.
        runs: Name and metrics of the training runs to draw.
        path: The page's file.

    Raises:
        ExportError: The disk refuses.
    """
    result = evaluation.as_dict()
    body = [_head(result)]
    for condition in CONDITIONS:
        body.append(f"<h2>Names {condition}: {result['queries'][condition]} queries</h2>{_table(result, condition)}")
        curves = {name: _curve(evaluation.recall_curve(condition, name)) for name in evaluation.systems}
        body.append(line_chart(curves, x_name="first k hits", y_name="recall@k", top=1.0))
    body += [_spread(result), _slices(result), _runs(runs), _worst(result)]
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>duovec evaluation</title><style>{_STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )
    with writing(path):
        replace_text(path, page)


def _head(result: dict[str, Any]) -> str:
    return (
        f"<h1>{escape(' + '.join(result['encoders']))}</h1>"
        f'<p class="soft">Split {escape(result["split"])} of data {result["data_sha256"][:12]}, '
        f"{result['packages']} packages that no training row came from, {result['passages']['named']} definitions.</p>"
    )


def _curve(values: Sequence[float]) -> list[tuple[float, float]]:
    return [(float(number), value) for number, value in enumerate(values, start=1)]


def _table(result: dict[str, Any], condition: str) -> str:
    against = {
        one["against"]: one for one in result["comparisons"] if one["condition"] == condition and one["slice"] == "all"
    }
    head = "".join(f'<th class="number">{name}</th>' for name in (*_COLUMNS, "MRR@10 of the pair above it, 95 %"))
    rows = []
    for system in result["systems"]:
        values = result["systems"][system][condition]["all"]
        cells = "".join(f'<td class="number">{values[name]:.3f}</td>' for name in _COLUMNS)
        rows.append(f"<tr><td>{escape(system)}</td>{cells}{_difference(against.get(system))}</tr>")
    return f'<div class="scroll"><table><tr><th>system</th>{head}</tr>{"".join(rows)}</table></div>'


def _difference(comparison: dict[str, Any] | None) -> str:
    if comparison is None:
        return "<td></td>"
    kind = "good" if comparison["low"] > 0 else "bad" if comparison["high"] < 0 else "soft"
    text = f"{comparison['difference']:+.3f} ({comparison['low']:+.3f} to {comparison['high']:+.3f})"
    return f'<td class="number {kind}">{text}</td>'


def _spread(result: dict[str, Any]) -> str:
    head = "".join(f'<th class="number">{name.replace("_", " ")}</th>' for name in SPREAD)
    rows = []
    for system, values in result["systems"].items():
        if any(name in values for name in SPREAD):
            cells = (f"{values[name]:.3f}" if name in values else "" for name in SPREAD)
            numbers = "".join(f'<td class="number">{cell}</td>' for cell in cells)
            rows.append(f"<tr><td>{escape(system)}</td>{numbers}</tr>")
    return (
        "<h2>Vectors, names as they are</h2>"
        '<p class="soft">Alignment: mean squared distance of a query to its passage. Uniformity: how evenly passages '
        "fill the sphere. Of both less is better. Triplet accuracy: how often a query is nearer to its passage than "
        "to its hardest negative.</p>"
        f'<div class="scroll"><table><tr><th>system</th>{head}</tr>{"".join(rows)}</table></div>'
    )


def _slices(result: dict[str, Any]) -> str:
    parts = ["<h2>By style of query and by language: MRR@10</h2>"]
    for condition in CONDITIONS:
        names = [name for name in result["systems"][PAIR][condition] if name != "all"]
        head = "".join(f'<th class="number">{escape(system)}</th>' for system in result["systems"])
        rows = []
        for name in names:
            cells = "".join(
                f'<td class="number">{result["systems"][system][condition][name]["mrr@10"]:.3f}</td>'
                for system in result["systems"]
            )
            count = result["systems"][PAIR][condition][name]["queries"]
            rows.append(f'<tr><td>{escape(name)}</td><td class="number">{count}</td>{cells}</tr>')
        parts.append(
            f'<div class="scroll"><table><tr><th>names {condition}</th><th class="number">queries</th>{head}</tr>'
            f"{''.join(rows)}</table></div>"
        )
    return "".join(parts)


def _runs(runs: Sequence[tuple[str, list[dict[str, Any]]]]) -> str:
    if not runs:
        return ""
    loss = {name: [(one["step"], one["loss"]) for one in lines] for name, lines in runs}
    norm = {name: [(one["step"], one["grad_norm"]) for one in lines if "grad_norm" in one] for name, lines in runs}
    return (
        f"<h2>Training loss</h2>{line_chart(loss, x_name='step', y_name='loss')}"
        f"<h2>Norm of the gradient, before clipping</h2>{line_chart(norm, x_name='step', y_name='norm')}"
    )


def _worst(result: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{escape(one['query'])}</td><td>{escape(one['style'])}</td><td>{escape(one['right'])}</td>"
        f'<td>{escape(one["found"])}</td><td class="number">{one["rank"]:.0f}</td></tr>'
        for one in result["worst"]
    )
    head = (
        '<tr><th>query</th><th>style</th><th>its definition</th><th>found first</th><th class="number">rank</th></tr>'
    )
    return f'<h2>The worst queries of the pair</h2><div class="scroll"><table>{head}{rows}</table></div>'
