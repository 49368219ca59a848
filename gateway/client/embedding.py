"""Texts in, vectors out: a part of the client."""

from collections.abc import AsyncGenerator, AsyncIterable, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Literal, TypeVar

import grpc
import numpy as np
from numpy.typing import NDArray

from duovec.v1 import embedding_service_pb2 as embedding_pb
from duovec.v1 import vector_pb2 as vector_pb
from gateway.client.dual import Mode, Part, dual, dual_iterator
from gateway.client.errors import ClientError, from_status
from gateway.client.rpc import Rpc
from gateway.client.stream import each, exchange

_T = TypeVar("_T")

DIMENSION = 2560

InputType = Literal["query", "passage"]
Precision = Literal["float32", "float16"]
Texts = Sequence[str] | NDArray[np.str_]

_VECTOR_FORMATS = {"float32": vector_pb.VECTOR_FORMAT_FLOAT32_LE, "float16": vector_pb.VECTOR_FORMAT_FLOAT16_LE}
_INPUT_TYPES = {"query": vector_pb.INPUT_TYPE_QUERY, "passage": vector_pb.INPUT_TYPE_PASSAGE}

_EMBED = Rpc("duovec.v1.EmbeddingService/Embed", embedding_pb.EmbedResponse)
_STREAM_EMBED = Rpc("duovec.v1.EmbeddingService/StreamEmbed", embedding_pb.StreamEmbedResponse)


class Embedding(Part[Mode]):
    """Methods of a client."""

    @dual
    async def embed(
        self,
        texts: Texts,
        input_type: InputType,
        *,
        truncate: bool = False,
        precision: Precision = "float32",
        space: str = "",
    ) -> NDArray[np.float32]:
        """Embed texts in the active space.

        Args:
            texts: 1 to 256, none blank, each at most 1,000,000 characters.
            input_type: "query" or "passage".
            truncate: Cut texts that exceed an encoder's token limit instead of refusing them.
            precision: How the numbers travel: "float16" takes half the bytes, and rounds (see `Vector.float16_le`).
            space: Fingerprint of the space that the vectors are to belong to; "" for the active one.

        Returns:
            vectors_BD (B, 2560), float32 whatever the precision, each of norm 1, in the order of the texts.
        """
        return self.vectors_of(await self._embed(texts, input_type, truncate, precision, space))

    @dual
    async def embed_response(
        self,
        texts: Texts,
        input_type: InputType,
        *,
        truncate: bool = False,
        precision: Precision = "float32",
        space: str = "",
    ) -> embedding_pb.EmbedResponse:
        """Embed as `embed`, and say also how many tokens each text had, what was cut, and the space.

        Its vectors are read by `vectors_of`.
        """
        return await self._embed(texts, input_type, truncate, precision, space)

    @staticmethod
    def vectors_of(response: embedding_pb.EmbedResponse) -> NDArray[np.float32]:
        """Read the vectors of an `embed_response` as vectors_BD (B, 2560), float32."""
        return _vectors(response.embeddings)

    @dual_iterator
    async def stream_embed(
        self,
        texts: Iterable[str] | AsyncIterable[str],
        input_type: InputType,
        *,
        truncate: bool = False,
        precision: Precision = "float32",
        space: str = "",
        window: int = 512,
        stall_timeout_s: float = 600.0,
    ) -> AsyncGenerator[tuple[int, NDArray[np.float32] | ClientError]]:
        """Embed any number of texts as they come, with the full throughput of the service.

        Texts are sent ahead of their vectors; when the connection breaks, a new one is made, and what was not answered
        is sent again; a text that is refused for now is, too, for two minutes, or as long as it takes where a quota of
        tokens is used up.

        Args:
            texts: With AsyncClient an asynchronous iterable, too; read only as far as there is room on the way.
                While the next one is waited for, AsyncClient yields what is answered; Client yields nothing until it
                is there, so that it must not wait for an answer. An asynchronous generator is closed in the end.
            input_type: As of `embed`, as `truncate`, `precision` and `space` are.
            truncate: See there.
            precision: See there.
            space: See there.
            window: Texts at most that are sent and not answered; fewer where they have more than 8 MiB together.
            stall_timeout_s: How long to wait for any reply before giving up, seconds.

        Yields:
            The number of a text, from 0, with its vector_D (2560), or with what it failed by, as they come.

        Raises:
            ClientError: The stream failed for good, or nothing came through for two minutes, 20 s before the first
                answer, or `stall_timeout_s` where the service says when to come back; SPACE_MISMATCH where another
                space became active meanwhile, so that all vectors are of one.
        """

        async def requests() -> AsyncGenerator[embedding_pb.StreamEmbedRequest]:
            number = 0
            async with aclosing(each(texts)) as found:
                async for text in found:
                    _refuse_unsendable(text, number)
                    number += 1
                    yield embedding_pb.StreamEmbedRequest(
                        text=text,
                        input_type=_choice("input_type", input_type, _INPUT_TYPES),
                        truncate=truncate,
                        vector_format=_choice("precision", precision, _VECTOR_FORMATS),
                        space=space,
                    )

        _refuse_one_string(texts)
        answers = exchange(self._connection, _STREAM_EMBED, requests(), window=window, stall_timeout_s=stall_timeout_s)
        async with aclosing(answers):
            async for request, reply in answers:
                number = int(request.item_id)
                if reply.WhichOneof("outcome") == "embedding":
                    space = space or reply.space
                    if reply.space != space:
                        raise ClientError(
                            f"another space, {reply.space[:8]}, became active; the vectors before were of {space[:8]}",
                            code=grpc.StatusCode.FAILED_PRECONDITION,
                            reason="SPACE_MISMATCH",
                        )
                    yield number, _vectors([reply.embedding])[0]
                else:
                    yield number, from_status(reply.error)

    async def _embed(
        self, texts: Texts, input_type: InputType, truncate: bool, precision: Precision, space: str
    ) -> embedding_pb.EmbedResponse:
        _refuse_one_string(texts)
        for number, text in enumerate(texts):
            _refuse_unsendable(text, number)
        request = embedding_pb.EmbedRequest(
            texts=list(texts),
            input_type=_choice("input_type", input_type, _INPUT_TYPES),
            truncate=truncate,
            vector_format=_choice("precision", precision, _VECTOR_FORMATS),
            space=space,
        )
        response = await self._connection.call(_EMBED, request)
        expected = DIMENSION * np.dtype(precision).itemsize
        sizes = {len(getattr(embedding.vector, f"{precision}_le")) for embedding in response.embeddings}
        if len(response.embeddings) != len(texts) or sizes != {expected}:
            raise ClientError(
                f"asked for {len(texts)} vectors of {expected} bytes, got {len(response.embeddings)} of "
                f"{sorted(sizes)} bytes",
                code=grpc.StatusCode.INTERNAL,
            )
        return response


def _vectors(embeddings: Collection[vector_pb.Embedding]) -> NDArray[np.float32]:
    if data := b"".join(embedding.vector.float32_le for embedding in embeddings):
        return np.frombuffer(data, dtype="<f4").reshape(-1, DIMENSION).astype(np.float32)
    data = b"".join(embedding.vector.float16_le for embedding in embeddings)
    return np.frombuffer(data, dtype="<f2").reshape(-1, DIMENSION).astype(np.float32)


def _choice(name: str, value: str, choices: Mapping[str, _T]) -> _T:
    if value not in choices:
        raise ClientError(f"{name} is {value!r}; use {' or '.join(choices)}", code=grpc.StatusCode.INVALID_ARGUMENT)
    return choices[value]


def _refuse_one_string(texts: object) -> None:
    """A string is a sequence of strings, of its characters."""
    if isinstance(texts, str):
        raise ClientError("texts is one string; give a list of texts", code=grpc.StatusCode.INVALID_ARGUMENT)


def _refuse_unsendable(text: str, number: int) -> None:
    """Such as what `errors="surrogateescape"` made of a file."""
    try:
        str.encode(text)
    except UnicodeEncodeError as error:
        raise ClientError(f"texts[{number}] is not UTF-8: {error}", code=grpc.StatusCode.INVALID_ARGUMENT) from error
