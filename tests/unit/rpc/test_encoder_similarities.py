"""What each encoder alone finds, against the cosines of its own vectors."""

import numpy as np
import pytest
from numpy.typing import NDArray

from duovec.v1 import search_service_pb2 as pb
from gateway.embedding.blend import reweighted
from gateway.rpc.encoder_similarities import add_encoder_similarities

RANDOM = np.random.default_rng(0)


def unit(dimension: int) -> NDArray[np.float32]:
    vector = RANDOM.standard_normal(dimension).astype(np.float32)
    return vector / np.linalg.norm(vector)


def joined(code_C: NDArray[np.float32], text_T: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate([code_C, text_T]) * np.float32(0.5**0.5)


QUERY, STORED = (unit(1536), unit(1024)), (unit(1536), unit(1024))
COSINES = [float(query @ stored) for query, stored in zip(QUERY, STORED, strict=True)]


@pytest.mark.parametrize("blend", [0.5, 0.9])
def test_it_is_the_cosine_of_the_encoders_vectors_whatever_the_blend(blend: float) -> None:
    query_V, _ = reweighted(joined(*QUERY), blend)
    hit = pb.SearchHit(chunk_id=7)
    add_encoder_similarities([hit], query_V, {7: joined(*STORED)})
    assert [hit.code_similarity, hit.text_similarity] == pytest.approx(COSINES, abs=1e-6)


def test_of_an_encoder_without_a_half_nothing_is_said() -> None:
    """Unset, not 0: that would be a figure."""
    query_V, _ = reweighted(joined(*QUERY), 1.0)
    hit = pb.SearchHit(chunk_id=7)
    add_encoder_similarities([hit], query_V, {7: joined(*STORED)})
    assert hit.code_similarity == pytest.approx(COSINES[0], abs=1e-6)
    assert not hit.HasField("text_similarity")


def test_a_chunk_that_is_gone_has_neither() -> None:
    hit = pb.SearchHit(chunk_id=7)
    add_encoder_similarities([hit], joined(*QUERY), {})
    assert not hit.HasField("code_similarity") and not hit.HasField("text_similarity")
