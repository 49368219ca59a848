"""A request of RecordFeedback, checked."""

from dataclasses import replace
from uuid import UUID

from duovec.v1 import search_service_pb2 as pb
from gateway.errors import InvalidInput
from gateway.store.feedback import Said

MAX_ITEMS = 200


def check(request: pb.RecordFeedbackRequest) -> tuple[UUID, dict[int, Said]]:
    """Read the search, and what is said of its hits by chunk id, in the order of the request.

    Raises:
        InvalidInput: Names the field.
    """
    try:
        search_id = UUID(request.search_id)
    except ValueError as exc:
        raise InvalidInput("search_id", "is none that Search returned; send that of its reply") from exc
    if not 1 <= len(request.items) <= MAX_ITEMS:
        raise InvalidInput("items", f"has {len(request.items)} items; send 1 to {MAX_ITEMS}")
    said: dict[int, Said] = {}
    for index, item in enumerate(request.items):
        said[item.chunk_id] = _add(said.get(item.chunk_id, Said(item=index)), item.signal, f"items[{index}].signal")
    return search_id, said


def _add(known: Said, signal: int, field: str) -> Said:
    if signal == pb.FEEDBACK_SIGNAL_OPENED:
        return replace(known, opened=True)
    if signal not in (pb.FEEDBACK_SIGNAL_USEFUL, pb.FEEDBACK_SIGNAL_NOT_USEFUL):
        raise InvalidInput(field, f"is {signal}; set FEEDBACK_SIGNAL_OPENED (1), _USEFUL (2) or _NOT_USEFUL (3)")
    useful = signal == pb.FEEDBACK_SIGNAL_USEFUL
    if known.useful is not None and known.useful != useful:
        raise InvalidInput(field, "says useful and not useful of one hit; say one of them")
    return replace(known, useful=useful)
