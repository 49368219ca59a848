"""An in-memory duovec service over real gRPC, for the tests of its client. A test double: it computes nothing."""

# ruff: noqa: N802 - the methods are named after the RPCs.

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
import numpy as np
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.wrappers_pb2 import Int32Value
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from duovec.v1 import (
    chunk_pb2,
    codebase_service_pb2,
    embedding_service_pb2,
    index_service_pb2,
    quality_service_pb2,
    revision_pb2,
    search_service_pb2,
    vector_pb2,
)
from duovec.v1.codebase_service_pb2_grpc import CodebaseServiceServicer, add_CodebaseServiceServicer_to_server
from duovec.v1.embedding_service_pb2_grpc import EmbeddingServiceServicer, add_EmbeddingServiceServicer_to_server
from duovec.v1.index_service_pb2_grpc import IndexServiceServicer, add_IndexServiceServicer_to_server
from duovec.v1.quality_service_pb2_grpc import QualityServiceServicer, add_QualityServiceServicer_to_server
from duovec.v1.search_service_pb2_grpc import SearchServiceServicer, add_SearchServiceServicer_to_server

Key = tuple[str, bytes, int]


class FakeService(
    EmbeddingServiceServicer,
    IndexServiceServicer,
    CodebaseServiceServicer,
    SearchServiceServicer,
    QualityServiceServicer,
):
    """Stores chunks in a dictionary, and fails where it is told to.

    Attributes:
        stored: Chunks by codebase and (path, hash, ordinal).
        received: Every chunk that came, repeated ones too.
        received_at: When each came.
        opened_at: When each stream came.
        break_after: The stream breaks once after so many chunks.
        break_always: Every stream breaks at once.
        full: So many streams are refused, as there are too many; they are to come back in 0.1 s.
        idle_after: A stream whose last chunk was answered is ended once so many were.
        refuse: Gives of a chunk what it is refused by, and None of one that is stored.
        refuse_deletes: DeleteChunks is PERMISSION_DENIED.
        refuse_searches: Search is INTERNAL.
        matching: Search gives only chunks that contain the query, by path.
        fail_items: Error code by content of a chunk; only for the first if `fail_once`.
        silent: Chunks are taken and never answered.
        searches: Every Search request that came.
        missing_encoder: What Search says of it.
        search_id: What Search gives on first pages.
        feedback: Every RecordFeedback request that came.
        quality: What ListQuality gives, two rows a page.
        quality_requests: Every ListQuality request that came.
        revisions: What SetRevision recorded, by codebase; whoever writes outdates it, as in the real service.
        updates: The update of each codebase that is still alone.
        update_count: How many began.
        unbegun: So many BeginUpdate calls do not see the codebase.
        unlisted: So many ListFiles calls do not see the codebase.
        space: What StreamEmbed says that its vectors are of.
        overloaded: So many Search and Embed calls are refused with RESOURCE_EXHAUSTED.
        cancelled: So many Search and Embed calls are not begun, as those that come while a server of gRPC shuts down.
    """

    def __init__(self) -> None:
        self.stored: dict[str, dict[Key, chunk_pb2.Chunk]] = {}
        self.received: list[chunk_pb2.Chunk] = []
        self.received_at: list[float] = []
        self.opened_at: list[float] = []
        self.streams = 0
        self.full = 0
        self.idle_after: int | None = None
        self.refuse: Callable[[chunk_pb2.Chunk], status_pb2.Status | None] = lambda chunk: None
        self.deletes: list[Any] = []
        self.break_after: int | None = None
        self.fail_items: dict[str, int] = {}
        self.fail_once = False
        self.silent = False
        self.break_always = False
        self.refuse_deletes = False
        self.refuse_searches = False
        self.matching = False
        self.revisions: dict[str, revision_pb2.Revision] = {}
        self.updates: dict[str, int] = {}
        self.update_count = 0
        self.unbegun = 0
        self.unlisted = 0
        self.overloaded = 0
        self.cancelled = 0
        self.calls: list[str] = []
        self.searches: list[search_service_pb2.SearchRequest] = []
        self.missing_encoder = ""
        self.search_id = "0b9a3f5e-6c1d-4e2f-8a7b-1c2d3e4f5a6b"
        self.feedback: list[search_service_pb2.RecordFeedbackRequest] = []
        self.quality: list[quality_service_pb2.SearchQuality] = []
        self.quality_requests: list[quality_service_pb2.ListQualityRequest] = []
        self.metadata: dict[str, str] = {}
        self.page_size = 2
        self.before_list: Callable[[Any], object] = lambda request: None
        self.space = "ab" * 32

    def paths(self, codebase_id: str) -> list[str]:
        return sorted({key[0] for key in self.stored[codebase_id]})

    def IndexChunks(self, requests: Any, context: Any) -> Iterator[Any]:
        self.streams += 1
        self.opened_at.append(time.monotonic())
        if self.full:
            self.full -= 1
            abort(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "32 streams are open", "OVERLOADED", delay_s=0.1)
        if self.break_always:
            context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")
        for count, request in enumerate(requests):
            if request.codebase_id not in self.stored:
                abort(context, grpc.StatusCode.NOT_FOUND, "no such codebase", "CODEBASE_NOT_FOUND")
            if self.break_after is not None and count >= self.break_after:
                self.break_after = None
                context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")
            chunk = request.chunk
            self.received.append(chunk)
            self.received_at.append(time.monotonic())
            if self.silent:
                continue
            reply = index_service_pb2.IndexChunksResponse(item_id=request.item_id)
            code = next((code for text, code in self.fail_items.items() if text in chunk.content), None)
            if (refusal := self.refuse(chunk)) is not None:
                reply.error.CopyFrom(refusal)
            elif code is not None:
                if self.fail_once:
                    self.fail_items.clear()
                reply.error.CopyFrom(status_pb2.Status(code=code, message="the chunk is bad"))
            else:
                key = (chunk.path, chunk.file_sha256, chunk.ordinal)
                there = key in self.stored[request.codebase_id]
                if not there:
                    self._outdate(request.codebase_id, request.update_number)
                self.stored[request.codebase_id][key] = chunk
                disposition = "UNCHANGED" if there else "EMBEDDED"
                reply.indexed.disposition = index_service_pb2.IndexedChunk.Disposition.Value(
                    f"DISPOSITION_{disposition}"
                )
            yield reply
            if count + 1 == self.idle_after:
                self.idle_after = None
                abort(context, grpc.StatusCode.UNAVAILABLE, "nothing came for 300 s", "STREAM_IDLE")

    def ListFiles(self, request: Any, context: Any) -> Any:
        self.before_list(request)
        self.unlisted -= 1
        if self.unlisted >= 0 or request.codebase_id not in self.stored:
            abort(context, grpc.StatusCode.NOT_FOUND, "no such codebase", "CODEBASE_NOT_FOUND")
        counts: dict[tuple[str, bytes], list[int]] = {}
        for chunk in self.stored[request.codebase_id].values():
            counts.setdefault((chunk.path, chunk.file_sha256), []).append(chunk.file_chunk_count)
        start = int(request.page_token or 0)
        rows = sorted(counts.items())[start : start + self.page_size]
        response = index_service_pb2.ListFilesResponse(
            next_page_token=str(start + self.page_size) if start + self.page_size < len(counts) else ""
        )
        for (path, sha), wanted in rows:
            count = len(wanted) if min(wanted) == max(wanted) else 0
            response.files.add(path=path, file_sha256=sha, stored_chunk_count=count, file_chunk_count=max(wanted))
        return response

    def DeleteChunks(self, request: Any, context: Any) -> Any:
        chunks = self.stored[request.codebase_id]
        if self.refuse_deletes:
            abort(context, grpc.StatusCode.PERMISSION_DENIED, "this takes the role WRITE", "ROLE_REQUIRED")
        self.deletes.extend(request.files)
        self._outdate(request.codebase_id, request.update_number)
        doomed = [
            key
            for key, chunk in chunks.items()
            for file in request.files
            if key[0] == file.path and _is_doomed(file, chunk)
        ]
        for key in doomed:
            del chunks[key]
        return index_service_pb2.DeleteChunksResponse(deleted_chunk_count=len(doomed))

    def CreateCodebase(self, request: Any, context: Any) -> Any:
        self.calls.append("CreateCodebase")
        if request.codebase_id in self.stored:
            abort(context, grpc.StatusCode.ALREADY_EXISTS, "it exists", "CODEBASE_EXISTS")
        self.stored[request.codebase_id] = {}
        return codebase_service_pb2.CreateCodebaseResponse(codebase={"codebase_id": request.codebase_id})

    def GetCodebase(self, request: Any, context: Any) -> Any:
        self.calls.append("GetCodebase")
        if request.codebase_id not in self.stored:
            abort(context, grpc.StatusCode.NOT_FOUND, "no such codebase", "CODEBASE_NOT_FOUND")
        codebase = codebase_service_pb2.Codebase(
            codebase_id=request.codebase_id, revision=self.revisions.get(request.codebase_id)
        )
        return codebase_service_pb2.GetCodebaseResponse(codebase=codebase)

    def BeginUpdate(self, request: Any, context: Any) -> Any:
        self.calls.append("BeginUpdate")
        self.unbegun -= 1
        if self.unbegun >= 0 or request.codebase_id not in self.stored:
            abort(context, grpc.StatusCode.NOT_FOUND, "no such codebase", "CODEBASE_NOT_FOUND")
        self.update_count += 1
        self.updates[request.codebase_id] = self.update_count
        return codebase_service_pb2.BeginUpdateResponse(
            update_number=self.update_count, revision=self.revisions.get(request.codebase_id)
        )

    def SetRevision(self, request: Any, context: Any) -> Any:
        self.calls.append("SetRevision")
        before = self.revisions.get(request.codebase_id, revision_pb2.Revision())
        update_number = self.updates.pop(request.codebase_id, None)
        if (request.HasField("expected_version") and request.expected_version != before.version) or (
            request.update_number and request.update_number != update_number
        ):
            self._outdate(request.codebase_id)
            abort(context, grpc.StatusCode.FAILED_PRECONDITION, "others wrote", "REVISION_CHANGED")
        request.revision.version = before.version + 1
        request.revision.record_time.FromSeconds(1_790_000_000)
        self.revisions[request.codebase_id] = request.revision
        return codebase_service_pb2.SetRevisionResponse(revision=request.revision)

    def _outdate(self, codebase_id: str, update_number: int = 0) -> None:
        if self.updates.get(codebase_id) != update_number:
            self.updates.pop(codebase_id, None)
        if codebase_id in self.revisions:
            self.revisions[codebase_id].outdated = True

    def ListCodebases(self, request: Any, context: Any) -> Any:
        response = codebase_service_pb2.ListCodebasesResponse()
        for codebase_id in sorted(self.stored):
            response.codebases.add(
                codebase_id=codebase_id,
                chunk_count=len(self.stored[codebase_id]),
                revision=self.revisions.get(codebase_id),
            )
        return response

    def Search(self, request: Any, context: Any) -> Any:
        self.calls.append("Search")
        self.searches.append(request)
        if self.refuse_searches:
            abort(context, grpc.StatusCode.INTERNAL, "it is refused", "INTERNAL")
        self._refuse_when_told(context)
        response = search_service_pb2.SearchResponse(
            space="ab" * 32,
            exact=True,
            method=search_service_pb2.SEARCH_METHOD_EXACT,
            pending_chunk_count=7,
            partial=True,
            partial_reasons=[search_service_pb2.PARTIAL_REASON_PENDING_CHUNKS],
            missing_encoder=self.missing_encoder,
            search_id="" if request.page_token or request.unlogged else self.search_id,
        )
        for codebase_id in request.codebase_ids:
            if codebase_id in self.revisions:
                response.revisions.add(codebase_id=codebase_id, revision=self.revisions[codebase_id])
        start, chunks = int(request.page_token or 0), list(self.stored[request.codebase_ids[0]].values())
        if self.matching:
            chunks = sorted((one for one in chunks if request.query in one.content), key=lambda one: one.path)
        end = start + request.page_size
        response.next_page_token = str(end) if end < len(chunks) else ""
        for number, chunk in enumerate(chunks[start:end], start):
            response.hits.add(chunk_id=number, chunk=chunk, score=0.9 - number / 10)
        return response

    def RecordFeedback(self, request: Any, context: Any) -> Any:
        self.feedback.append(request)
        return search_service_pb2.RecordFeedbackResponse()

    def ListQuality(self, request: Any, context: Any) -> Any:
        self.quality_requests.append(request)
        start = int(request.page_token or 0)
        end = start + self.page_size
        return quality_service_pb2.ListQualityResponse(
            rows=self.quality[start:end], next_page_token=str(end) if end < len(self.quality) else ""
        )

    def Embed(self, request: Any, context: Any) -> Any:
        self.calls.append("Embed")
        self.metadata = dict(context.invocation_metadata())
        self._refuse_when_told(context)
        response = embedding_service_pb2.EmbedResponse(space="ab" * 32)
        for number, text in enumerate(request.texts):
            if not text.strip():
                abort(context, grpc.StatusCode.INVALID_ARGUMENT, "it is blank", "INVALID_INPUT", f"texts[{number}]")
            vector = np.zeros(2560, dtype="<f4")
            vector[number] = 1
            if request.vector_format == vector_pb2.VECTOR_FORMAT_FLOAT16_LE:
                form = {"float16_le": vector.astype("<f2").tobytes()}
            else:
                form = {"float32_le": vector.tobytes()}
            response.embeddings.add(vector=form, code_token_count=3, text_token_count=5)
        return response

    def StreamEmbed(self, requests: Any, context: Any) -> Iterator[Any]:
        self.streams += 1
        for count, request in enumerate(requests):
            if self.break_after is not None and count >= self.break_after:
                self.break_after = None
                context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")
            reply = embedding_service_pb2.StreamEmbedResponse(item_id=request.item_id, space=self.space)
            if request.text.strip():
                vector = np.zeros(2560, dtype="<f4")
                vector[int(request.text)] = 1
                half = request.vector_format == vector_pb2.VECTOR_FORMAT_FLOAT16_LE
                form = {"float16_le": vector.astype("<f2").tobytes()} if half else {"float32_le": vector.tobytes()}
                reply.embedding.vector.MergeFrom(vector_pb2.Vector(**form))
            else:
                reply.error.CopyFrom(status_pb2.Status(code=3, message="it is blank"))
            yield reply

    def _refuse_when_told(self, context: Any) -> None:
        if self.cancelled:
            self.cancelled -= 1
            context.abort(grpc.StatusCode.CANCELLED, "CANCELLED")
        if self.overloaded:
            self.overloaded -= 1
            abort(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "too much work", "OVERLOADED", delay_s=0.05)


def abort(
    context: Any, code: grpc.StatusCode, message: str, reason: str, field: str = "", delay_s: float = 0.0
) -> None:
    """End a call with details, as the real service does."""
    context.abort_with_status(rpc_status.to_status(status(code, message, reason, field, delay_s)))


def status(
    code: grpc.StatusCode, message: str, reason: str, field: str = "", delay_s: float = 0.0
) -> status_pb2.Status:
    """What a call, or an item of one, failed by."""
    details: list[Any] = [error_details_pb2.ErrorInfo(reason=reason, domain="duovec")]
    if field:
        details.append(error_details_pb2.BadRequest(field_violations=[{"field": field, "description": message}]))
    if delay_s:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(int(delay_s * 1000))
        details.append(retry)
    packed = []
    for detail in details:
        any_message = AnyMessage()
        any_message.Pack(detail)
        packed.append(any_message)
    return status_pb2.Status(code=code.value[0], message=message, details=packed)


@contextlib.contextmanager
def serving(service: FakeService, port: int = 0) -> Iterator[str]:
    """Serve on a port, by default a free one; gives the endpoint."""
    server = grpc.server(futures.ThreadPoolExecutor(8))
    add_EmbeddingServiceServicer_to_server(service, server)
    add_IndexServiceServicer_to_server(service, server)
    add_CodebaseServiceServicer_to_server(service, server)
    add_SearchServiceServicer_to_server(service, server)
    add_QualityServiceServicer_to_server(service, server)
    health = grpc.unary_unary_rpc_method_handler(
        lambda request, context: Int32Value(value=1),
        request_deserializer=bytes,
        response_serializer=Int32Value.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": health}),))
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def _is_doomed(file: Any, chunk: Any) -> bool:
    if chunk.file_sha256 == file.keep_file_sha256:
        return bool(file.keep_file_chunk_count) and chunk.file_chunk_count != file.keep_file_chunk_count
    return not file.delete_file_sha256 or chunk.file_sha256 in file.delete_file_sha256
