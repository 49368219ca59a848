"""Errors as an agent needs them: what failed, and what to do next."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec

import grpc
from mcp import MCPError
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import INVALID_PARAMS

from gateway.cli.terminal import harmless
from gateway.client.errors import ClientError

_P = ParamSpec("_P")

_BY_REASON = {
    "CODEBASE_NOT_FOUND": "call list_codebases for those that there are",
    "CHUNK_NOT_FOUND": "search again: a file that is indexed anew has new chunk ids",
    "ROLE_REQUIRED": "ask the user to have it granted by `duovec grant add`",
    "TEXT_TOO_LONG": "send a shorter text",
    "API_KEY_MISSING": "ask the user for an API key, in DUOVEC_API_KEY, or over HTTP as bearer token",
}
_BY_CODE = {
    grpc.StatusCode.UNAUTHENTICATED: "ask the user for an API key that is valid, by `duovec key create`",
    grpc.StatusCode.UNAVAILABLE: "ask the user whether the service runs (`duovec status`), then try again",
    grpc.StatusCode.DEADLINE_EXCEEDED: "try again",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "wait, then try again",
    grpc.StatusCode.INVALID_ARGUMENT: "correct the argument that is named",
}


def explained(error: ClientError | OSError) -> ToolError:
    """An error of client or system as a tool's: one line of what failed and what to do next."""
    if isinstance(error, OSError):
        return ToolError(harmless(f"{error}. Next: check the folder."))
    next_step = _BY_REASON.get(error.reason) or _BY_CODE.get(error.code)
    if error.retry_delay_s is not None:
        next_step = f"try again in {error.retry_delay_s:.0f} s"
    return ToolError(harmless(f"{error}. Next: {next_step}." if next_step else f"{error}."))


def failing_as_tools_do(tool: Callable[_P, str]) -> Callable[_P, str]:
    """Wrap a tool, so that errors of client and system are those of a tool; others stay, and are logged as bugs."""

    @functools.wraps(tool)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> str:
        try:
            return tool(*args, **kwargs)
        except (ClientError, OSError) as error:
            raise explained(error) from error

    return wrapped


async def refusing_prompts(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Refuse every prompt as the protocol says, for there is none.

    The SDK takes a prompt it does not know for a fault of the server: an internal error, with a traceback in the log.

    Raises:
        MCPError: A prompt is asked for.
    """
    if ctx.method == "prompts/get":
        raise MCPError(INVALID_PARAMS, "this server has no prompts; call its tools")
    return await call_next(ctx)
