"""What is taken for feedback."""

from typing import Any
from uuid import UUID

import pytest

from duovec.v1 import search_service_pb2 as pb
from gateway.errors import InvalidInput
from gateway.rpc.feedback_request import check
from gateway.store.feedback import Said

SEARCH_ID = "0b9a3f5e-6c1d-0e2f-0a7b-1c2d3e4f5a6b"
OPENED, USEFUL, USELESS = pb.FEEDBACK_SIGNAL_OPENED, pb.FEEDBACK_SIGNAL_USEFUL, pb.FEEDBACK_SIGNAL_NOT_USEFUL


def request(*items: tuple[int, int], search_id: str = SEARCH_ID) -> pb.RecordFeedbackRequest:
    return pb.RecordFeedbackRequest(
        search_id=search_id, items=[{"chunk_id": chunk_id, "signal": signal} for chunk_id, signal in items]
    )


def test_signals_of_one_hit_add_up_in_any_order() -> None:
    search_id, said = check(request((7, OPENED), (9, USELESS), (7, USEFUL), (9, OPENED), (8, OPENED), (7, USEFUL)))
    assert search_id == UUID(SEARCH_ID)
    assert said == {7: Said(True, True, 0), 9: Said(True, False, 1), 8: Said(True, None, 4)}


@pytest.mark.parametrize(
    ("message", "field", "complaint"),
    [
        (request((1, USEFUL), search_id=""), "search_id", "is none that Search returned"),
        (request((1, USEFUL), search_id="x" * 36), "search_id", "is none that Search returned"),
        (request(), "items", "has 0 items; send 1 to 200"),
        (request(*[(n, USEFUL) for n in range(201)]), "items", "has 201 items; send 1 to 200"),
        (request((1, USEFUL), (2, 0)), "items[1].signal", "is 0; set"),
        (request((1, 17)), "items[0].signal", "is 17; set"),
        (request((1, USEFUL), (1, USELESS)), "items[1].signal", "says useful and not useful of one hit"),
    ],
)
def test_what_makes_no_sense_is_refused(message: Any, field: str, complaint: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check(message)
    assert refused.value.field == field
    assert complaint in refused.value.description
