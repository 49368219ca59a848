"""The tensors of a request to Triton, and what is seen of an answer's.

Shapes: B rows of a request, T tokens of a row, D numbers of an encoder.
"""

import zlib
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
import tritonclient.grpc.aio as triton_grpc
from numpy.typing import NDArray

from gateway.embedding.space import Encoder
from gateway.errors import BadVector

# Pooled and normalized in float32 by the graph; what differs by more is not a unit vector.
_NORM_TOLERANCE = 1e-2


def is_of(rows: Sequence[NDArray[np.int64]], task_id: int, digest_B1: NDArray[np.int64] | None) -> bool:
    """Whether an answer is one to these rows; see `export.python_backend.host.row_digests`."""
    expected = [zlib.crc32(ids_T.tobytes(), task_id) for ids_T in rows]
    return digest_B1 is not None and digest_B1.ravel().tolist() == expected


def padded_width(longest: int, buckets: Sequence[int]) -> int:
    """Tokens of a padded row: those of the longest one, or its bucket where the backend merges equal shapes only."""
    index = bisect_left(buckets, longest)
    return buckets[index] if index < len(buckets) else longest


def int64_input(name: str, values: NDArray[np.int64]) -> triton_grpc.InferInput:
    """A tensor of a request."""
    tensor = triton_grpc.InferInput(name, list(values.shape), "INT64")
    tensor.set_data_from_numpy(values)
    return tensor


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
