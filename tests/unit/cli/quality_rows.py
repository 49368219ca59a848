"""Rows of quality for the tests of what shows them."""

from datetime import datetime, timedelta
from typing import Any

from duovec.v1.quality_service_pb2 import SearchQuality

FIRST_WEEK = datetime(2026, 9, 7)
SPACE = "ab" * 32


def make_row(week: int = 0, codebase_id: str = "demo", **figures: Any) -> SearchQuality:
    """The quality of a week: 200 searches, 4 without a hit, unless said otherwise."""
    row = SearchQuality(
        **{"codebase_id": codebase_id, "space": SPACE, "search_count": 200, "zero_hit_count": 4} | figures
    )
    row.week_start.FromDatetime(FIRST_WEEK + timedelta(weeks=week))
    return row
