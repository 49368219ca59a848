"""The MCP server: code search as tools of an agent."""

import importlib.metadata
from collections.abc import Callable
from typing import Annotated, Any

import grpc
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp_types import ToolAnnotations
from pydantic import Field

from gateway.client.client import Client
from gateway.client.errors import ClientError
from gateway.mcp import rendering
from gateway.mcp.failures import failing_as_tools_do, refusing_prompts
from gateway.mcp.indexing import add_index_folder
from gateway.mcp.roots import Roots

_INSTRUCTIONS = """Finds code by what it does. Begin with search_code: words for what the code is to do, or identifiers.
Every hit has path:line and a chunk_id: read more of it with read_chunk, find what resembles it with find_similar."""
_CODEBASES_NAMED = 20

Codebase = Annotated[
    str | None, Field(description="Codebase id, as list_codebases gives it; without it the default, or the only one.")
]
Limit = Annotated[int, Field(ge=1, le=20, description="Hits at most.")]
Paths = Annotated[list[str] | None, Field(description="Patterns of paths, such as src/**/*.py; one must match.")]
Languages = Annotated[list[str] | None, Field(description="Such as python; one must be the code's.")]
Kinds = Annotated[list[str] | None, Field(description="function, method, class or text; one must be the code's.")]
Query = Annotated[str, Field(min_length=1, description="What the code does, in words, or identifiers in it.")]


def make_server(
    client_of: Callable[[Context[Any]], Client], *, roots: Roots, default_codebase: str | None = None
) -> MCPServer[Any]:
    """Make the server; its own methods run it.

    Args:
        client_of: Gives the client of a call.
        roots: What may be indexed; without any there is no `index_folder`.
        default_codebase: What is searched where a call names none.
    """
    server: MCPServer[Any] = MCPServer(
        "duovec",
        version=importlib.metadata.version("duovec"),
        instructions=_INSTRUCTIONS,
        log_level="WARNING",
        middleware=[refusing_prompts],
    )
    reads = ToolAnnotations(read_only_hint=True, open_world_hint=False)

    @server.tool(title="Search code", annotations=reads, structured_output=False)
    @failing_as_tools_do
    def search_code(
        query: Query,
        context: Context[Any],
        codebase: Codebase = None,
        paths: Paths = None,
        languages: Languages = None,
        kinds: Kinds = None,
        limit: Limit = 5,
    ) -> str:
        """Find code by what it does: best hits first, with path:line, chunk_id and their first lines."""
        client = client_of(context)
        codebase_id = _chosen(client, codebase or default_codebase)
        response = client.search(
            codebase_id,
            query,
            limit=limit,
            paths=paths or (),
            languages=languages or (),
            kinds=kinds or (),
            truncate=True,
        )
        return rendering.hits(response, codebase_id)

    @server.tool(title="Find similar code", annotations=reads, structured_output=False)
    @failing_as_tools_do
    def find_similar(
        context: Context[Any],
        chunk_id: Annotated[int | None, Field(ge=1, description="The chunk_id of a hit.")] = None,
        code: Annotated[str | None, Field(min_length=1, description="A piece of code.")] = None,
        codebase: Codebase = None,
        limit: Limit = 5,
    ) -> str:
        """Find code that resembles a hit, or a piece of code; give one of chunk_id and code."""
        if (chunk_id is None) == (code is None):
            raise ClientError("give one of chunk_id and code", code=grpc.StatusCode.INVALID_ARGUMENT)
        client = client_of(context)
        codebase_id = _chosen(client, codebase or default_codebase)
        response = client.search(codebase_id, code=code or "", like_chunk_id=chunk_id, limit=limit, truncate=True)
        return rendering.hits(response, codebase_id)

    @server.tool(title="Read a chunk", annotations=reads, structured_output=False)
    @failing_as_tools_do
    def read_chunk(
        chunk_id: Annotated[int, Field(ge=1, description="The chunk_id of a hit.")],
        context: Context[Any],
        codebase: Codebase = None,
        neighbors: Annotated[int, Field(ge=0, le=10, description="Chunks before it, and after it.")] = 1,
    ) -> str:
        """Read a hit in full, with line numbers, between the chunks around it in its file."""
        client = client_of(context)
        codebase_id = _chosen(client, codebase or default_codebase)
        return rendering.chunk_with_neighbors(client.get_chunk(codebase_id, chunk_id, neighbor_count=neighbors))

    @server.tool(title="List codebases", annotations=reads, structured_output=False)
    @failing_as_tools_do
    def list_codebases(context: Context[Any]) -> str:
        """List what can be searched: how many chunks each has, and of which commit."""
        return rendering.codebases(client_of(context).list_codebases())

    if roots.folders:
        add_index_folder(server, client_of, roots)
    return server


def _chosen(client: Client, codebase_id: str | None) -> str:
    if codebase_id:
        return codebase_id
    ids = [row.codebase_id for row in client.list_codebases()]
    if len(ids) == 1:
        return ids[0]
    there = f"there are {', '.join(ids[:_CODEBASES_NAMED])}" if ids else "there is none yet"
    raise ClientError(f"name a codebase: {there}", code=grpc.StatusCode.INVALID_ARGUMENT)
