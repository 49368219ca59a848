"""`duovec search`: find code by what it does."""

import json
from typing import Annotated

import grpc
import typer
from rich.console import Console
from rich.markup import escape
from rich.syntax import Syntax

from duovec.v1 import search_service_pb2 as search_pb
from gateway.cli.failures import one_line_failures
from gateway.cli.options import DEFAULT_ENDPOINT, ApiKey, AsJson, Endpoint
from gateway.cli.terminal import harmless
from gateway.client.client import Client
from gateway.client.errors import ClientError

_PREVIEW_LINES = 6
_METHODS = {
    search_pb.SEARCH_METHOD_EXACT: "exact",
    search_pb.SEARCH_METHOD_HNSW: "hnsw",
    search_pb.SEARCH_METHOD_BINARY: "binary",
}
_REASONS = {
    search_pb.PARTIAL_REASON_PENDING_CHUNKS: "pending_chunks",
    search_pb.PARTIAL_REASON_CANDIDATES_EXHAUSTED: "candidates_exhausted",
    search_pb.PARTIAL_REASON_ENCODER_DOWN: "encoder_down",
}


@one_line_failures
def search(
    query: Annotated[str | None, typer.Argument(help="Words or identifiers; `-` stands for stdin.")] = None,
    codebase: Annotated[
        list[str] | None, typer.Option(help="Codebase id, repeatable; may be left out where there is only one.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Hits at most.")] = 10,
    page_size: Annotated[int, typer.Option(min=1, max=100, help="Hits asked for at once.")] = 100,
    path: Annotated[list[str] | None, typer.Option(help="Pattern of paths, such as 'src/**/*.py'; repeatable.")] = None,
    language: Annotated[list[str] | None, typer.Option(help="Language, such as python; repeatable.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="function, method, class or text; repeatable.")] = None,
    min_score: Annotated[float | None, typer.Option(min=-1, max=1, help="Leave out hits with a lower score.")] = None,
    blend: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of the code encoder; the rest is the text encoder's.")
    ] = None,
    code: Annotated[bool, typer.Option("--code", help="The query is code: find what resembles it.")] = False,
    like: Annotated[int | None, typer.Option(min=1, help="Find what resembles the chunk of this id.")] = None,
    lexical: Annotated[float | None, typer.Option(min=0, max=1, help="Share of matching words in the score.")] = None,
    hybrid: Annotated[bool, typer.Option("--hybrid/--no-hybrid", help="Rank by words too, or by vectors only.")] = True,
    allow_degraded: Annotated[
        bool, typer.Option("--allow-degraded", help="With one encoder down, search by the other.")
    ] = False,
    truncate: Annotated[
        bool, typer.Option("--truncate", help="Cut a query that is too long, instead of failing.")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="Show whole chunks, not their first lines.")] = False,
    timing: Annotated[bool, typer.Option("--timing", help="Say what the service was about, and how long.")] = False,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Search codebases; best hits first.

    Examples:

        duovec search "where are connections returned to the pool"

        duovec search ThreadPoolExecutor --codebase linux --codebase tools --path "src/**/*.py" --limit 3 --full

        duovec search --like 4711 --codebase linux

        duovec search - --code --codebase linux < snippet.py
    """
    if (query is None) == (like is None):
        raise typer.BadParameter("give a query or --like, and not both", param_hint="QUERY")
    if lexical is not None and not hybrid:
        raise typer.BadParameter("--no-hybrid leaves no share for words", param_hint="--lexical")
    text = typer.get_text_stream("stdin").read() if query == "-" else query or ""
    times: list[dict[str, float]] = []
    with Client(endpoint, api_key=api_key, on_timing=times.append if timing else None) as client:
        codebase_ids = codebase or [_only_codebase(client)]
        times.clear()
        pages: list[search_pb.SearchResponse] = []
        while not pages or (pages[-1].next_page_token and _hit_count(pages) < limit):
            pages.append(
                client.search(
                    codebase_ids,
                    "" if code else text,
                    code=text if code else "",
                    like_chunk_id=like,
                    limit=min(page_size, limit - _hit_count(pages)),
                    page_token=pages[-1].next_page_token if pages else "",
                    paths=path or (),
                    languages=language or (),
                    kinds=kind or (),
                    min_score=min_score,
                    blend=blend,
                    lexical_weight=lexical if hybrid else 0.0,
                    allow_degraded=allow_degraded,
                    truncate=truncate,
                )
            )
    if as_json:
        typer.echo(json.dumps(_to_dict(codebase_ids, text, pages) | ({"timing_ms": times} if timing else {})))
    else:
        _print_hits(pages, full=full, several=len(codebase_ids) > 1)
        for page, stages in enumerate(times, 1):
            told = ", ".join(f"{stage} {duration:.1f} ms" for stage, duration in stages.items())
            typer.echo(f"page {page}: {told or 'the service does not say'}", err=True)


def _hit_count(pages: list[search_pb.SearchResponse]) -> int:
    return sum(len(page.hits) for page in pages)


def _reasons(pages: list[search_pb.SearchResponse]) -> list[str]:
    return [_REASONS.get(reason, str(reason)) for reason in sorted({r for page in pages for r in page.partial_reasons})]


def _only_codebase(client: Client) -> str:
    ids = [codebase.codebase_id for codebase in client.list_codebases()]
    if len(ids) == 1:
        return ids[0]
    listed = f"choose one with --codebase: {', '.join(ids)}" if ids else "there is none; make one with `duovec index`"
    raise ClientError(f"which codebase? {listed}", code=grpc.StatusCode.INVALID_ARGUMENT)


def _to_dict(codebase_ids: list[str], query: str, pages: list[search_pb.SearchResponse]) -> dict[str, object]:
    last = pages[-1]
    return {
        "search_id": pages[0].search_id,
        "codebase_ids": codebase_ids,
        "query": query,
        "space": last.space,
        "exact": all(page.exact for page in pages),
        "method": _METHODS.get(last.method, str(last.method)),
        "candidate_count": last.candidate_count,
        "searched_chunk_count": last.searched_chunk_count,
        "pending_chunk_count": last.pending_chunk_count,
        "partial": any(page.partial for page in pages),
        "partial_reasons": _reasons(pages),
        "lexical_weight": last.lexical_weight,
        "missing_encoder": last.missing_encoder,
        "query_truncated": last.query_truncated,
        "more": bool(last.next_page_token),
        "hits": [
            {
                "score": hit.score,
                "similarity": hit.similarity,
                "lexical_score": hit.lexical_score,
                "codebase_id": hit.codebase_id,
                "chunk_id": hit.chunk_id,
                "path": hit.chunk.path,
                "start_line": hit.chunk.start_line,
                "end_line": hit.chunk.end_line,
                "symbol": hit.chunk.symbol,
                "kind": hit.chunk.kind,
                "language": hit.chunk.language,
                "content": hit.chunk.content,
            }
            for page in pages
            for hit in page.hits
        ],
    }


def _print_hits(pages: list[search_pb.SearchResponse], *, full: bool, several: bool) -> None:
    console = Console()
    hits = [hit for page in pages for hit in page.hits]
    if not hits:
        console.print("no hits")
    for rank, hit in enumerate(hits, 1):
        chunk = hit.chunk
        place = f"{hit.codebase_id}: {chunk.path}" if several else chunk.path
        where = escape(harmless(f"{place}:{chunk.start_line}-{chunk.end_line}"))
        console.print(
            f"[bold]{rank:2}  {hit.score:.3f}[/]  [cyan]{where}[/]  {escape(harmless(chunk.symbol))}  "
            f"[dim]{hit.chunk_id}[/]",
            highlight=False,
            soft_wrap=True,
        )
        lines = harmless(chunk.content).split("\n")
        shown = lines if full else lines[:_PREVIEW_LINES]
        code = Syntax(
            "\n".join(shown), chunk.language, line_numbers=True, start_line=chunk.start_line, background_color="default"
        )
        console.print(code)
        if len(shown) < len(lines):
            console.print(f"     [dim]… {len(lines) - len(shown)} more lines[/]", highlight=False)
        console.print()
    if hits and pages[0].search_id:
        console.print(
            f"[dim]useful? duovec feedback {pages[0].search_id} --useful {hits[0].chunk_id}[/]",
            highlight=False,
            soft_wrap=True,
        )
    last = pages[-1]
    if last.query_truncated:
        typer.echo("note: the query was cut at an encoder's limit", err=True)
    if last.missing_encoder:
        typer.echo(f"note: encoder {last.missing_encoder} is down; these are the hits of the other alone", err=True)
    if last.pending_chunk_count:
        typer.echo(f"note: {last.pending_chunk_count} chunks have no vector yet and could not be found", err=True)
    if search_pb.PARTIAL_REASON_CANDIDATES_EXHAUSTED in last.partial_reasons:
        typer.echo("note: the index gave no more candidates; there may be more hits, a filter finds them", err=True)
