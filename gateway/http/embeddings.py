"""`POST /v1/embeddings`, as OpenAI's clients call it."""

import asyncio
import binascii
from collections.abc import AsyncIterator, Sequence

import numpy as np
import orjson
from numpy.typing import NDArray
from starlette.responses import Response, StreamingResponse

from gateway.embedding.space import InputType
from gateway.errors import InvalidInput
from gateway.http.bodies import maybe_in_thread
from gateway.http.door import Call
from gateway.http.embeddings_request import EmbeddingsRequest, read_request
from gateway.rpc.embedding_call import EmbeddingCalls, part
from gateway.rpc.embedding_model import MODELS, EmbeddingModel, cut_to, find_model
from gateway.spaces.serving import Serving

SPACE_HEADER = "duovec-space"
"""Header of the reply: fingerprint of the space that the vectors are of."""
_ROWS_A_PART = 32
"""Vectors that are written at a time, a millisecond's work; the event loop is others' between."""


class Embeddings:
    """Answers requests for embeddings."""

    def __init__(self, serving: Serving, calls: EmbeddingCalls) -> None:
        """Args: serving: Has the tokenizers. calls: Embed texts, as for gRPC."""
        self._serving = serving
        self._calls = calls

    async def create(self, call: Call) -> Response:
        """Embed what the body has; one bad text fails the request."""
        request = await maybe_in_thread(read_request, call.body, size_bytes=len(call.body))
        model = cut_to(find_model(request.model), request.dimensions)
        fields, texts = await self._texts(request)
        embedded = await self._calls.embed(
            part(model.role), texts, InputType(request.input_type), fields=fields, truncate=request.truncate
        )
        vectors_BD, token_count = embedded.vectors.vectors_BV, embedded.tokenized.token_count
        parts = _parts(vectors_BD, model, token_count, as_base64=request.encoding_format == "base64")
        headers = {SPACE_HEADER: embedded.space}
        if len(texts) > _ROWS_A_PART:
            return StreamingResponse(parts, headers=headers, media_type="application/json")
        return Response(b"".join([each async for each in parts]), headers=headers, media_type="application/json")

    async def _texts(self, request: EmbeddingsRequest) -> tuple[list[str], list[str]]:
        """The fields that the texts of a request are in, and the texts."""
        given = request.input
        if isinstance(given, str):
            return ["input"], [given]
        fields = [f"input[{index}]" for index in range(len(given))]
        if isinstance(given[0], str):
            return fields, [str(text) for text in given]
        if request.tokenizer is None:
            raise InvalidInput(
                "input",
                "is token ids, and no `tokenizer` says whose: send text (langchain-openai: "
                "check_embedding_ctx_length=False), or an encoder's own ids with `tokenizer` duovec-code or -text",
            )
        role = MODELS[request.tokenizer].role
        assert role is not None  # noqa: S101 - for mypy
        rows: Sequence[Sequence[int]] = [given] if isinstance(given[0], int) else given
        fields = ["input"] if isinstance(given[0], int) else fields
        return fields, await self._serving.active.embedder.half(role).tokenizer.texts_of(rows, fields)


async def _parts(
    vectors_BD: NDArray[np.float32], model: EmbeddingModel, token_count: int, *, as_base64: bool
) -> AsyncIterator[bytes]:
    """The reply, in parts."""
    yield b'{"object":"list","data":['
    for start in range(0, len(vectors_BD), _ROWS_A_PART):
        rows = vectors_BD[start : start + _ROWS_A_PART].astype("<f4", copy=False)
        items = [
            b'{"object":"embedding","index":%d,"embedding":%b}'
            % (start + row, _written(rows[row], as_base64=as_base64))
            for row in range(len(rows))
        ]
        yield b"," * (start > 0) + b",".join(items)
        await asyncio.sleep(0)
    usage = {"prompt_tokens": token_count, "total_tokens": token_count}
    yield b'],"model":%b,"usage":%b}' % (orjson.dumps(model.name), orjson.dumps(usage))


def _written(vector_D: NDArray[np.float32], *, as_base64: bool) -> bytes:
    if as_base64:
        return b'"%b"' % binascii.b2a_base64(vector_D.tobytes(), newline=False)
    # The shortest digits that are read as the same float32.
    return orjson.dumps(np.ascontiguousarray(vector_D), option=orjson.OPT_SERIALIZE_NUMPY)
