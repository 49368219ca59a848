"""Triton's gRPC protocol with an encoder that answers as a test tells it. A test double: it runs no model."""

# ruff: noqa: N802 - the methods are named after the RPCs.

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceServicer
from tritonclient.utils import np_to_triton_dtype

DIMENSION = 64


@dataclass(frozen=True)
class Call:
    """What one request asked for."""

    model: str
    version: str
    ids_BT: NDArray[np.int64]
    mask_BT: NDArray[np.int64]
    task_id_B1: NDArray[np.int64] | None
    priority: int


Answer = Callable[[Call, Any], Awaitable[NDArray[Any]]]


async def one_hot(call: Call, context: Any) -> NDArray[Any]:
    """Each row is the unit vector of its first id: a row in the wrong place is seen."""
    return np.eye(DIMENSION, dtype=np.float32)[call.ids_BT[:, 0]]


class FakeTriton(GRPCInferenceServiceServicer):
    """Records the requests and answers them.

    Attributes:
        answer: Makes the vectors of a request, or aborts it.
        ready: What is said of every model.
        calls: The requests that came.
        most_in_flight: Requests that were in work at once, at most.
        answers_for: Rows of another request, (B, T), whose digests are in the answers; None for the request's own.
    """

    def __init__(self) -> None:
        self.answer: Answer = one_hot
        self.ready = True
        self.calls: list[Call] = []
        self.ready_calls: list[tuple[str, str]] = []
        self.most_in_flight = 0
        self.answers_for: list[NDArray[np.int64]] | None = None
        self._in_flight = 0

    async def ModelReady(self, request: Any, context: Any) -> Any:
        self.ready_calls.append((request.name, request.version))
        return service_pb2.ModelReadyResponse(ready=self.ready)

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        tensors = {
            tensor.name: np.frombuffer(raw, dtype=np.int64).reshape(tuple(tensor.shape))
            for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
        }
        call = Call(
            request.model_name,
            request.model_version,
            tensors["input_ids"],
            tensors["attention_mask"],
            tensors.get("task_id"),
            request.parameters["priority"].uint64_param,
        )
        self.calls.append(call)
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        try:
            vectors = await self.answer(call, context)
        finally:
            self._in_flight -= 1
        response = service_pb2.ModelInferResponse(model_name=call.model, raw_output_contents=[vectors.tobytes()])
        response.outputs.add(name="sentence_embedding", datatype=np_to_triton_dtype(vectors.dtype), shape=vectors.shape)
        if any(output.name == "row_digest" for output in request.outputs):
            rows = self.answers_for or [
                ids_T[mask_T == 1] for ids_T, mask_T in zip(call.ids_BT, call.mask_BT, strict=True)
            ]
            tasks_B = np.zeros(len(rows), np.int64) if call.task_id_B1 is None else call.task_id_B1[:, 0]
            digests = [zlib.crc32(row.tobytes(), int(task)) for row, task in zip(rows, tasks_B, strict=False)]
            digest_B1 = np.array(digests, dtype=np.int64)[:, None]
            response.outputs.add(name="row_digest", datatype="INT64", shape=digest_B1.shape)
            response.raw_output_contents.append(digest_B1.tobytes())
        return response


def refuse(code: grpc.StatusCode, text: str) -> Answer:
    """An answer that is this error."""

    async def answer(call: Call, context: Any) -> NDArray[Any]:
        await context.abort(code, text)
        raise AssertionError("abort returned")

    return answer


async def hang(call: Call, context: Any) -> NDArray[Any]:
    """An answer that never comes."""
    await asyncio.Event().wait()
    raise AssertionError("unreachable")
