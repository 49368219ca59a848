"""How old what was searched is: the commit that a codebase holds, beside the one that is checked out here."""

from dataclasses import dataclass
from pathlib import Path

from duovec.v1 import revision_pb2, search_service_pb2
from gateway.cli.options import when
from gateway.client.git import GitError, WorkTree


@dataclass(frozen=True, slots=True)
class Distance:
    """Commits between what a codebase holds and HEAD.

    Attributes:
        behind: Commits of HEAD that the codebase has not.
        ahead: Commits of the codebase that HEAD has not.
    """

    behind: int
    ahead: int


def distance_to_head(revision: revision_pb2.Revision, folder: Path) -> Distance | None:
    """Compare with the repository that a folder lies in; None where that is none, or does not know the commit."""
    try:
        tree = WorkTree(folder)
        if not tree.has(revision.commit_id):
            return None
        head = tree.head().commit_id
        return Distance(tree.commits_between(revision.commit_id, head), tree.commits_between(head, revision.commit_id))
    except (GitError, OSError):
        return None


def describe(revision: revision_pb2.Revision, distance: Distance | None) -> str:
    """Say in one line what a codebase holds, and how that differs from HEAD."""
    branch = f" ({revision.branch})" if revision.branch else ""
    told = [f"indexed at {revision.commit_id[:10]}{branch} on {when(revision.record_time)}"]
    if revision.outdated:
        told.append("changed since")
    if revision.modified:
        told.append("with changes that were not committed")
    if distance is not None:
        apart = [
            f"{count} {'commit' if count == 1 else 'commits'} {where}"
            for count, where in ((distance.behind, "behind"), (distance.ahead, "ahead of"))
            if count
        ]
        told.append(f"{' and '.join(apart)} HEAD".replace("behind HEAD", "behind") if apart else "as HEAD is")
    return ", ".join(told)


def to_dict(searched: search_service_pb2.SearchedRevision, distance: Distance | None) -> dict[str, object]:
    """The same for programs."""
    revision = searched.revision
    return {
        "codebase_id": searched.codebase_id,
        "commit_id": revision.commit_id,
        "branch": revision.branch,
        "folder": revision.folder,
        "record_time": revision.record_time.ToJsonString(),
        "outdated": revision.outdated,
        "modified": revision.modified,
        "commits_behind_head": None if distance is None else distance.behind,
        "commits_ahead_of_head": None if distance is None else distance.ahead,
    }
