from datetime import UTC, datetime

import pytest

from duovec.v1 import revision_pb2
from gateway.errors import InvalidInput
from gateway.rpc.revisions import checked_revision, revision_message
from gateway.store.rows import RevisionRow


def test_a_revision_comes_back_as_it_was_recorded() -> None:
    row = RevisionRow(
        commit_id="1c" * 32,
        folder="src/a",
        branch="feature/x",
        commit_time=datetime(2026, 11, 1, 12, tzinfo=UTC),
        modified=True,
        version=3,
        record_time=datetime(2026, 11, 2, tzinfo=UTC),
        outdated=True,
    )
    message = revision_message(row)
    new = checked_revision("revision", message)
    assert (new.commit_id, new.folder, new.branch, new.commit_time, new.modified) == (
        row.commit_id,
        row.folder,
        row.branch,
        row.commit_time,
        True,
    )
    assert (message.version, message.outdated, message.record_time.seconds) == (3, True, 1793577600)


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        ({}, "revision.commit_id: is ''; send the whole id"),
        ({"commit_id": "1c2d3e4"}, "revision.commit_id: is '1c2d3e4'; send the whole id, 40 or 64 of 0-9 and a-f"),
        ({"commit_id": "1C" * 20}, "revision.commit_id"),
        ({"commit_id": "1c" * 20, "folder": "../x"}, "revision.folder: is '../x'"),
        ({"commit_id": "1c" * 20, "branch": "x" * 257}, "revision.branch: has 257 characters, the limit is 256"),
        ({"commit_id": "1c" * 20, "branch": "a\x1b[2J"}, "control character"),
        ({"commit_id": "1c" * 20, "commit_time": {"seconds": 2**62}}, "revision.commit_time: is no time"),
    ],
)
def test_what_cannot_be_recorded_is_refused(fields: dict[str, object], refusal: str) -> None:
    with pytest.raises(InvalidInput) as error:
        checked_revision("revision", revision_pb2.Revision(**fields))  # type: ignore[arg-type]
    assert refusal in str(error.value)
