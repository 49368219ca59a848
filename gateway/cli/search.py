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


@one_line_failures
def search(
    query: Annotated[str, typer.Argument(help="Words or code.")],
    codebase: Annotated[str | None, typer.Option(help="Codebase id; may be left out where there is only one.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="Hits at most.")] = 10,
    full: Annotated[bool, typer.Option("--full", help="Show whole chunks, not their first lines.")] = False,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Search a codebase; best hits first.

    Examples:

        duovec search "where are connections returned to the pool"

        duovec search "def retry(" --codebase linux --limit 3 --full
    """
    with Client(endpoint, api_key=api_key) as client:
        codebase_id = codebase or _only_codebase(client)
        response = client.search(codebase_id, query, limit=limit)
    if as_json:
        typer.echo(json.dumps(_to_dict(codebase_id, query, response)))
    else:
        _print_hits(response, full=full)


def _only_codebase(client: Client) -> str:
    ids = [codebase.codebase_id for codebase in client.list_codebases()]
    if len(ids) == 1:
        return ids[0]
    listed = f"choose one with --codebase: {', '.join(ids)}" if ids else "there is none; make one with `duovec index`"
    raise ClientError(f"which codebase? {listed}", code=grpc.StatusCode.INVALID_ARGUMENT)


def _to_dict(codebase_id: str, query: str, response: search_pb.SearchResponse) -> dict[str, object]:
    return {
        "codebase_id": codebase_id,
        "query": query,
        "space": response.space,
        "exact": response.exact,
        "searched_chunk_count": response.searched_chunk_count,
        "pending_chunk_count": response.pending_chunk_count,
        "hits": [
            {
                "score": hit.score,
                "chunk_id": hit.chunk_id,
                "path": hit.chunk.path,
                "start_line": hit.chunk.start_line,
                "end_line": hit.chunk.end_line,
                "symbol": hit.chunk.symbol,
                "kind": hit.chunk.kind,
                "language": hit.chunk.language,
                "content": hit.chunk.content,
            }
            for hit in response.hits
        ],
    }


def _print_hits(response: search_pb.SearchResponse, *, full: bool) -> None:
    console = Console()
    if not response.hits:
        console.print("no hits")
    for rank, hit in enumerate(response.hits, 1):
        chunk = hit.chunk
        where = escape(harmless(f"{chunk.path}:{chunk.start_line}-{chunk.end_line}"))
        console.print(
            f"[bold]{rank:2}  {hit.score:.3f}[/]  [cyan]{where}[/]  {escape(harmless(chunk.symbol))}",
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
    if response.pending_chunk_count:
        typer.echo(f"note: {response.pending_chunk_count} chunks have no vector yet and could not be found", err=True)
