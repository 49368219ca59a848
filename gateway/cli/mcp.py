"""`duovec mcp`: code search as tools of an agent, by the Model Context Protocol."""

from pathlib import Path
from typing import Annotated

import grpc
import typer

from gateway.cli.failures import one_line_failures
from gateway.cli.options import DEFAULT_ENDPOINT, ApiKey, Endpoint
from gateway.client.client import Client
from gateway.client.errors import ClientError


@one_line_failures
def mcp(
    root: Annotated[
        list[Path] | None,
        typer.Option(exists=True, file_okay=False, help="Folder that may be indexed, with all below it; repeatable."),
    ] = None,
    codebase: Annotated[str | None, typer.Option(help="Codebase that is searched where a call names none.")] = None,
    http: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Serve streamable HTTP at /mcp, and not stdin and stdout.")
    ] = None,
    allowed_host: Annotated[
        list[str] | None, typer.Option(help="Name of a proxy that --http is called through; repeatable.")
    ] = None,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    api_key: ApiKey = None,
) -> None:
    """Serve agents by the Model Context Protocol: search, read, find similar, list, and index folders.

    By default on stdin and stdout, as an agent starts it, with your API key. With --http every caller sends a key of
    its own (`authorization: Bearer`). Without --root nothing can be indexed.

    Examples:

        duovec mcp --root . --codebase mine

        duovec mcp --http 127.0.0.1:8765
    """
    try:
        from gateway.mcp.http import ClientPool, check_loopback, http_app, serve
        from gateway.mcp.roots import Roots
        from gateway.mcp.server import make_server
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("gateway"):
            raise
        raise ClientError(
            f"the package {error.name} is missing: pip install 'duovec[mcp]'",
            code=grpc.StatusCode.FAILED_PRECONDITION,
        ) from error
    roots = Roots(root or [])
    if http is None:
        with Client(endpoint, api_key=api_key) as client:
            make_server(lambda _: client, roots=roots, default_codebase=codebase).run()
        return
    host, _, port = http.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise typer.BadParameter(f"{http!r} is not HOST:PORT", param_hint="--http")
    check_loopback(host.strip("[]"))
    pool = ClientPool(lambda key: Client(endpoint, api_key=key))
    try:
        app = http_app(
            make_server(pool.client_of, roots=roots, default_codebase=codebase), allowed_hosts=allowed_host or ()
        )
        typer.echo(f"serving MCP at http://{http}/mcp, until Ctrl-C", err=True)
        serve(app, host.strip("[]"), int(port))
    finally:
        pool.close()
