"""A blocking client of the service: one method an RPC."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, cast

import grpc
import numpy as np
from numpy.typing import NDArray

from duovec.v1 import codebase_service_pb2 as codebase_pb
from duovec.v1 import embedding_service_pb2 as embedding_pb
from duovec.v1 import index_service_pb2 as index_pb
from duovec.v1 import quality_service_pb2 as quality_pb
from duovec.v1 import revision_pb2 as revision_pb
from duovec.v1 import search_service_pb2 as search_pb
from duovec.v1 import status_service_pb2 as status_pb
from duovec.v1 import vector_pb2 as vector_pb
from duovec.v1.codebase_service_pb2_grpc import CodebaseServiceStub
from duovec.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from duovec.v1.index_service_pb2_grpc import IndexServiceStub
from duovec.v1.quality_service_pb2_grpc import QualityServiceStub
from duovec.v1.search_service_pb2_grpc import SearchServiceStub
from duovec.v1.status_service_pb2_grpc import StatusServiceStub
from gateway.client.access import Access
from gateway.client.connection import Connection
from gateway.client.errors import ClientError
from gateway.client.paging import pages
from gateway.client.replies import Replies
from gateway.client.spaces import Spaces
from gateway.client.tls import ClientTls
from gateway.client.training import Training

DIMENSION = 2560

InputType = Literal["query", "passage"]
Precision = Literal["float32", "float16"]

_STREAM_TIMEOUT_S = 24 * 3600.0
_VECTOR_FORMATS = {"float32": vector_pb.VECTOR_FORMAT_FLOAT32_LE, "float16": vector_pb.VECTOR_FORMAT_FLOAT16_LE}
_INPUT_TYPES = {"query": vector_pb.INPUT_TYPE_QUERY, "passage": vector_pb.INPUT_TYPE_PASSAGE}


class Client(Connection):
    """A connection to a duovec service. Safe to share between threads; close it, or use it in a `with`.

    Calls that only read, or that may be repeated without harm, are repeated up to three times when the service is
    overloaded or away, after the delay that it asks for, within their deadline. Every method raises ClientError
    when its call fails.

    Attributes:
        access: Principals, API keys and grants.
        spaces: Which encoders made the vectors that are searched, and changing to others.
        training: Runs that fine-tune the encoders.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        api_key: str | None = None,
        tls: ClientTls | None = None,
        timeout_s: float = 60.0,
        on_timing: Callable[[dict[str, float]], None] | None = None,
    ) -> None:
        """Prepare the connection, as `Connection` says; nothing is sent yet."""
        super().__init__(endpoint, api_key=api_key, tls=tls, timeout_s=timeout_s, on_timing=on_timing)
        # The generated stubs carry no annotations.
        make = cast(Callable[..., Any], lambda stub: stub(self._channel))
        self._embedding = make(EmbeddingServiceStub)
        self._codebases = make(CodebaseServiceStub)
        self._index = make(IndexServiceStub)
        self._search = make(SearchServiceStub)
        self._quality = make(QualityServiceStub)
        self._status = make(StatusServiceStub)
        self.access = Access(self._channel, self._codebases, self._call)
        self.spaces = Spaces(self._channel, self._call)
        self.training = Training(self._channel, self._call)

    def status(self) -> status_pb.GetStatusResponse:
        """The state of the cache, of search and of storage, for administrators."""
        response: status_pb.GetStatusResponse = self._call(self._status.GetStatus, status_pb.GetStatusRequest())
        return response

    def embed(
        self,
        texts: Sequence[str],
        input_type: InputType,
        *,
        truncate: bool = False,
        precision: Precision = "float32",
    ) -> NDArray[np.float32]:
        """Embed texts in the active space.

        Args:
            texts: 1 to 256, none blank, each at most 1,000,000 characters.
            input_type: "query" or "passage".
            truncate: Cut texts that exceed an encoder's token limit instead of refusing them.
            precision: How the numbers travel: "float16" takes half the bytes, and rounds (see `Vector.float16_le`).

        Returns:
            vectors_BD (B, 2560), float32 whatever the precision, each of norm 1, in the order of the texts.
        """
        return self.vectors_of(self.embed_response(texts, input_type, truncate=truncate, precision=precision))

    def embed_response(
        self,
        texts: Sequence[str],
        input_type: InputType,
        *,
        truncate: bool = False,
        precision: Precision = "float32",
    ) -> embedding_pb.EmbedResponse:
        """Embed texts, and say also how many tokens each had, and what was cut; otherwise as `embed`."""
        request = embedding_pb.EmbedRequest(
            texts=texts,
            input_type=_INPUT_TYPES[input_type],
            truncate=truncate,
            vector_format=_VECTOR_FORMATS[precision],
        )
        response: embedding_pb.EmbedResponse = self._call(self._embedding.Embed, request)
        expected = DIMENSION * np.dtype(precision).itemsize
        sizes = {len(getattr(embedding.vector, f"{precision}_le")) for embedding in response.embeddings}
        if len(response.embeddings) != len(texts) or sizes != {expected}:
            raise ClientError(
                f"asked for {len(texts)} vectors of {expected} bytes, got {len(response.embeddings)} of "
                f"{sorted(sizes)} bytes",
                code=grpc.StatusCode.INTERNAL,
            )
        return response

    @staticmethod
    def vectors_of(response: embedding_pb.EmbedResponse) -> NDArray[np.float32]:
        """Read the vectors of an `embed_response` as vectors_BD (B, 2560), float32."""
        data = b"".join(embedding.vector.float32_le for embedding in response.embeddings)
        if data:
            return np.frombuffer(data, dtype="<f4").reshape(-1, DIMENSION).astype(np.float32)
        data = b"".join(embedding.vector.float16_le for embedding in response.embeddings)
        return np.frombuffer(data, dtype="<f2").reshape(-1, DIMENSION).astype(np.float32)

    def search(
        self,
        codebase_ids: str | Sequence[str],
        query: str = "",
        *,
        code: str = "",
        like_chunk_id: int | None = None,
        limit: int = 10,
        page_token: str = "",
        paths: Sequence[str] = (),
        languages: Sequence[str] = (),
        kinds: Sequence[str] = (),
        min_score: float | None = None,
        blend: float | None = None,
        lexical_weight: float | None = None,
        allow_degraded: bool = False,
        truncate: bool = False,
        unlogged: bool = False,
    ) -> search_pb.SearchResponse:
        """Rank the chunks of codebases by similarity to a query; gives one page, whose reply says how it came about.

        Args:
            codebase_ids: One codebase, or up to 100.
            query: Words or identifiers. Exactly one of `query`, `code` and `like_chunk_id` is required.
            code: A piece of code that hits are to resemble.
            like_chunk_id: A stored chunk that hits are to resemble; it is not among them.
            limit: Hits of a page at most, 1 to 100.
            page_token: `next_page_token` of the page before, all else as it was there.
            paths: Patterns of paths, such as `src/**/*.py`; one must match.
            languages: One must be that of the chunk.
            kinds: One must be that of the chunk.
            min_score: Leaves out hits with a lower score.
            blend: The code encoder's share of the similarity, 0 to 1; None means 0.5.
            lexical_weight: The share of matching words in the score, 0 to 1; None leaves it to the service.
            allow_degraded: When one encoder is down, search by the other; the reply says so.
            truncate: Cut a query that exceeds an encoder's token limit instead of refusing it.
            unlogged: Keep no log of it; the reply has no `search_id`.
        """
        request = search_pb.SearchRequest(
            codebase_ids=[codebase_ids] if isinstance(codebase_ids, str) else codebase_ids,
            page_size=limit,
            page_token=page_token,
            filter=search_pb.SearchFilter(path_globs=paths, languages=languages, kinds=kinds),
            min_score=min_score,
            blend=blend,
            lexical_weight=lexical_weight,
            allow_degraded=allow_degraded,
            truncate=truncate,
            unlogged=unlogged,
        )
        if sum((bool(query), bool(code), like_chunk_id is not None)) > 1:
            raise ClientError(
                "search: give one of query, code and like_chunk_id", code=grpc.StatusCode.INVALID_ARGUMENT
            )
        if code:
            request.code = code
        elif like_chunk_id is not None:
            request.like_chunk_id = like_chunk_id
        else:
            request.query = query
        response: search_pb.SearchResponse = self._call(self._search.Search, request)
        return response

    def record_feedback(
        self,
        search_id: str,
        *,
        opened: Sequence[int] = (),
        useful: Sequence[int] = (),
        not_useful: Sequence[int] = (),
    ) -> None:
        """Say what you made of hits of a search; the same again changes nothing.

        Args:
            search_id: `search_id` of the search's first page.
            opened: Chunk ids of hits that were looked at.
            useful: Of hits that are what was looked for.
            not_useful: Of hits that are not. Of one hit the last word of these two counts.
        """
        request = search_pb.RecordFeedbackRequest(search_id=search_id)
        for chunk_ids, signal in (
            (opened, search_pb.FEEDBACK_SIGNAL_OPENED),
            (useful, search_pb.FEEDBACK_SIGNAL_USEFUL),
            (not_useful, search_pb.FEEDBACK_SIGNAL_NOT_USEFUL),
        ):
            for chunk_id in chunk_ids:
                request.items.add(chunk_id=chunk_id, signal=signal)
        self._call(self._search.RecordFeedback, request)

    def list_quality(
        self, codebase_id: str = "", *, space: str = "", week_count: int = 12
    ) -> Iterator[quality_pb.SearchQuality]:
        """Yield how good search was by codebase, space and week, page by page; for owners and administrators.

        Args:
            codebase_id: Only this one; "" for all that the caller owns, and for administrators every one, and all
                together, whose `codebase_id` is "".
            space: Only the space of this fingerprint.
            week_count: Weeks to look back, the present one included, 1 to 520.
        """
        request = quality_pb.ListQualityRequest(
            codebase_id=codebase_id, space=space, week_count=week_count, page_size=1000
        )
        for response in pages(self._call, self._quality.ListQuality, request):
            yield from response.rows

    def create_codebase(self, codebase_id: str, *, display_name: str = "") -> codebase_pb.Codebase:
        """Create a codebase; ALREADY_EXISTS where there is one."""
        request = codebase_pb.CreateCodebaseRequest(codebase_id=codebase_id, display_name=display_name)
        response: codebase_pb.CreateCodebaseResponse = self._call(
            self._codebases.CreateCodebase, request, repeatable=False
        )
        return response.codebase

    def get_codebase(self, codebase_id: str) -> codebase_pb.Codebase:
        """Get one codebase; NOT_FOUND where there is none."""
        request = codebase_pb.GetCodebaseRequest(codebase_id=codebase_id)
        response: codebase_pb.GetCodebaseResponse = self._call(self._codebases.GetCodebase, request)
        return response.codebase

    def list_codebases(self) -> Iterator[codebase_pb.Codebase]:
        """Yield all codebases by id, page by page."""
        request = codebase_pb.ListCodebasesRequest(page_size=1000)
        for response in pages(self._call, self._codebases.ListCodebases, request):
            yield from response.codebases

    def set_revision(
        self, codebase_id: str, revision: revision_pb.Revision, *, expected_version: int | None = None
    ) -> revision_pb.Revision:
        """Record the commit that a codebase holds; FAILED_PRECONDITION where another version is recorded by now."""
        request = codebase_pb.SetRevisionRequest(
            codebase_id=codebase_id, revision=revision, expected_version=expected_version
        )
        # Repeated after a reply that was lost, it would find its own version and take it for another's.
        response: codebase_pb.SetRevisionResponse = self._call(
            self._codebases.SetRevision, request, repeatable=expected_version is None
        )
        return response.revision

    def delete_codebase(self, codebase_id: str) -> int:
        """Delete a codebase with all it holds; gives the number of chunks deleted."""
        request = codebase_pb.DeleteCodebaseRequest(codebase_id=codebase_id)
        response: codebase_pb.DeleteCodebaseResponse = self._call(
            self._codebases.DeleteCodebase, request, repeatable=False
        )
        return response.deleted_chunk_count

    def list_files(self, codebase_id: str) -> Iterator[index_pb.FileVersion]:
        """Yield the stored versions of files by path, page by page."""
        request = index_pb.ListFilesRequest(codebase_id=codebase_id, page_size=10_000)
        for response in pages(self._call, self._index.ListFiles, request):
            yield from response.files

    def get_chunk(self, codebase_id: str, chunk_id: int, *, neighbor_count: int = 0) -> index_pb.GetChunkResponse:
        """Get a stored chunk, and up to 20 before and after it in its file."""
        request = index_pb.GetChunkRequest(codebase_id=codebase_id, chunk_id=chunk_id, neighbor_count=neighbor_count)
        response: index_pb.GetChunkResponse = self._call(self._index.GetChunk, request)
        return response

    def delete_files(self, codebase_id: str, files: Sequence[index_pb.DeleteChunksRequest.FileSelector]) -> int:
        """Delete the chunks of 1 to 1,000 paths, all versions or all but one; gives the number of chunks deleted."""
        request = index_pb.DeleteChunksRequest(codebase_id=codebase_id, files=files)
        response: index_pb.DeleteChunksResponse = self._call(self._index.DeleteChunks, request)
        return response.deleted_chunk_count

    def index_chunks(self, requests: Iterator[index_pb.IndexChunksRequest]) -> Replies:
        """Embed and store chunks as they come; a thread of grpc consumes `requests`, which must end.

        Returns:
            Replies in any order. Not repeated on failure: `gateway.client.stream` does that.
        """
        call = self._index.IndexChunks(requests, timeout=_STREAM_TIMEOUT_S, metadata=self._metadata)
        return Replies(call, self.endpoint)
