"""A request to Triton, and what is seen of its answer.

The messages are filled here, not by tritonclient's own client: its objects for each tensor, and what it reads back from
each, took as long as all of gRPC.

Shapes: B rows of a request, T tokens of a row, D numbers of an encoder.
"""

import zlib
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from gateway.embedding.space import Encoder, InputType
from gateway.errors import BadVector

# Pooled and normalized in float32 by the graph; what differs by more is not a unit vector.
_NORM_TOLERANCE = 1e-2

OUTPUT, DIGEST = "sentence_embedding", "row_digest"
_DTYPES = {"FP32": "<f4", "FP16": "<f2", "FP64": "<f8", "INT64": "<i8"}


def is_of(rows: Sequence[NDArray[np.int64]], task_id: int, digest_B1: NDArray[np.int64] | None) -> bool:
    """Whether an answer is one to these rows; see `export.python_backend.host.row_digests`."""
    expected = [zlib.crc32(ids_T.tobytes(), task_id) for ids_T in rows]
    return digest_B1 is not None and digest_B1.ravel().tolist() == expected


def padded_width(longest: int, buckets: Sequence[int]) -> int:
    """Tokens of a padded row: those of the longest one, or its bucket where the backend merges equal shapes only."""
    index = bisect_left(buckets, longest)
    return buckets[index] if index < len(buckets) else longest


def infer_request(
    encoder: Encoder, rows: Sequence[NDArray[np.int64]], width: int, input_type: InputType, *, priority: int
) -> service_pb2.ModelInferRequest:
    """Ask an encoder for the vectors of rows, padded on the right to `width` tokens.

    Args:
        encoder: The version that is asked for, and no other.
        rows: Token ids of each text, no row longer than `width`.
        width: Tokens of a padded row.
        input_type: Chooses the task adapter, where the encoder has any.
        priority: Its level in Triton's queue.
    """
    mask_BT = np.zeros((len(rows), width), dtype=np.int64)
    ids_BT = np.zeros((len(rows), width), dtype=np.int64)
    for index, ids_T in enumerate(rows):
        mask_BT[index, : len(ids_T)] = 1
        ids_BT[index, : len(ids_T)] = ids_T
    request = service_pb2.ModelInferRequest(model_name=encoder.name, model_version=str(encoder.version))
    request.parameters["priority"].uint64_param = priority
    _add_input(request, "input_ids", ids_BT)
    _add_input(request, "attention_mask", mask_BT)
    if encoder.task_ids:
        _add_input(request, "task_id", np.full((len(rows), 1), encoder.task_ids[input_type], dtype=np.int64))
    request.outputs.add(name=OUTPUT)
    if encoder.names_rows:
        request.outputs.add(name=DIGEST)
    return request


def _add_input(request: service_pb2.ModelInferRequest, name: str, values: NDArray[np.int64]) -> None:
    request.inputs.add(name=name, datatype="INT64", shape=values.shape)
    request.raw_input_contents.append(values.tobytes())


def output(response: service_pb2.ModelInferResponse, name: str) -> NDArray[Any] | None:
    """A tensor of an answer, or None where it has none of this name, or of a type that no encoder answers.

    Raises:
        ValueError: Its bytes are not those of its shape.
    """
    for tensor, data in zip(response.outputs, response.raw_output_contents, strict=False):
        if tensor.name == name and tensor.datatype in _DTYPES:
            values: NDArray[Any] = np.frombuffer(data, dtype=_DTYPES[tensor.datatype])
            return values.reshape(tensor.shape)
    return None


def unusable(vectors_BD: NDArray[np.float32], encoder: Encoder) -> dict[int, BadVector]:
    """By index, the rows that are no unit vectors."""
    # A NaN or an infinity anywhere in a row makes its norm one, which is outside the tolerance as well.
    norms_B = np.sqrt(np.einsum("bd,bd->b", vectors_BD, vectors_BD))
    bad_B = ~(np.abs(norms_B - 1.0) <= _NORM_TOLERANCE)
    return {
        int(index): BadVector(
            f"encoder {encoder.name} version {encoder.version} answered a vector of norm {norms_B[index]}"
        )
        for index in np.flatnonzero(bad_B)
    }
