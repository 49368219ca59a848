"""Revisions on their way in and out."""

import re
from datetime import UTC, datetime

from duovec.v1 import revision_pb2
from gateway.errors import InvalidInput
from gateway.rpc import validation
from gateway.rpc.timestamps import timestamp
from gateway.store.rows import NewRevision, RevisionRow

MAX_BRANCH_CHARS = 256
_COMMIT_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def checked_revision(field: str, revision: revision_pb2.Revision) -> NewRevision:
    """A revision that can be recorded; what is output only is not looked at."""
    if not _COMMIT_ID.fullmatch(revision.commit_id):
        raise InvalidInput(
            f"{field}.commit_id", f"is {revision.commit_id[:80]!r}; send the whole id, 40 or 64 of 0-9 and a-f"
        )
    return NewRevision(
        commit_id=revision.commit_id,
        folder=validation.path(f"{field}.folder", revision.folder) if revision.folder else "",
        branch=validation.label(f"{field}.branch", revision.branch, limit=MAX_BRANCH_CHARS),
        commit_time=_time(f"{field}.commit_time", revision),
        modified=revision.modified,
    )


def revision_message(row: RevisionRow) -> revision_pb2.Revision:
    """A revision as it is recorded."""
    return revision_pb2.Revision(
        commit_id=row.commit_id,
        folder=row.folder,
        branch=row.branch,
        commit_time=timestamp(row.commit_time),
        modified=row.modified,
        record_time=timestamp(row.record_time),
        outdated=row.outdated,
        version=row.version,
    )


def _time(field: str, revision: revision_pb2.Revision) -> datetime | None:
    if not revision.HasField("commit_time"):
        return None
    try:
        return revision.commit_time.ToDatetime(UTC)
    except (ValueError, OverflowError) as exc:
        raise InvalidInput(field, f"is no time from year 1 to 9999: {revision.commit_time.seconds} s") from exc
