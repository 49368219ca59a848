"""EmbeddingService: texts in, vectors out."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc

from duovec.v1 import embedding_service_pb2 as pb
from duovec.v1 import embedding_service_pb2_grpc as pb_grpc
from duovec.v1 import vector_pb2
from gateway.embedding.embedder import TokenizedTexts
from gateway.embedding.space import InputType
from gateway.embedding.vectors import Vectors
from gateway.errors import DuovecError, InvalidInput, SpaceMismatch
from gateway.rpc import validation
from gateway.rpc.admission import Admission
from gateway.rpc.embedding_call import EmbeddingCalls, StreamedText, whole
from gateway.rpc.interceptors import status_of
from gateway.rpc.packed_floats import first_field_of_floats
from gateway.rpc.quotas import Quotas
from gateway.rpc.streaming import in_batches
from gateway.spaces.serving import Serving
from gateway.store.principals import PrincipalStore

Context = grpc.aio.ServicerContext[Any, Any]


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
        self._calls = EmbeddingCalls(serving, principals, admission, quotas, timeout_s=timeout_s)
        self._serving = serving

    async def Embed(self, request: pb.EmbedRequest, context: Context) -> pb.EmbedResponse:  # noqa: N802
        """Embed 1 to 256 texts; one bad text fails the call."""
        count = len(request.texts)
        if not 1 <= count <= validation.MAX_TEXTS:
            raise InvalidInput("texts", f"has {count} items; send 1 to {validation.MAX_TEXTS}, or use StreamEmbed")
        input_type = validation.input_type("input_type", request.input_type)
        vector_format = validation.vector_format("vector_format", request.vector_format)
        embedded = await self._calls.embed(
            whole,
            request.texts,
            input_type,
            fields=[f"texts[{index}]" for index in range(count)],
            truncate=request.truncate,
            space=request.space,
        )
        tokenized, vectors = embedded.tokenized, embedded.vectors
        return pb.EmbedResponse(
            embeddings=[_embedding(tokenized, vectors, index, vector_format) for index in range(count)],
            space=embedded.space,
        )

    async def StreamEmbed(  # noqa: N802
        self, requests: AsyncIterator[pb.StreamEmbedRequest], context: Context
    ) -> AsyncIterator[pb.StreamEmbedResponse]:
        """Embed texts as they come, with a reply for every item."""
        async with self._calls.stream() as stream:
            received = stream.reading(requests)
            async for response in in_batches(received, self._answer, size_bytes=pb.StreamEmbedRequest.ByteSize):
                yield response
                stream.answered()

    async def _answer(self, requests: Sequence[pb.StreamEmbedRequest]) -> list[pb.StreamEmbedResponse]:
        await self._calls.check_key()
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
        items = [StreamedText(request.text, request.space, request.truncate) for request in requests]
        space, outcomes = await self._calls.embed_batch(whole, items, input_type)
        return [
            pb.StreamEmbedResponse(item_id=request.item_id, error=status_of(outcome))
            if isinstance(outcome, DuovecError)
            else pb.StreamEmbedResponse(
                item_id=request.item_id,
                embedding=_embedding(outcome.tokenized, outcome.vectors, outcome.index, request.vector_format),
                space=space,
            )
            for request, outcome in zip(requests, outcomes, strict=True)
        ]


def _embedding(tokenized: TokenizedTexts, vectors: Vectors, row: int, vector_format: int) -> vector_pb2.Embedding:
    vector_V = vectors.vectors_BV[row]
    if vector_format == vector_pb2.VECTOR_FORMAT_FLOAT16_LE:
        vector = vector_pb2.Vector(float16_le=vector_V.astype("<f2").tobytes())
    elif vector_format == vector_pb2.VECTOR_FORMAT_FLOAT32_LE:
        vector = vector_pb2.Vector(float32_le=vector_V.astype("<f4", copy=False).tobytes())
    else:
        vector = vector_pb2.Vector.FromString(first_field_of_floats(vector_V))
    return vector_pb2.Embedding(
        vector=vector,
        code_token_count=len(tokenized.code[row].ids_T),
        text_token_count=len(tokenized.text[row].ids_T),
        truncated=tokenized.is_truncated(row),
        cached=row in vectors.cached,
    )
