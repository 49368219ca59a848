"""tei.v1: the gRPC interface of Text Embeddings Inference, so that its clients work unchanged."""

import asyncio
import importlib.metadata
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc

from gateway.embedding.space import InputType
from gateway.embedding.vectors import Vectors
from gateway.errors import DuovecError, InvalidInput, QuotaExceeded
from gateway.rpc import validation
from gateway.rpc.admission import Admission
from gateway.rpc.embedding_call import EmbeddingCalls, StreamedText, part
from gateway.rpc.embedding_model import WHOLE, EmbeddingModel, cut_to
from gateway.rpc.packed_floats import first_field_of_floats
from gateway.rpc.streaming import in_batches
from gateway.spaces.serving import Serving
from gateway.telemetry import stages
from gateway.telemetry.stages import Stage
from tei.v1 import tei_pb2 as pb
from tei.v1 import tei_pb2_grpc as pb_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class TeiInfoServicer(pb_grpc.InfoServicer):
    """Describes the service as TEI does."""

    def __init__(self, serving: Serving, admission: Admission) -> None:
        """Args: admission: Has the limit of tokens."""
        self._serving = serving
        self._admission = admission

    async def Info(self, request: pb.InfoRequest, context: Context) -> pb.InfoResponse:  # noqa: N802
        """Describe the service."""
        space = self._serving.active.embedder.space
        return pb.InfoResponse(
            version=importlib.metadata.version("duovec"),
            model_id=f"{space.code.name}+{space.text.name}",
            model_sha=space.fingerprint,
            model_dtype="float32",
            model_type=pb.MODEL_TYPE_EMBEDDING,
            max_input_length=min(space.code.max_tokens, space.text.max_tokens),
            max_batch_tokens=self._admission.calls.limit,
            max_client_batch_size=1,
        )


class TeiEmbedServicer(pb_grpc.EmbedServicer):
    """Embeds as TEI does."""

    def __init__(self, calls: EmbeddingCalls) -> None:
        """Args: calls: Embed texts, as for the services of duovec."""
        self._calls = calls

    async def Embed(self, request: pb.EmbedRequest, context: Context) -> pb.EmbedResponse:  # noqa: N802
        """Embed one text."""
        model, input_type = _check(request)
        embedded = await self._calls.embed(
            part(model.role), [request.inputs], input_type, fields=["inputs"], truncate=request.truncate
        )
        return _response(request, embedded.vectors, 0, embedded.tokenized.token_count)

    async def EmbedStream(  # noqa: N802
        self, requests: AsyncIterator[pb.EmbedRequest], context: Context
    ) -> AsyncIterator[pb.EmbedResponse]:
        """Embed texts as they come, with a reply for each, in order; a bad one ends the stream."""
        async with self._calls.stream() as stream:
            # One batch at a time: replies carry no name, their order says whose they are.
            async for outcome in in_batches(
                stream.reading(requests), self._answer, size_bytes=pb.EmbedRequest.ByteSize, batches_in_flight=1
            ):
                if isinstance(outcome, DuovecError):
                    raise outcome
                yield outcome
                stream.answered()

    async def _answer(self, requests: Sequence[pb.EmbedRequest]) -> list[pb.EmbedResponse | DuovecError]:
        await self._calls.check_key()
        outcomes: dict[int, pb.EmbedResponse | DuovecError] = {}
        groups: dict[tuple[EmbeddingModel, InputType], list[int]] = {}
        for index, request in enumerate(requests):
            try:
                validation.text("inputs", request.inputs)
                groups.setdefault(_check(request), []).append(index)
            except InvalidInput as exc:
                outcomes[index] = exc
                break  # the stream ends here
        for (model, input_type), indices in groups.items():
            group = [requests[index] for index in indices]
            outcomes |= zip(indices, await self._answer_alike(group, model, input_type), strict=True)
        return [outcomes[index] for index in sorted(outcomes)]

    async def _answer_alike(
        self, requests: Sequence[pb.EmbedRequest], model: EmbeddingModel, input_type: InputType
    ) -> list[pb.EmbedResponse | DuovecError]:
        items = [StreamedText(request.inputs, truncate=request.truncate) for request in requests]
        while True:
            _, outcomes = await self._calls.embed_batch(part(model.role), items, input_type, field="inputs")
            refused = next((outcome for outcome in outcomes if isinstance(outcome, QuotaExceeded)), None)
            if refused is None:
                break
            # In TEI's protocol there is no item that is sent again: the stream would end.
            await asyncio.sleep(refused.retry_after_s)
            await self._calls.check_key()
        return [
            outcome
            if isinstance(outcome, DuovecError)
            else _response(request, outcome.vectors, outcome.index, outcome.token_count)
            for request, outcome in zip(requests, outcomes, strict=True)
        ]


def _check(request: pb.EmbedRequest) -> tuple[EmbeddingModel, InputType]:
    if request.HasField("normalize") and not request.normalize:
        raise InvalidInput("normalize", "is false; vectors have norm 1, so leave it out")
    if request.truncation_direction != pb.TRUNCATION_DIRECTION_RIGHT:
        raise InvalidInput("truncation_direction", "is not TRUNCATION_DIRECTION_RIGHT (0); texts are cut at their end")
    input_type = InputType.PASSAGE
    if request.HasField("prompt_name"):
        try:
            input_type = InputType(request.prompt_name)
        except ValueError:
            raise InvalidInput("prompt_name", f"is {request.prompt_name[:80]!r}; use query or passage") from None
    return cut_to(WHOLE, request.dimensions if request.HasField("dimensions") else None), input_type


def _response(request: pb.EmbedRequest, vectors: Vectors, row: int, token_count: int) -> pb.EmbedResponse:
    response = pb.EmbedResponse.FromString(first_field_of_floats(vectors.vectors_BV[row]))
    metadata = response.metadata
    metadata.compute_chars = len(request.inputs)
    metadata.compute_tokens = token_count
    if (recorder := stages.current()) is not None:
        metadata.total_time_ns = round(recorder.elapsed_s * 1e9)
        seconds = recorder.seconds
        metadata.tokenization_time_ns = round(seconds.get(Stage.TOKENIZE, 0.0) * 1e9)
        metadata.queue_time_ns = round(seconds.get(Stage.QUEUE, 0.0) * 1e9)
        metadata.inference_time_ns = round(seconds.get(Stage.INFER, 0.0) * 1e9)
    return response
