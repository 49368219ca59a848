"""The tool that indexes a folder."""

import functools
import threading
import time
from collections.abc import Callable
from typing import Annotated, Any

import anyio.from_thread
import anyio.to_thread
import grpc
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

from gateway.client.client import Client
from gateway.client.errors import ClientError
from gateway.client.indexer import index_tree
from gateway.mcp import rendering
from gateway.mcp.failures import explained
from gateway.mcp.roots import Roots

_PROGRESS_EVERY_S = 0.5


def add_index_folder(server: MCPServer[Any], client_of: Callable[[Context[Any]], Client], roots: Roots) -> None:
    """Add `index_folder` to a server.

    Files are read from the disk by the rules of `duovec index`, which follows no link. Git is not asked: a repository
    may lead to objects that lie elsewhere.

    Args:
        server: The server.
        client_of: Gives the client of a call.
        roots: What may be indexed, one at least.
    """
    running: set[str] = set()

    @server.tool(
        title="Index or refresh a folder",
        annotations=ToolAnnotations(
            read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False
        ),
        structured_output=False,
    )
    async def index_folder(
        folder: Annotated[str, Field(min_length=1, description=f"Absolute, or relative to {roots.folders[0]}.")],
        codebase: Annotated[str, Field(min_length=1, description="Codebase id; it is made where it is missing.")],
        context: Context[Any],
    ) -> str:
        """Bring a codebase into line with a folder, for the first time or again: only what changed is sent."""
        progress = _Progress(context)
        try:
            path = roots.find(folder)
            if codebase in running:
                raise ClientError(
                    f"{codebase!r} is being indexed; wait for its end", code=grpc.StatusCode.FAILED_PRECONDITION
                )
            running.add(codebase)
            try:
                report = await anyio.to_thread.run_sync(
                    functools.partial(index_tree, client_of(context), path, codebase, progress=progress),
                    abandon_on_cancel=True,
                )
            finally:
                progress.stop()
                running.discard(codebase)
        except (ClientError, OSError) as error:
            raise explained(error) from error
        if report.chunks_failed:
            raise ToolError(f"{rendering.indexed(report)}\nNext: index the folder again.")
        return rendering.indexed(report)


class _Progress:
    """Tells the caller how far an indexer is, and ends the indexer when the caller gave up."""

    def __init__(self, context: Context[Any]) -> None:
        self._context = context
        self._stopped = threading.Event()
        self._done, self._total = 0, 0
        self._told_at = 0.0

    def stop(self) -> None:
        self._stopped.set()

    def files_found(self, count: int) -> None:
        self._total = count

    def file_done(self, path: str) -> None:
        self._done += 1
        self._tell()

    def chunk_done(self) -> None:
        self._tell()

    def waiting(self, refusal: ClientError, seconds: float) -> None:
        self._tell()

    def _tell(self) -> None:
        if self._stopped.is_set():
            raise ClientError("the caller gave up", code=grpc.StatusCode.CANCELLED)
        if time.monotonic() - self._told_at > _PROGRESS_EVERY_S:
            self._told_at = time.monotonic()
            anyio.from_thread.run(self._context.report_progress, self._done, self._total, "files")
