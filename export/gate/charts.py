"""Inline SVG of a report's distributions; colours are the page's CSS variables, so that dark and light both read."""

import math
from collections.abc import Callable, Sequence
from html import escape

from export.gate.metrics import Cosines
from export.gate.report import RANK_BANDS, Quality

_WIDTH = 760
_LEFT, _RIGHT = 150, 20
_ROW = 22
# Distances under this are rounding of float64.
_FLOOR = 1e-16


_Scale = Callable[[float], float]


def distance_chart(rows: Sequence[tuple[str, Cosines]], limit: float | None) -> str:
    """Box plots of cosine distances on a logarithmic axis.

    Args:
        rows: Label and cosines of every box: whiskers to the extremes, box from 25 to 75 percent, line at the median.
        limit: Largest distance that is allowed, drawn as a line; None for no limit.
    """
    limits = [] if limit is None else [limit]
    values = [max(_FLOOR, value) for _, cosines in rows for value in cosines.distances if math.isfinite(value)]
    low = math.floor(math.log10(min([*values, *limits], default=_FLOOR)))
    high = max(low + 1, math.ceil(math.log10(max([*values, *limits], default=1.0) * 1.2)))

    def at(value: float) -> float:
        share = (math.log10(max(_FLOOR, value)) - low) / (high - low)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    bottom = 12 + _ROW * len(rows)
    parts = []
    for decade in range(low, high + 1):
        x = at(10.0**decade)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="8" y2="{bottom}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">1e{decade}</text>')
    for index, (label, cosines) in enumerate(rows):
        parts.append(_box(label, cosines, 12 + _ROW * index, at))
    for value in limits:
        x = at(value)
        anchor, shift = ("end", -5) if x > _WIDTH / 2 else ("start", 5)
        parts.append(f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{bottom}"/>')
        parts.append(
            f'<text class="limit-label" x="{x + shift:.1f}" y="{bottom + 32}" text-anchor="{anchor}">'
            f"limit {value:.1e}</text>"
        )
    return _svg(bottom + (40 if limits else 24), "Cosine distances to the reference", parts)


def _box(label: str, cosines: Cosines, top: float, at: _Scale) -> str:
    middle = top + _ROW / 2
    text = f'<text class="label" x="{_LEFT - 10}" y="{middle + 4:.1f}" text-anchor="end">{escape(label)}</text>'
    if not all(math.isfinite(value) for value in cosines.distances):
        return f'{text}<text class="limit-label" x="{_LEFT + 6}" y="{middle + 4:.1f}">not a number</text>'
    least, _, lower, median, upper, _, most = (at(value) for value in cosines.distances)
    title = (
        f"{label}: distance {cosines.distances[0]:.1e} to {cosines.distances[-1]:.1e}, "
        f"median {cosines.distances[3]:.1e}; least cosine {cosines.least:.7f}"
    )
    return (
        f"<g><title>{escape(title)}</title>{text}"
        f'<line class="whisker" x1="{least:.1f}" x2="{most:.1f}" y1="{middle}" y2="{middle}"/>'
        f'<rect class="box" x="{lower:.1f}" y="{middle - 6}" width="{max(2.0, upper - lower):.1f}" height="12"/>'
        f'<line class="median" x1="{median:.1f}" x2="{median:.1f}" y1="{middle - 6}" y2="{middle + 6}"/></g>'
    )


def quality_chart(reference: Quality, exported: Quality) -> str:
    """Both models side by side: MRR@10 and nDCG@10, and how many queries found their code at which rank."""
    pairs = sum(reference.rank_counts) or 1
    groups = [
        ("MRR@10", reference.mrr_at_10, exported.mrr_at_10, "{:.4f}"),
        ("nDCG@10", reference.ndcg_at_10, exported.ndcg_at_10, "{:.4f}"),
    ]
    groups += [
        (f"rank {band}", before / pairs, after / pairs, "{:.1%}")
        for band, before, after in zip(RANK_BANDS, reference.rank_counts, exported.rank_counts, strict=True)
    ]
    parts = []
    for index, (label, before, after, form) in enumerate(groups):
        top = 8 + 40 * index
        parts.append(f'<text class="label" x="{_LEFT - 10}" y="{top + 19}" text-anchor="end">{escape(label)}</text>')
        for row, (kind, value) in enumerate((("reference", before), ("exported", after))):
            width = (_WIDTH - _LEFT - _RIGHT - 70) * (value if math.isfinite(value) else 0.0)
            y = top + 15 * row
            parts.append(f'<rect class="{kind}" x="{_LEFT}" y="{y}" width="{width:.1f}" height="13" rx="2"/>')
            parts.append(f'<text class="tick" x="{_LEFT + width + 6:.1f}" y="{y + 11}">{form.format(value)}</text>')
    return _svg(8 + 40 * len(groups), "Search quality of the reference and of the exported model", parts)


def _svg(height: float, title: str, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
