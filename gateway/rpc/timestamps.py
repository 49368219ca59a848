"""Times on their way into protos."""

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp


def timestamp(time: datetime | None) -> Timestamp | None:
    """A time as protos have it; None, which leaves the field unset, for none."""
    if time is None:
        return None
    found = Timestamp()
    found.FromDatetime(time)
    return found
