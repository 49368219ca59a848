"""What each encoder alone finds of the hits of a search."""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from duovec.v1 import search_service_pb2 as pb
from gateway.embedding.blend import CODE_WEIGHT
from gateway.embedding.space import CODE_DIM


def add_encoder_similarities(
    hits: Iterable[pb.SearchHit], query_V: NDArray[np.float32], vectors: Mapping[int, NDArray[np.float32]]
) -> None:
    """Set `code_similarity` and `text_similarity` of hits.

    Args:
        hits: Of one page.
        query_V: (2560,), the query; a half of zeros says nothing of its encoder, which is left out.
        vectors: The stored vectors, (2560,) each, by chunk id. One that was deleted meanwhile is not there.
    """
    code_C, text_T = (_unit(half) for half in np.split(query_V, [CODE_DIM]))
    for hit in hits:
        stored_V = vectors.get(hit.chunk_id)
        if stored_V is None:
            continue
        # Of a stored vector the halves have the norms √w and √(1−w).
        if code_C is not None:
            hit.code_similarity = float(code_C @ stored_V[:CODE_DIM]) / CODE_WEIGHT**0.5
        if text_T is not None:
            hit.text_similarity = float(text_T @ stored_V[CODE_DIM:]) / (1 - CODE_WEIGHT) ** 0.5


def _unit(half: NDArray[np.float32]) -> NDArray[np.float32] | None:
    norm = float(np.linalg.norm(half))
    return half / norm if norm > 0 else None
