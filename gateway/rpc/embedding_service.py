"""EmbeddingService: texts in, vectors out."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc

from duovec.v1 import embedding_service_pb2 as pb
from duovec.v1 import embedding_service_pb2_grpc as pb_grpc
from duovec.v1 import vector_pb2
from gateway.embedding.embedder import TokenizedTexts
from gateway.embedding.space import InputType
from gateway.embedding.triton import Priority
from gateway.embedding.vectors import Vectors
from gateway.errors import DuovecError, InvalidInput, SpaceMismatch
from gateway.rpc import validation
from gateway.rpc.admission import Admission
from gateway.rpc.interceptors import status_of
from gateway.rpc.quotas import Quotas
from gateway.rpc.streaming import in_batches
from gateway.spaces.serving import Serving
from gateway.store.principals import PrincipalStore

Context = grpc.aio.ServicerContext[Any, Any]

# Tag of `Vector.values` (field 1, length-delimited), then the length, 10,240 bytes, as a varint.
_VALUES_HEADER = b"\x0a\x80\x50"


class EmbeddingServicer(pb_grpc.EmbeddingServiceServicer):
    """Translates between the protos and the embedder."""

    def __init__(
        self,
        serving: Serving,
        principals: PrincipalStore,
        admission: Admission,
        quotas: Quotas,
        *,
        timeout_s: float,
    ) -> None:
        """Args: timeout_s: Budget of a unary call, and of one batch of a stream, seconds."""
        self._serving = serving
        self._principals = principals
        self._admission = admission
        self._quotas = quotas
        self._timeout_s = timeout_s

    async def Embed(self, request: pb.EmbedRequest, context: Context) -> pb.EmbedResponse:  # noqa: N802
        """Embed 1 to 256 texts; one bad text fails the call."""
        count = len(request.texts)
        if not 1 <= count <= validation.MAX_TEXTS:
            raise InvalidInput("texts", f"has {count} items; send 1 to {validation.MAX_TEXTS}, or use StreamEmbed")
        texts = [validation.text(f"texts[{index}]", text) for index, text in enumerate(request.texts)]
        input_type = validation.input_type("input_type", request.input_type)
        vector_format = validation.vector_format("vector_format", request.vector_format)
        embedder = (await self._serving.expect(request.space)).embedder
        self._admission.check()
        self._quotas.check_tokens()
        tokenized = await embedder.tokenize(texts, input_type)
        if not request.truncate:
            for index in range(count):
                if error := embedder.excess(tokenized, index, f"texts[{index}]"):
                    raise error
        with self._admission.tokens(tokenized.token_count):
            self._quotas.spend(tokenized.token_count)
            vectors = await embedder.embed(tokenized, priority=Priority.INTERACTIVE, timeout_s=self._timeout_s)
        for bad_vector in vectors.errors.values():
            raise bad_vector
        return pb.EmbedResponse(
            embeddings=[_embedding(tokenized, vectors, index, vector_format) for index in range(count)],
            space=embedder.space.fingerprint,
        )

    async def StreamEmbed(  # noqa: N802
        self, requests: AsyncIterator[pb.StreamEmbedRequest], context: Context
    ) -> AsyncIterator[pb.StreamEmbedResponse]:
        """Embed texts as they come, with a reply for every item."""
        with self._admission.stream():
            async for response in in_batches(requests, self._answer, size_bytes=pb.StreamEmbedRequest.ByteSize):
                yield response

    async def _answer(self, requests: Sequence[pb.StreamEmbedRequest]) -> list[pb.StreamEmbedResponse]:
        # Again for every batch: a key that is revoked ends a stream that is open, too.
        await self._principals.check_key(timeout_s=self._timeout_s)
        responses: list[pb.StreamEmbedResponse] = []
        by_type: dict[InputType, list[pb.StreamEmbedRequest]] = {}
        for request in requests:
            try:
                validation.label("item_id", request.item_id, limit=validation.MAX_ITEM_ID_CHARS, required=True)
                validation.text("text", request.text)
                validation.vector_format("vector_format", request.vector_format)
                input_type = validation.input_type("input_type", request.input_type)
                await self._serving.expect(request.space)
            except (InvalidInput, SpaceMismatch) as exc:
                responses.append(pb.StreamEmbedResponse(item_id=request.item_id, error=status_of(exc)))
            else:
                by_type.setdefault(input_type, []).append(request)
        for input_type, group in by_type.items():
            responses += await self._answer_type(group, input_type)
        return responses

    async def _answer_type(
        self, requests: Sequence[pb.StreamEmbedRequest], input_type: InputType
    ) -> list[pb.StreamEmbedResponse]:
        space = self._serving.active
        embedder = space.embedder
        tokenized = await embedder.tokenize([request.text for request in requests], input_type)
        errors: dict[int, DuovecError] = {}
        for index, request in enumerate(requests):
            # Another space may have been activated since the item was looked at.
            error: DuovecError | None = space.mismatch(request.space)
            if error is None and not request.truncate:
                error = embedder.excess(tokenized, index, "text")
            if error is not None:
                errors[index] = error
        good = [index for index in range(len(requests)) if index not in errors]
        embeddings: dict[int, vector_pb2.Embedding] = {}
        if good:
            selected = tokenized.select(good)
            if await self._quotas.wait(selected.token_count):
                await self._principals.check_key(timeout_s=self._timeout_s)
            try:
                async with self._admission.turn(selected.token_count):
                    vectors = await embedder.embed(selected, priority=Priority.BULK, timeout_s=self._timeout_s)
            except DuovecError as exc:
                errors |= dict.fromkeys(good, exc)
            else:
                errors |= {good[row]: error for row, error in vectors.errors.items()}
                embeddings = {
                    index: _embedding(selected, vectors, row, requests[index].vector_format)
                    for row, index in enumerate(good)
                    if row not in vectors.errors
                }
        return [
            pb.StreamEmbedResponse(item_id=request.item_id, error=status_of(errors[index]))
            if index in errors
            else pb.StreamEmbedResponse(
                item_id=request.item_id, embedding=embeddings[index], space=embedder.space.fingerprint
            )
            for index, request in enumerate(requests)
        ]


def _embedding(tokenized: TokenizedTexts, vectors: Vectors, row: int, vector_format: int) -> vector_pb2.Embedding:
    vector_V = vectors.vectors_BV[row]
    if vector_format == vector_pb2.VECTOR_FORMAT_FLOAT16_LE:
        vector = vector_pb2.Vector(float16_le=vector_V.astype("<f2").tobytes())
    elif vector_format == vector_pb2.VECTOR_FORMAT_FLOAT32_LE:
        vector = vector_pb2.Vector(float32_le=vector_V.astype("<f4", copy=False).tobytes())
    else:
        # A packed repeated float is these very bytes on the wire: parsing them takes 1 µs, where setting the
        # field from 2,560 Python floats takes 50 to 300.
        vector = vector_pb2.Vector.FromString(_VALUES_HEADER + vector_V.astype("<f4", copy=False).tobytes())
    return vector_pb2.Embedding(
        vector=vector,
        code_token_count=len(tokenized.code[row].ids_T),
        text_token_count=len(tokenized.text[row].ids_T),
        truncated=tokenized.is_truncated(row),
        cached=row in vectors.cached,
    )
