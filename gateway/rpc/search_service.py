"""SearchService: a query in, ranked chunks out."""

from typing import Any

import grpc

from duovec.v1 import chunk_pb2
from duovec.v1 import search_service_pb2 as pb
from duovec.v1 import search_service_pb2_grpc as pb_grpc
from gateway.embedding.embedder import Embedder
from gateway.rpc import validation
from gateway.rpc.admission import Admission
from gateway.store.codebases import CodebaseStore
from gateway.store.rows import ChunkRow
from gateway.store.search import SearchStore

Context = grpc.aio.ServicerContext[Any, Any]

MAX_PAGE_SIZE = 100
DEFAULT_PAGE_SIZE = 10


class SearchServicer(pb_grpc.SearchServiceServicer):
    """Translates between the protos, the embedder and the store."""

    def __init__(
        self,
        embedder: Embedder,
        search: SearchStore,
        codebases: CodebaseStore,
        admission: Admission,
        *,
        space_key: int,
        timeout_s: float,
    ) -> None:
        """Args: space_key: The store's key of the embedder's space. timeout_s: Budget of each step, seconds."""
        self._embedder = embedder
        self._search = search
        self._codebases = codebases
        self._admission = admission
        self._space_key = space_key
        self._timeout_s = timeout_s

    async def Search(self, request: pb.SearchRequest, context: Context) -> pb.SearchResponse:  # noqa: N802
        """Rank a codebase's chunks by cosine similarity to the query."""
        codebase_id = validation.codebase_id(request.codebase_id)
        query = validation.text("query", request.query)
        page_size = validation.page_size(request.page_size, default=DEFAULT_PAGE_SIZE, limit=MAX_PAGE_SIZE)
        with self._admission.texts(1):
            codebase_key = await self._codebases.get_key(codebase_id, timeout_s=self._timeout_s)
            query_V, truncated = await self._embedder.embed_query(
                query, field="query", truncate=request.truncate, timeout_s=self._timeout_s
            )
            result = await self._search.search(
                codebase_key, self._space_key, query_V, limit=page_size, timeout_s=self._timeout_s
            )
        return pb.SearchResponse(
            hits=[pb.SearchHit(chunk_id=hit.chunk_id, chunk=_chunk(hit.chunk), score=hit.score) for hit in result.hits],
            space=self._embedder.space.fingerprint,
            exact=result.exact,
            searched_chunk_count=result.searched_chunk_count,
            pending_chunk_count=result.pending_chunk_count,
            query_truncated=truncated,
        )


def _chunk(row: ChunkRow) -> chunk_pb2.Chunk:
    return chunk_pb2.Chunk(
        path=row.path,
        language=row.language,
        symbol=row.symbol,
        kind=row.kind,
        start_line=row.start_line,
        end_line=row.end_line,
        content=row.content,
        file_sha256=row.file_sha256,
        ordinal=row.ordinal,
        file_chunk_count=row.file_chunk_count,
    )
