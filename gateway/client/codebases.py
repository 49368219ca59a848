"""Codebases and what is stored of them: a part of the client."""

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace

from duovec.v1 import chunk_pb2 as chunk_pb
from duovec.v1 import codebase_service_pb2 as codebase_pb
from duovec.v1 import index_service_pb2 as index_pb
from duovec.v1 import revision_pb2 as revision_pb
from gateway.client.dual import Mode, Part, dual, dual_iterator
from gateway.client.errors import ClientError, from_status
from gateway.client.rpc import Rpc
from gateway.client.stream import each, exchange

_BEGIN_UPDATE = Rpc("duovec.v1.CodebaseService/BeginUpdate", codebase_pb.BeginUpdateResponse)
_CREATE_CODEBASE = Rpc("duovec.v1.CodebaseService/CreateCodebase", codebase_pb.CreateCodebaseResponse, repeatable=False)
_DELETE_CHUNKS = Rpc("duovec.v1.IndexService/DeleteChunks", index_pb.DeleteChunksResponse)
_DELETE_CODEBASE = Rpc("duovec.v1.CodebaseService/DeleteCodebase", codebase_pb.DeleteCodebaseResponse, repeatable=False)
_GET_CHUNK = Rpc("duovec.v1.IndexService/GetChunk", index_pb.GetChunkResponse)
_GET_CODEBASE = Rpc("duovec.v1.CodebaseService/GetCodebase", codebase_pb.GetCodebaseResponse)
_LIST_CODEBASES = Rpc("duovec.v1.CodebaseService/ListCodebases", codebase_pb.ListCodebasesResponse)
_LIST_FILES = Rpc("duovec.v1.IndexService/ListFiles", index_pb.ListFilesResponse)
_MAP_CODEBASE = Rpc("duovec.v1.CodebaseService/MapCodebase", codebase_pb.MapCodebaseResponse)
_SET_REVISION = Rpc("duovec.v1.CodebaseService/SetRevision", codebase_pb.SetRevisionResponse)
INDEX_CHUNKS = Rpc("duovec.v1.IndexService/IndexChunks", index_pb.IndexChunksResponse)


class Codebases(Part[Mode]):
    """Methods of a client."""

    @dual
    async def create_codebase(self, codebase_id: str, *, display_name: str = "") -> codebase_pb.Codebase:
        """Create a codebase; ALREADY_EXISTS where there is one."""
        request = codebase_pb.CreateCodebaseRequest(codebase_id=codebase_id, display_name=display_name)
        response = await self._connection.call(_CREATE_CODEBASE, request)
        return response.codebase

    @dual
    async def get_codebase(self, codebase_id: str) -> codebase_pb.Codebase:
        """Get one codebase; NOT_FOUND where there is none."""
        request = codebase_pb.GetCodebaseRequest(codebase_id=codebase_id)
        response = await self._connection.call(_GET_CODEBASE, request)
        return response.codebase

    @dual_iterator
    async def list_codebases(self) -> AsyncGenerator[codebase_pb.Codebase]:
        """Yield all codebases by id, page by page."""
        request = codebase_pb.ListCodebasesRequest(page_size=1000)
        async for response in self._connection.pages(_LIST_CODEBASES, request):
            for item in response.codebases:
                yield item

    @dual
    async def map_codebase(self, codebase_id: str, *, max_point_count: int = 0) -> codebase_pb.MapCodebaseResponse:
        """Lay up to 2,000 chunks of a codebase out on a plane, where similar code lies together; 0 means 1,000."""
        request = codebase_pb.MapCodebaseRequest(codebase_id=codebase_id, max_point_count=max_point_count)
        return await self._connection.call(_MAP_CODEBASE, request)

    @dual
    async def begin_update(self, codebase_id: str) -> codebase_pb.BeginUpdateResponse:
        """Begin what will bring a codebase into line with a commit; `set_revision` tells whether others wrote since."""
        return await self._connection.call(_BEGIN_UPDATE, codebase_pb.BeginUpdateRequest(codebase_id=codebase_id))

    @dual
    async def set_revision(
        self,
        codebase_id: str,
        revision: revision_pb.Revision,
        *,
        expected_version: int | None = None,
        update_number: int = 0,
    ) -> revision_pb.Revision:
        """Record the commit that a codebase holds.

        FAILED_PRECONDITION where another version is recorded by now, or others wrote since the update began.
        """
        request = codebase_pb.SetRevisionRequest(
            codebase_id=codebase_id, revision=revision, expected_version=expected_version, update_number=update_number
        )
        # Repeated after a reply that was lost, it would find its own version and take it for another's.
        rpc = replace(_SET_REVISION, repeatable=expected_version is None)
        response = await self._connection.call(rpc, request)
        return response.revision

    @dual
    async def delete_codebase(self, codebase_id: str) -> int:
        """Delete a codebase with all it holds; gives the number of chunks deleted."""
        request = codebase_pb.DeleteCodebaseRequest(codebase_id=codebase_id)
        response = await self._connection.call(_DELETE_CODEBASE, request)
        return response.deleted_chunk_count

    @dual_iterator
    async def list_files(self, codebase_id: str) -> AsyncGenerator[index_pb.FileVersion]:
        """Yield the stored versions of files by path, page by page."""
        request = index_pb.ListFilesRequest(codebase_id=codebase_id, page_size=10_000)
        async for response in self._connection.pages(_LIST_FILES, request):
            for item in response.files:
                yield item

    @dual
    async def get_chunk(self, codebase_id: str, chunk_id: int, *, neighbor_count: int = 0) -> index_pb.GetChunkResponse:
        """Get a stored chunk, and up to 20 before and after it in its file."""
        request = index_pb.GetChunkRequest(codebase_id=codebase_id, chunk_id=chunk_id, neighbor_count=neighbor_count)
        return await self._connection.call(_GET_CHUNK, request)

    @dual
    async def delete_files(
        self,
        codebase_id: str,
        files: Sequence[index_pb.DeleteChunksRequest.FileSelector],
        *,
        update_number: int = 0,
    ) -> int:
        """Delete the chunks of 1 to 1,000 paths, all versions or all but one; gives the number of chunks deleted."""
        request = index_pb.DeleteChunksRequest(codebase_id=codebase_id, files=files, update_number=update_number)
        response = await self._connection.call(_DELETE_CHUNKS, request)
        return response.deleted_chunk_count

    @dual_iterator
    async def index_chunks(
        self,
        codebase_id: str,
        chunks: Iterable[chunk_pb.Chunk] | AsyncIterable[chunk_pb.Chunk],
        *,
        truncate: bool = False,
        space: str = "",
        update_number: int = 0,
        window: int = 512,
        stall_timeout_s: float = 600.0,
    ) -> AsyncGenerator[tuple[chunk_pb.Chunk, index_pb.IndexedChunk | ClientError]]:
        """Embed and store chunks as they come, and yield each with what became of it, in the order of the replies.

        Chunks are sent ahead of their replies. When the connection breaks, a new one is made, and what was not
        answered is sent again; a chunk that is refused for now is, too, for two minutes, or as long as it takes where a
        quota of tokens is used up. Whoever was interrupted sends all again: what is stored is answered
        DISPOSITION_UNCHANGED, and costs no forward pass. `index_tree` does all that is to be done for a folder.

        Args:
            codebase_id: The codebase, which exists.
            chunks: With AsyncClient an asynchronous iterable, too; read only as far as there is room on the way.
                While the next one is waited for, AsyncClient yields what is answered; Client yields nothing until it
                is there, so that it must not wait for an answer. An asynchronous generator is closed in the end.
            truncate: Cut chunks that exceed an encoder's token limit, and say so, instead of refusing them.
            space: Fingerprint of the space that the vectors are to belong to; "" for the active one.
            update_number: The update that stores them, of `begin_update`; 0 for none.
            window: Chunks at most that are sent and not answered; fewer where they have more than 8 MiB together.
            stall_timeout_s: How long to wait for any reply before giving up, seconds.

        Raises:
            ClientError: The stream failed for good, or nothing came through for two minutes, 20 s before the first
                answer, or `stall_timeout_s` where the service says when to come back. What a single chunk failed by is
                yielded.
        """

        async def requests() -> AsyncGenerator[index_pb.IndexChunksRequest]:
            async with aclosing(each(chunks)) as found:
                async for chunk in found:
                    yield index_pb.IndexChunksRequest(
                        codebase_id=codebase_id,
                        chunk=chunk,
                        truncate=truncate,
                        space=space,
                        update_number=update_number,
                    )

        answers = exchange(self._connection, INDEX_CHUNKS, requests(), window=window, stall_timeout_s=stall_timeout_s)
        async with aclosing(answers):
            async for request, reply in answers:
                if reply.WhichOneof("outcome") == "indexed":
                    yield request.chunk, reply.indexed
                else:
                    yield request.chunk, from_status(reply.error)
