"""`duovec quality`: how good search was, week by week."""

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from duovec.v1.quality_service_pb2 import SearchQuality
from gateway.cli.failures import one_line_failures
from gateway.cli.options import DEFAULT_ENDPOINT, ApiKey, AsJson, Endpoint
from gateway.cli.quality_page import write_page
from gateway.client.client import Client


@one_line_failures
def quality(
    codebase: Annotated[str, typer.Option(help="Only this codebase id.")] = "",
    space: Annotated[str, typer.Option(help="Only the space of this fingerprint.")] = "",
    weeks: Annotated[int, typer.Option(min=1, max=520, help="Weeks to look back, this one included.")] = 12,
    html: Annotated[Path | None, typer.Option(help="Write a page with plots, too.", dir_okay=False)] = None,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Show how good search was in the codebases that you own, from the log and the feedback, by week and space.

    Examples:

        duovec quality

        duovec quality --codebase linux --weeks 26 --html quality.html
    """
    with Client(endpoint, api_key=api_key) as client:
        rows = list(client.list_quality(codebase, space=space, week_count=weeks))
    if html is not None:
        write_page(rows, weeks, html)
    if as_json:
        typer.echo(json.dumps({"rows": [to_dict(row) for row in rows]}))
        return
    console = Console()
    if not rows:
        console.print("no search was logged in this time, or you own none of the codebases")
    for (codebase_id, fingerprint), group in groupby(rows, lambda row: (row.codebase_id, row.space)):
        name = codebase_id or "all codebases together"
        console.print(f"[bold]{name}[/], space {fingerprint[:12]}", highlight=False)
        console.print(_table(list(group)))
    if rows:
        console.print(
            "[dim]none: share without a hit. judged: with feedback. @k: share with a hit opened or useful at rank 1 to "
            "k. MRR, nDCG@10: over the judged. drift: of the queries from the four weeks before.[/]",
            highlight=False,
        )


def to_dict(row: SearchQuality) -> dict[str, object]:
    """A row for programs; null where there is no figure."""
    return {
        "codebase_id": row.codebase_id,
        "space": row.space,
        "week_start": row.week_start.ToJsonString(),
        "search_count": row.search_count,
        "zero_hit_count": row.zero_hit_count,
        "zero_hit_share": row.zero_hit_count / row.search_count,
        "judged_count": row.judged_count,
        "judged_share": row.judged_count / row.search_count,
        "click_through_at_1": row.click_through_at_1,
        "click_through_at_3": row.click_through_at_3,
        "click_through_at_10": row.click_through_at_10,
        "mrr": row.mrr if row.HasField("mrr") else None,
        "ndcg_at_10": row.ndcg_at_10 if row.HasField("ndcg_at_10") else None,
        "query_drift": row.query_drift if row.HasField("query_drift") else None,
        "drift_query_count": row.drift_query_count,
        "drift_reference_count": row.drift_reference_count,
    }


def _table(rows: Sequence[SearchQuality]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
    table.add_column("week of")
    for heading in ("searches", "none", "judged", "@1", "@3", "@10", "MRR", "nDCG@10", "drift"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row.week_start.ToDatetime().strftime("%Y-%m-%d"),
            f"{row.search_count:,}",
            f"{row.zero_hit_count / row.search_count:.0%}",
            f"{row.judged_count / row.search_count:.0%}",
            f"{row.click_through_at_1:.0%}",
            f"{row.click_through_at_3:.0%}",
            f"{row.click_through_at_10:.0%}",
            f"{row.mrr:.2f}" if row.HasField("mrr") else "–",
            f"{row.ndcg_at_10:.2f}" if row.HasField("ndcg_at_10") else "–",
            f"{row.query_drift:.3f}" if row.HasField("query_drift") else "–",
        )
    return table
