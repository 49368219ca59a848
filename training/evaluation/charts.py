"""Line charts as inline SVG: no script, no file beside the page."""

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 820, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 150, 12, 34


def line_chart(
    lines: Mapping[str, Sequence[tuple[float, float]]], *, x_name: str, y_name: str, top: float | None = None
) -> str:
    """A chart of named lines, each named at its right end.

    Args:
        lines: Points (x, y) by name; an empty line is left out.
        x_name: Under the axis.
        y_name: Over the axis.
        top: Highest y shown; the highest value's next step when None.
    """
    drawn = {name: points for name, points in lines.items() if points}
    xs = [x for points in drawn.values() for x, _ in points]
    ys = [y for points in drawn.values() for _, y in points]
    if not xs:
        return ""
    low_x, high_x = min(xs), max(max(xs), min(xs) + 1e-9)
    high_y = top or _next_step(max(ys))

    def place(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + (x - low_x) / (high_x - low_x) * (WIDTH - _LEFT - _RIGHT)
        return across, _TOP + (1.0 - min(y, high_y) / high_y) * (HEIGHT - _TOP - _BOTTOM)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(y_name)} by {escape(x_name)}">']
    for step in range(5):
        _, down = place(low_x, high_y * step / 4)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{down:.1f}" y2="{down:.1f}"/>')
        parts.append(
            f'<text class="tick" x="{_LEFT - 6}" y="{down + 4:.1f}" text-anchor="end">{high_y * step / 4:.3g}</text>'
        )
    parts += [
        f'<text class="tick" x="{place(x, 0)[0]:.1f}" y="{HEIGHT - 16}" text-anchor="middle">{x:.0f}</text>'
        for x in (low_x, (low_x + high_x) / 2, high_x)
    ]
    parts.append(f'<text class="tick" x="{(WIDTH - _RIGHT) / 2}" y="{HEIGHT - 2}">{escape(x_name)}</text>')
    taken: list[float] = []
    for number, (name, points) in enumerate(drawn.items()):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
        parts.append(f'<polyline class="line line-{number}" points="{path}"/>')
        label = place(*points[-1])[1] + 4
        while any(abs(label - other) < 13 for other in taken):
            label += 13
        taken.append(label)
        parts.append(f'<text class="name-{number}" x="{WIDTH - _RIGHT + 6}" y="{label:.1f}">{escape(name)}</text>')
    return "".join([*parts, "</svg>"])


def _next_step(value: float) -> float:
    if value <= 0:
        return 1.0
    magnitude = 10.0 ** math.floor(math.log10(value))
    return next(step * magnitude for step in (1, 1.5, 2, 3, 4, 5, 7.5, 10) if step * magnitude >= value)
