"""Inline SVG of figures by week; colours are the page's CSS variables, so that dark and light both read."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from html import escape

_WIDTH, _HEIGHT = 420, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 10, 30
# More labels than this on the axis of weeks would touch.
_MAX_LABELS = 6


@dataclass(frozen=True, slots=True)
class Series:
    """One line or part of a bar.

    Attributes:
        name: What the legend calls it.
        style: CSS class that gives the colour.
        values: One a week; None where there is no figure.
    """

    name: str
    style: str
    values: Sequence[float | None]


def line_chart(title: str, weeks: Sequence[date], series: Sequence[Series], form: str, *, least_top: float) -> str:
    """Lines over weeks, which break where there is no figure.

    Args:
        title: What it shows, for those who cannot see it.
        weeks: Mondays, one a value.
        series: The lines.
        form: Format of a value, such as `{:.0%}`.
        least_top: Least upper end of the axis.
    """
    values = [value for one in series for value in one.values if value is not None]
    bottom, top, step = _axis(min([0.0, *values]), max([least_top, *values]))
    x, y = _across(len(weeks)), _up(bottom, top)
    parts = _grid(bottom, top, step, form, y) + _week_labels(weeks, x)
    for one in series:
        for run in _runs(one.values):
            if len(run) > 1:
                points = " ".join(f"{x(n):.1f},{y(value):.1f}" for n, value in run)
                parts.append(f'<polyline class="line {one.style}" points="{points}"/>')
        parts += [
            f'<circle class="dot {one.style}" cx="{x(n):.1f}" cy="{y(value):.1f}" r="3">'
            f"<title>{escape(f'{one.name}, week of {weeks[n]}: {form.format(value)}')}</title></circle>"
            for n, value in enumerate(one.values)
            if value is not None
        ]
    return _svg(title, parts)


def bar_chart(title: str, weeks: Sequence[date], series: Sequence[Series]) -> str:
    """Counts over weeks, the series of each week stacked on one another."""
    totals = [sum(one.values[n] or 0 for one in series) for n in range(len(weeks))]
    bottom, top, step = _axis(0, max([4.0, *totals]))
    x, y = _across(len(weeks)), _up(bottom, top)
    width = max(2.0, 0.7 * (_WIDTH - _LEFT - _RIGHT) / max(1, len(weeks)))
    parts = _grid(bottom, top, step, "{:,.0f}", y) + _week_labels(weeks, x)
    for n, week in enumerate(weeks):
        low = 0.0
        for one in series:
            value = one.values[n] or 0
            if value:
                parts.append(
                    f'<rect class="bar {one.style}" x="{x(n) - width / 2:.1f}" y="{y(low + value):.1f}" '
                    f'width="{width:.1f}" height="{y(low) - y(low + value):.1f}">'
                    f"<title>{escape(f'{one.name}, week of {week}: {value:,.0f}')}</title></rect>"
                )
            low += value
    return _svg(title, parts)


def legend(series: Sequence[Series]) -> str:
    """The names of series beside their colours."""
    return "".join(f'<span class="key {one.style}"></span>{escape(one.name)}' for one in series)


def _axis(least: float, most: float) -> tuple[float, float, float]:
    """Round ends and step of an axis that holds both values, with two to five steps."""
    size = max(most - least, 1e-9)
    decade = 10.0 ** math.floor(math.log10(size))
    step = next(decade * factor for factor in (0.2, 0.5, 1.0, 2.0) if size / (decade * factor) <= 5 + 1e-9)
    return math.floor(least / step + 1e-9) * step, math.ceil(most / step - 1e-9) * step, step


def _across(count: int) -> Callable[[int], float]:
    slot = (_WIDTH - _LEFT - _RIGHT) / max(1, count)
    return lambda n: _LEFT + (n + 0.5) * slot


def _up(bottom: float, top: float) -> Callable[[float], float]:
    return lambda value: _HEIGHT - _BOTTOM - (value - bottom) / (top - bottom) * (_HEIGHT - _TOP - _BOTTOM)


def _grid(bottom: float, top: float, step: float, form: str, y: Callable[[float], float]) -> list[str]:
    parts = []
    for n in range(round((top - bottom) / step) + 1):
        value = bottom + n * step
        at = y(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        label = escape(form.format(value + 0.0))
        parts.append(f'<text class="tick" x="{_LEFT - 7}" y="{at + 4:.1f}" text-anchor="end">{label}</text>')
    return parts


def _week_labels(weeks: Sequence[date], x: Callable[[int], float]) -> list[str]:
    every = max(1, math.ceil(len(weeks) / _MAX_LABELS))
    # The last week is labelled, and every so many before it.
    return [
        f'<text class="tick" x="{x(n):.1f}" y="{_HEIGHT - 10}" text-anchor="middle">{week:%m-%d}</text>'
        for n, week in enumerate(weeks)
        if (len(weeks) - 1 - n) % every == 0
    ]


def _runs(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """Values with their positions, cut where there is none."""
    runs: list[list[tuple[int, float]]] = [[]]
    for n, value in enumerate(values):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((n, value))
    return runs


def _svg(title: str, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
