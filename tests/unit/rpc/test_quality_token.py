"""The page tokens of ListQuality."""

import pytest

from gateway.errors import InvalidInput
from gateway.rpc.quality_service import _place


def test_a_place_comes_back_in_universal_time() -> None:
    place = _place(["a", "b", "2026-11-16T02:00:00+02:00"])
    assert place is not None
    assert place[2].isoformat() == "2026-11-16T00:00:00+00:00"


@pytest.mark.parametrize(
    "week", ["", "soon", "2026-11-16", "2026-11-16T00:00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"]
)
def test_what_is_no_week_is_refused(week: str) -> None:
    """The last two are times in their own zones, and none in UTC, which the database keeps."""
    with pytest.raises(InvalidInput, match="is not one that this method returned"):
        _place(["a", "b", week])
