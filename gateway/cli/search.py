"""`duovec search`: find code by what it does."""

import json
from pathlib import Path
from typing import Annotated, Any

import grpc
import typer

from duovec.v1 import search_service_pb2 as search_pb
from gateway.cli.failures import one_line_failures
from gateway.cli.hits import print_files, print_hits, to_dict
from gateway.cli.locating import locate, source_folders
from gateway.cli.options import DEFAULT_ENDPOINT, ApiKey, AsJson, Endpoint
from gateway.client.client import Client
from gateway.client.errors import ClientError


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
    interactive: Annotated[
        bool,
        typer.Option("--interactive", "-i", help="Search while you type; Enter opens the hit in $VISUAL or $EDITOR."),
    ] = False,
    root: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="With -i: the folder that was indexed; by default this one."),
    ] = None,
    files_with_matches: Annotated[
        bool, typer.Option("--files-with-matches", "-l", help="Print the files of the hits, one a line, and no code.")
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

        duovec search -i

        vim $(duovec search "parse a header" -l)
    """
    if interactive:
        if query == "-" or like is not None or code or as_json or files_with_matches:
            raise typer.BadParameter("takes words alone, and prints nothing", param_hint="--interactive")
    elif (query is None) == (like is None):
        raise typer.BadParameter("give a query or --like, and not both", param_hint="QUERY")
    if lexical is not None and not hybrid:
        raise typer.BadParameter("--no-hybrid leaves no share for words", param_hint="--lexical")
    if files_with_matches and as_json:
        raise typer.BadParameter("--json has the paths, too; give one of the two", param_hint="--files-with-matches")
    text = typer.get_text_stream("stdin").read() if query == "-" else query or ""
    filters: dict[str, Any] = {
        "paths": path or (),
        "languages": language or (),
        "kinds": kind or (),
        "min_score": min_score,
        "blend": blend,
        "lexical_weight": lexical if hybrid else 0.0,
        "allow_degraded": allow_degraded,
        "truncate": truncate,
    }
    times: list[dict[str, float]] = []
    with Client(endpoint, api_key=api_key, on_timing=times.append if timing else None) as client:
        codebase_ids = codebase or [_only_codebase(client)]
        if interactive:
            _pick(client, codebase_ids, text, limit=min(limit, page_size), root=root, filters=filters)
            return
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
                    **filters,
                )
            )
    if as_json:
        typer.echo(json.dumps(to_dict(codebase_ids, text, pages) | ({"timing_ms": times} if timing else {})))
    elif files_with_matches:
        print_files(pages, several=len(codebase_ids) > 1)
    else:
        print_hits(pages, full=full, several=len(codebase_ids) > 1)
        for page, stages in enumerate(times, 1):
            told = ", ".join(f"{stage} {duration:.1f} ms" for stage, duration in stages.items())
            typer.echo(f"page {page}: {told or 'the service does not say'}", err=True)


def _pick(
    client: Client, codebase_ids: list[str], text: str, *, limit: int, root: Path | None, filters: dict[str, Any]
) -> None:
    """Search while somebody types."""
    # The screen's packages are loaded by no other command.
    from gateway.cli.interactive import Asked, Picker

    folders = source_folders(root)
    asked = Asked(
        search=lambda query, logged: client.search(codebase_ids, query, limit=limit, unlogged=not logged, **filters),
        opened=lambda response, hit: client.record_feedback(response.search_id, opened=[hit.chunk_id]),
        locate=lambda hit: locate(hit.chunk.path, folders),
    )
    Picker(asked, several=len(codebase_ids) > 1, text=text).run()


def _hit_count(pages: list[search_pb.SearchResponse]) -> int:
    return sum(len(page.hits) for page in pages)


def _only_codebase(client: Client) -> str:
    ids = [codebase.codebase_id for codebase in client.list_codebases()]
    if len(ids) == 1:
        return ids[0]
    listed = f"choose one with --codebase: {', '.join(ids)}" if ids else "there is none; make one with `duovec index`"
    raise ClientError(f"which codebase? {listed}", code=grpc.StatusCode.INVALID_ARGUMENT)
