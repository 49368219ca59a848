"""CodebaseService: codebases, and who may do what with them."""

from typing import Any

import grpc

from duovec.v1 import codebase_service_pb2 as pb
from duovec.v1 import codebase_service_pb2_grpc as pb_grpc
from gateway.errors import InvalidInput
from gateway.rpc import paging, validation
from gateway.rpc.codebase_map import DEFAULT_POINTS, MAX_POINTS, CodebaseMaps
from gateway.rpc.revisions import checked_revision, revision_message
from gateway.spaces.serving import Serving
from gateway.store.access import GrantRow
from gateway.store.codebases import CodebaseStore
from gateway.store.grants import GrantStore
from gateway.store.rows import CodebaseRow

Context = grpc.aio.ServicerContext[Any, Any]


class CodebaseServicer(pb_grpc.CodebaseServiceServicer):
    """Translates between the protos and the stores, which check what the caller may do."""

    def __init__(
        self, codebases: CodebaseStore, grants: GrantStore, maps: CodebaseMaps, serving: Serving, *, timeout_s: float
    ) -> None:
        """Args: serving: Its active space is counted in. timeout_s: Budget of a call, seconds."""
        self._codebases = codebases
        self._grants = grants
        self._maps = maps
        self._serving = serving
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
        space_key = self._serving.active.space_key
        row = await self._codebases.get(codebase_id, space_key=space_key, timeout_s=self._timeout_s)
        return pb.GetCodebaseResponse(codebase=_codebase(row))

    async def ListCodebases(  # noqa: N802
        self, request: pb.ListCodebasesRequest, context: Context
    ) -> pb.ListCodebasesResponse:
        """List codebases by id."""
        page_size = validation.page_size(request.page_size, default=100, limit=1000)
        (after,) = paging.decode_for(request, 1) or ("",)
        space_key = self._serving.active.space_key
        rows = await self._codebases.list(after, page_size + 1, space_key=space_key, timeout_s=self._timeout_s)
        more = len(rows) > page_size
        rows = rows[:page_size]
        return pb.ListCodebasesResponse(
            codebases=[_codebase(row) for row in rows],
            next_page_token=paging.encode_for(request, rows[-1].codebase_id) if more else "",
        )

    async def DeleteCodebase(  # noqa: N802
        self, request: pb.DeleteCodebaseRequest, context: Context
    ) -> pb.DeleteCodebaseResponse:
        """Delete a codebase with all its chunks and vectors."""
        codebase_id = validation.codebase_id(request.codebase_id)
        count = await self._codebases.delete(codebase_id, timeout_s=self._timeout_s)
        return pb.DeleteCodebaseResponse(deleted_chunk_count=count)

    async def BeginUpdate(  # noqa: N802
        self, request: pb.BeginUpdateRequest, context: Context
    ) -> pb.BeginUpdateResponse:
        """Begin an update of a codebase."""
        codebase_id = validation.codebase_id(request.codebase_id)
        number, revision = await self._codebases.begin_update(codebase_id, timeout_s=self._timeout_s)
        return pb.BeginUpdateResponse(
            update_number=number, revision=None if revision is None else revision_message(revision)
        )

    async def SetRevision(  # noqa: N802
        self, request: pb.SetRevisionRequest, context: Context
    ) -> pb.SetRevisionResponse:
        """Record the commit that a codebase holds."""
        codebase_id = validation.codebase_id(request.codebase_id)
        row = await self._codebases.set_revision(
            codebase_id,
            checked_revision("revision", request.revision),
            expected_version=request.expected_version if request.HasField("expected_version") else None,
            update_number=request.update_number,
            timeout_s=self._timeout_s,
        )
        return pb.SetRevisionResponse(revision=revision_message(row))

    async def MapCodebase(  # noqa: N802
        self, request: pb.MapCodebaseRequest, context: Context
    ) -> pb.MapCodebaseResponse:
        """Lay the chunks of a codebase out on a plane."""
        codebase_id = validation.codebase_id(request.codebase_id)
        if not 0 <= request.max_point_count <= MAX_POINTS:
            raise InvalidInput("max_point_count", f"is {request.max_point_count}; use 1 to {MAX_POINTS}, or 0")
        key = await self._codebases.get_key(codebase_id, timeout_s=self._timeout_s)
        return await self._maps.draw(
            key, self._serving.active, request.max_point_count or DEFAULT_POINTS, timeout_s=self._timeout_s
        )

    async def SetGrant(self, request: pb.SetGrantRequest, context: Context) -> pb.SetGrantResponse:  # noqa: N802
        """Give a principal a role on a codebase."""
        codebase_id = validation.slug("grant.codebase_id", request.grant.codebase_id)
        principal_id = validation.slug("grant.principal_id", request.grant.principal_id)
        role = validation.role("grant.role", request.grant.role)
        row = await self._grants.set(codebase_id, principal_id, role, timeout_s=self._timeout_s)
        return pb.SetGrantResponse(grant=_grant(codebase_id, row))

    async def ListGrants(  # noqa: N802
        self, request: pb.ListGrantsRequest, context: Context
    ) -> pb.ListGrantsResponse:
        """List the grants on a codebase."""
        codebase_id = validation.codebase_id(request.codebase_id)
        page_size = validation.page_size(request.page_size, default=100, limit=1000)
        (after,) = paging.decode_for(request, 1) or ("",)
        rows = await self._grants.list(codebase_id, after, page_size + 1, timeout_s=self._timeout_s)
        more, rows = len(rows) > page_size, rows[:page_size]
        return pb.ListGrantsResponse(
            grants=[_grant(codebase_id, row) for row in rows],
            next_page_token=paging.encode_for(request, rows[-1].principal_id) if more else "",
        )

    async def DeleteGrant(  # noqa: N802
        self, request: pb.DeleteGrantRequest, context: Context
    ) -> pb.DeleteGrantResponse:
        """Take a principal's role on a codebase away."""
        codebase_id = validation.codebase_id(request.codebase_id)
        principal_id = validation.slug("principal_id", request.principal_id)
        await self._grants.delete(codebase_id, principal_id, timeout_s=self._timeout_s)
        return pb.DeleteGrantResponse()


def _grant(codebase_id: str, row: GrantRow) -> pb.Grant:
    grant = pb.Grant(codebase_id=codebase_id, principal_id=row.principal_id, role=f"ROLE_{row.role}")
    grant.create_time.FromDatetime(row.create_time)
    return grant


def _codebase(row: CodebaseRow) -> pb.Codebase:
    codebase = pb.Codebase(
        codebase_id=row.codebase_id,
        display_name=row.display_name,
        chunk_count=row.chunk_count,
        pending_chunk_count=row.pending_chunk_count,
        revision=None if row.revision is None else revision_message(row.revision),
    )
    codebase.create_time.FromDatetime(row.create_time)
    return codebase
