"""SpaceService: spaces, and changing to another one."""

import asyncio
import logging
import re
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import grpc

from duovec.v1 import space_service_pb2 as pb
from duovec.v1 import space_service_pb2_grpc as pb_grpc
from gateway.embedding.space import Space
from gateway.errors import DuovecError, InvalidInput, SpaceIncomplete, SpaceNotFound, SpaceNotReady, StartupError
from gateway.rpc.timestamps import timestamp
from gateway.spaces.catalog import SpaceCatalog
from gateway.spaces.serving import Serving
from gateway.store.principals import PrincipalStore
from gateway.store.rows import SpaceRow
from gateway.store.space_vectors import SpaceVectorStore
from gateway.store.spaces import SpaceStore

Context = grpc.aio.ServicerContext[Any, Any]

logger = logging.getLogger(__name__)

MIN_RATE, MAX_RATE = 0.1, 1_000_000.0
_PREFIX = re.compile(r"[0-9a-f]{8,64}")
# A stream of new chunks leaves some without a vector for a moment: the stream is held, and those are waited for.
_ACTIVATION_WAIT_S = 20.0
_ACTIVATION_PAUSE_S = 0.5


class SpaceServicer(pb_grpc.SpaceServiceServicer):
    """Translates between the protos and the stores, for administrators."""

    def __init__(
        self,
        spaces: SpaceStore,
        vectors: SpaceVectorStore,
        catalog: SpaceCatalog,
        serving: Serving,
        principals: PrincipalStore,
        *,
        timeout_s: float,
    ) -> None:
        """Args: spaces, vectors: As administrators. principals: As the caller. timeout_s: Budget of a call, seconds."""
        self._spaces = spaces
        self._vectors = vectors
        self._catalog = catalog
        self._serving = serving
        self._principals = principals
        self._timeout_s = timeout_s

    async def ListSpaces(  # noqa: N802
        self, request: pb.ListSpacesRequest, context: Context
    ) -> pb.ListSpacesResponse:
        """List the spaces."""
        await self._require_admin()
        spaces = [await self._describe(row) for row in await self._spaces.list(timeout_s=self._timeout_s)]
        try:
            served = (await asyncio.to_thread(self._catalog.served)).fingerprint
        except StartupError:
            served = ""  # an encoder was unpublished under the running service; the spaces are there all the same
        return pb.ListSpacesResponse(spaces=spaces, served_space=served)

    async def GetSpace(self, request: pb.GetSpaceRequest, context: Context) -> pb.GetSpaceResponse:  # noqa: N802
        """Get one space."""
        await self._require_admin()
        return pb.GetSpaceResponse(space=await self._describe(await self._find(request.space)))

    async def BuildSpace(  # noqa: N802
        self, request: pb.BuildSpaceRequest, context: Context
    ) -> pb.BuildSpaceResponse:
        """Make a space of two versions."""
        await self._require_admin()
        for field in ("code_version", "text_version"):
            if getattr(request, field) < 0:
                raise InvalidInput(field, f"is {getattr(request, field)}; send a version, or 0 for the served one")
        try:
            space = await asyncio.to_thread(self._catalog.of_versions, request.code_version, request.text_version)
        except StartupError as exc:
            raise SpaceNotReady(str(exc)) from exc
        await self._check_loaded(space)
        row = await self._spaces.build(space.fingerprint, space.identity, timeout_s=self._timeout_s)
        return pb.BuildSpaceResponse(space=await self._describe(row))

    async def ReembedSpace(  # noqa: N802
        self, request: pb.ReembedSpaceRequest, context: Context
    ) -> pb.ReembedSpaceResponse:
        """Start, change or stop filling a space."""
        await self._require_admin()
        rate = request.max_chunks_per_second
        if rate and not MIN_RATE <= rate <= MAX_RATE:  # NaN too
            raise InvalidInput("max_chunks_per_second", f"is {rate:g}; use {MIN_RATE:g} to {MAX_RATE:g}, or 0")
        row = await self._find(request.space)
        if not request.stop:
            await self._catalog.embedder(row.fingerprint, row.manifest)
        row = await self._spaces.set_filling(
            row.space_key, filling=not request.stop, rate=rate or None, timeout_s=self._timeout_s
        )
        await self._follow()
        return pb.ReembedSpaceResponse(space=await self._describe(row))

    async def ActivateSpace(  # noqa: N802
        self, request: pb.ActivateSpaceRequest, context: Context
    ) -> pb.ActivateSpaceResponse:
        """Have a space searched and written to."""
        await self._require_admin()
        row = await self._find(request.space)
        return pb.ActivateSpaceResponse(space=await self._activate(row))

    async def RollbackSpace(  # noqa: N802
        self, request: pb.RollbackSpaceRequest, context: Context
    ) -> pb.RollbackSpaceResponse:
        """Activate the space that was active before."""
        await self._require_admin()
        space_key = await self._spaces.find_rollback_target(timeout_s=self._timeout_s)
        return pb.RollbackSpaceResponse(space=await self._activate(await self._spaces.get(space_key)))

    async def DropSpace(self, request: pb.DropSpaceRequest, context: Context) -> pb.DropSpaceResponse:  # noqa: N802
        """Delete a space with its vectors."""
        await self._require_admin()
        row = await self._find(request.space)
        await self._spaces.drop(row.space_key, timeout_s=self._timeout_s)
        await self._follow()
        return pb.DropSpaceResponse()

    async def _follow(self) -> None:
        """Take up what was changed. It is done: who is told that it failed would do it, or a roll-back, again."""
        try:
            await self._serving.refresh()
        except DuovecError as exc:
            logger.warning("the spaces are looked at again soon: %s", exc)

    async def _require_admin(self) -> None:
        await self._principals.require_admin(timeout_s=self._timeout_s)

    async def _find(self, named: str) -> SpaceRow:
        if not _PREFIX.fullmatch(named):
            raise InvalidInput("space", f"is {named[:80]!r}; send a fingerprint, or its first 8 or more hex digits")
        rows = [row for row in await self._spaces.list(timeout_s=self._timeout_s) if row.fingerprint.startswith(named)]
        if not rows:
            raise SpaceNotFound(f"there is no space {named}; `duovec space list` shows them")
        if len(rows) > 1:
            raise InvalidInput("space", f"is {named!r}, which {len(rows)} spaces begin with; send more digits")
        return rows[0]

    async def _check_loaded(self, space: Space) -> None:
        """Refuse a version that Triton does not keep loaded, before chunks are embedded in vain."""
        if await self._catalog.find(space.fingerprint, space.identity) is None:
            raise SpaceNotReady(
                f"{space.code.name} version {space.code.version} or {space.text.name} version {space.text.version} is "
                "not kept loaded; publish it with duovec-export"
            )

    async def _activate(self, row: SpaceRow) -> pb.Space:
        """Activate once this gateway can embed in the space, and no chunk lacks a vector."""
        embedder = await self._catalog.embedder(row.fingerprint, row.manifest)
        await embedder.check_ready(timeout_s=self._timeout_s)
        await embedder.prove(timeout_s=self._timeout_s)
        try:
            activated = await self._spaces.activate(row.space_key, timeout_s=self._timeout_s)
        except SpaceIncomplete:
            async with self._serving.writers_held():
                activated = await self._activate_soon(row)
        await self._follow()
        return await self._describe(activated)

    async def _activate_soon(self, row: SpaceRow) -> SpaceRow:
        """Wait a little for the last chunks, which the re-embedding gives their vectors."""
        end = time.monotonic() + _ACTIVATION_WAIT_S
        while True:
            try:
                return await self._spaces.activate(row.space_key, timeout_s=self._timeout_s)
            except SpaceIncomplete:
                if time.monotonic() >= end:
                    raise
                await asyncio.sleep(_ACTIVATION_PAUSE_S)

    async def _describe(self, row: SpaceRow) -> pb.Space:
        try:
            space = await self._catalog.find(row.fingerprint, row.manifest)
        except StartupError:
            space = None
        coverage = await self._vectors.count(row.space_key, timeout_s=self._timeout_s)
        message = pb.Space(
            fingerprint=row.fingerprint,
            state=f"SPACE_STATE_{row.state}",
            code_encoder=_encoder(row.manifest["code"], space.code.version if space else 0),
            text_encoder=_encoder(row.manifest["text"], space.text.version if space else 0),
            chunk_count=coverage.chunk_count,
            pending_chunk_count=coverage.pending_chunk_count,
            reembedding=row.filling,
            max_chunks_per_second=row.fill_rate or 0.0,
            error=row.fill_error,
            truncated_chunk_count=row.truncated_chunk_count,
            verification=_verification(row.verification),
            activate_time=timestamp(row.activate_time),
        )
        message.create_time.FromDatetime(row.create_time)
        return message


def _encoder(identity: Mapping[str, Any], version: int) -> pb.SpaceEncoder:
    return pb.SpaceEncoder(
        name=identity["encoder"], version=version, dimension=identity["dimension"], precision=identity["precision"]
    )


def _verification(found: Mapping[str, Any] | None) -> pb.SpaceVerification | None:
    if found is None:
        return None
    recall, retrieval = found["recall"], found["retrieval"]
    return pb.SpaceVerification(
        passed=found["passed"],
        faults=found["faults"],
        notices=found.get("notices", ()),  # what was verified by an older gateway has none
        time=timestamp(datetime.fromisoformat(found["time"])),
        recomputed_count=found["recomputed_count"],
        min_cosine=found["min_cosine"],
        mean_recall=recall["mean"] if recall else None,
        min_recall=recall["minimum"] if recall else None,
        question_count=retrieval["query_count"] if retrieval else 0,
        mrr=retrieval["mrr"] if retrieval else 0.0,
        active_mrr=retrieval["active_mrr"] if retrieval else 0.0,
    )
