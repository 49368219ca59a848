"""Hits of a search, as people and as programs read them."""

from pathlib import Path

import typer
from rich.console import Console
from rich.markup import escape
from rich.syntax import Syntax

from duovec.v1 import search_service_pb2 as search_pb
from gateway.cli import staleness
from gateway.cli.terminal import harmless

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


def _reasons(pages: list[search_pb.SearchResponse]) -> list[str]:
    return [_REASONS.get(reason, str(reason)) for reason in sorted({r for page in pages for r in page.partial_reasons})]


def to_dict(codebase_ids: list[str], query: str, pages: list[search_pb.SearchResponse]) -> dict[str, object]:
    """The document of `--json`."""
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
        "revisions": [
            staleness.to_dict(searched, staleness.distance_to_head(searched.revision, Path.cwd()))
            for searched in pages[0].revisions
        ],
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


def print_files(pages: list[search_pb.SearchResponse], *, several: bool) -> None:
    """Print the paths of hits, the file of the best one first, one a line."""
    for path in dict.fromkeys(
        f"{hit.codebase_id}: {hit.chunk.path}" if several else hit.chunk.path for page in pages for hit in page.hits
    ):
        typer.echo(harmless(path))


def print_hits(pages: list[search_pb.SearchResponse], *, full: bool, several: bool) -> None:
    """Print hits with their code; of how they came about only what one must know, on stderr."""
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
    for searched in pages[0].revisions:
        distance = staleness.distance_to_head(searched.revision, Path.cwd())
        typer.echo(harmless(f"{searched.codebase_id}: {staleness.describe(searched.revision, distance)}"), err=True)
