"""The gate's reports for a terminal."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table

from export.gate.checks import checks_of
from export.gate.report import GateReport


def gate_table(reports: Sequence[GateReport]) -> RenderableType:
    """Every encoder's checks with their limits, and under them the agreement at every shape."""
    parts: list[RenderableType] = []
    for report in reports:
        parts += [_checks(report), _shapes(report)]
    return Group(*parts)


def _checks(report: GateReport) -> Table:
    verdict = "passed" if report.passed else "FAILED"
    pruned = ", pruned" if report.pruned else ""
    title = f"{report.encoder} in {report.runtime} {report.precision}{pruned}: {verdict}"
    table = Table("check", "measured", "limit", "", title=title, title_justify="left", title_style="bold")
    for check in checks_of(report):
        table.add_row(check.name, check.measured, check.limit, "ok" if check.holds else "[bold red]out[/]")
    return table


def _shapes(report: GateReport) -> Table:
    table = Table("batch", "length", "min cosine", "mean cosine", "max difference", box=None, padding=(0, 2))
    for column in table.columns:
        column.justify = "right"
    for shape in report.shapes:
        table.add_row(
            str(shape.batch),
            str(shape.length),
            f"{shape.cosines.least:.7f}",
            f"{shape.cosines.mean:.7f}",
            f"{shape.max_abs_difference:.1e}",
        )
    if report.skipped_buckets:
        table.caption = f"not run: {', '.join(map(str, report.skipped_buckets))} tokens"
    return table
