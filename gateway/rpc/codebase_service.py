"""CodebaseService: create, get, list, delete."""

from typing import Any

import grpc

from duovec.v1 import codebase_service_pb2 as pb
from duovec.v1 import codebase_service_pb2_grpc as pb_grpc
from gateway.rpc import paging, validation
from gateway.store.codebases import CodebaseStore
from gateway.store.rows import CodebaseRow

Context = grpc.aio.ServicerContext[Any, Any]


class CodebaseServicer(pb_grpc.CodebaseServiceServicer):
    """Translates between the protos and the store."""

    def __init__(self, codebases: CodebaseStore, *, space_key: int, timeout_s: float) -> None:
        """Args: space_key: The space that chunks are counted in. timeout_s: Budget of a call, seconds."""
        self._codebases = codebases
        self._space_key = space_key
        self._timeout_s = timeout_s

    async def CreateCodebase(  # noqa: N802
        self, request: pb.CreateCodebaseRequest, context: Context
    ) -> pb.CreateCodebaseResponse:
        """Create a codebase."""
        codebase_id = validation.codebase_id(request.codebase_id)
        display_name = validation.label("display_name", request.display_name, limit=validation.MAX_DISPLAY_NAME_CHARS)
        row = await self._codebases.create(codebase_id, display_name or codebase_id, timeout_s=self._timeout_s)
        return pb.CreateCodebaseResponse(codebase=_codebase(row))

    async def GetCodebase(  # noqa: N802
        self, request: pb.GetCodebaseRequest, context: Context
    ) -> pb.GetCodebaseResponse:
        """Get one codebase."""
        codebase_id = validation.codebase_id(request.codebase_id)
        row = await self._codebases.get(codebase_id, space_key=self._space_key, timeout_s=self._timeout_s)
        return pb.GetCodebaseResponse(codebase=_codebase(row))

    async def ListCodebases(  # noqa: N802
        self, request: pb.ListCodebasesRequest, context: Context
    ) -> pb.ListCodebasesResponse:
        """List codebases by id."""
        page_size = validation.page_size(request.page_size, default=100, limit=1000)
        (after,) = paging.decode(request.page_token, 1) or ("",)
        rows = await self._codebases.list(after, page_size + 1, space_key=self._space_key, timeout_s=self._timeout_s)
        more = len(rows) > page_size
        rows = rows[:page_size]
        return pb.ListCodebasesResponse(
            codebases=[_codebase(row) for row in rows],
            next_page_token=paging.encode(rows[-1].codebase_id) if more else "",
        )

    async def DeleteCodebase(  # noqa: N802
        self, request: pb.DeleteCodebaseRequest, context: Context
    ) -> pb.DeleteCodebaseResponse:
        """Delete a codebase with all its chunks and vectors."""
        codebase_id = validation.codebase_id(request.codebase_id)
        count = await self._codebases.delete(codebase_id, timeout_s=self._timeout_s)
        return pb.DeleteCodebaseResponse(deleted_chunk_count=count)


def _codebase(row: CodebaseRow) -> pb.Codebase:
    codebase = pb.Codebase(
        codebase_id=row.codebase_id,
        display_name=row.display_name,
        chunk_count=row.chunk_count,
        pending_chunk_count=row.pending_chunk_count,
    )
    codebase.create_time.FromDatetime(row.create_time)
    return codebase
