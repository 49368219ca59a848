"""`duovec status`: is the service there, what does it hold, and what had better be done?"""

import json
from collections.abc import Sequence
from typing import Any

import grpc
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from duovec.v1 import codebase_service_pb2, revision_pb2, status_service_pb2
from gateway.cli.documents import to_dict
from gateway.cli.failures import one_line_failures
from gateway.cli.options import DEFAULT_ENDPOINT, ApiKey, AsJson, Endpoint, when
from gateway.cli.terminal import harmless
from gateway.client.client import Client
from gateway.client.errors import ClientError

_MIB = 1024 * 1024
# Of the tables the largest; `--json` has them all.
_SHOWN_TABLES = 8
# What others than administrators get, and what an older gateway answers.
_NO_STATUS = (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED)


@one_line_failures
def status(endpoint: Endpoint = DEFAULT_ENDPOINT, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Show the service's health and its codebases. Exits with 1 when it does not serve.

    Administrators also see how many calls there were and how long they took, the embedding cache, the recall of large
    codebases, the tables, and what had better be done.

    Examples:

        duovec status

        duovec status --endpoint https://search.internal:50051 --json
    """
    with Client(endpoint, api_key=api_key, timeout_s=10.0) as client:
        health = client.health()
        codebases = list(client.list_codebases()) if health == "SERVING" else []
        service = _service(client) if health == "SERVING" else None
    if as_json:
        document: dict[str, Any] = {
            "endpoint": endpoint,
            "health": health,
            "codebases": [
                {
                    "codebase_id": codebase.codebase_id,
                    "display_name": codebase.display_name,
                    "create_time": codebase.create_time.ToJsonString(),
                    "chunk_count": codebase.chunk_count,
                    "pending_chunk_count": codebase.pending_chunk_count,
                    "revision": to_dict(codebase.revision) if codebase.HasField("revision") else None,
                }
                for codebase in codebases
            ],
        }
        typer.echo(json.dumps(document | ({} if service is None else to_dict(service))))
    else:
        console = Console()
        console.print(f"{endpoint}: {health}", markup=False, highlight=False)
        _show_codebases(console, codebases, serving=health == "SERVING")
        if service is not None:
            _show_service(console, service)
    if health != "SERVING":
        raise typer.Exit(1)


def _service(client: Client) -> status_service_pb2.GetStatusResponse | None:
    try:
        return client.status()
    except ClientError as failure:
        if failure.code in _NO_STATUS:
            return None
        raise


def _show_codebases(console: Console, codebases: Sequence[codebase_service_pb2.Codebase], *, serving: bool) -> None:
    if codebases:
        table = Table("codebase", "chunks", "pending", "created", "holds")
        for codebase in codebases:
            table.add_row(
                codebase.codebase_id,
                f"{codebase.chunk_count:,}",
                f"{codebase.pending_chunk_count:,}",
                when(codebase.create_time),
                _held(codebase.revision) if codebase.HasField("revision") else "",
            )
        console.print(table)
    elif serving:
        console.print("no codebase yet: make one with `duovec index PATH`")


def _held(revision: revision_pb2.Revision) -> str:
    since = ", changed since" if revision.outdated else ""
    return escape(harmless(f"{revision.commit_id[:10]} {revision.branch}".rstrip() + since))


def _show_service(console: Console, service: status_service_pb2.GetStatusResponse) -> None:
    if service.recall_checks:
        table = Table("recall@10 of", "mean", "least", "index", "ef", "searched", "checked")
        for check in service.recall_checks:
            table.add_row(
                check.codebase_id,
                f"{check.mean_recall:.3f}",
                f"{check.minimum_recall:.2f}",
                check.method,
                str(check.ef),
                _searched(check),
                check.check_time.ToDatetime().strftime("%m-%d %H:%M"),
            )
        console.print(table)
    table = Table("table", "rows", "dead", "MiB", "indexes", "vacuumed")
    for row in service.tables[:_SHOWN_TABLES]:
        table.add_row(
            row.table,
            f"{row.row_count:,}",
            f"{row.dead_row_count:,}",
            f"{row.table_bytes / _MIB:,.0f}",
            f"{row.index_bytes / _MIB:,.0f}",
            row.vacuum_time.ToDatetime().strftime("%m-%d %H:%M") if row.HasField("vacuum_time") else "never",
        )
    console.print(table)
    _show_methods(console, service)
    lines = [*_admission_lines(service), _cache_line(service.cache)]
    for advice in service.advice:
        lines += [f"{advice.subject} {advice.finding}:", f"    {advice.command}"]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _show_methods(console: Console, service: status_service_pb2.GetStatusResponse) -> None:
    if not service.methods:  # an older gateway
        return
    since = service.start_time.ToDatetime().strftime("%m-%d %H:%M")
    table = Table(f"calls since {since}", "count", "failed", "/s", "median", "p99")
    for method in service.methods:
        table.add_row(
            method.method.replace("Service/", "."),
            f"{method.call_count:,}",
            f"{method.failed_call_count:,}",
            f"{method.calls_per_second:.2f}",
            _duration(method.median_milliseconds),
            _duration(method.p99_milliseconds),
        )
    console.print(table)


def _duration(milliseconds: float) -> str:
    return f"{milliseconds:.1f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"


def _admission_lines(service: status_service_pb2.GetStatusResponse) -> list[str]:
    if not service.HasField("admission"):
        return []
    admission = service.admission
    return [
        f"in work: {admission.pending_token_count:,} of {admission.max_pending_token_count:,} tokens, "
        f"{admission.stream_count} of {admission.max_stream_count} streams, "
        f"{admission.waiting_batch_count} batches in line",
        f"refused: {admission.refused_call_count:,} calls, {admission.refused_stream_count:,} streams; "
        f"the encoders do {admission.tokens_per_second:,.0f} tokens a second",
    ]


def _searched(check: status_service_pb2.RecallCheck) -> str:
    if check.searched_exactly:
        return "exactly"
    if not check.index_suffices:
        return f"below {check.target_recall:g}"
    return "further" if check.raised else "as usual"


def _cache_line(cache: status_service_pb2.CacheStatus) -> str:
    if cache.max_text_count == 0:
        return "embedding cache: off"
    line = (
        f"embedding cache: {cache.hit_count:,} hits, {cache.miss_count:,} misses, {cache.shared_count:,} shared, "
        f"{cache.evicted_count:,} evicted"
    )
    failures = cache.read_failure_count + cache.write_failure_count
    return f"{line}, {failures:,} failures" if failures else line
