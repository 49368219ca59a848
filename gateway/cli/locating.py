"""Where on this disk the file of a hit lies."""

from collections.abc import Sequence
from pathlib import Path

from gateway.client.git import GitError, WorkTree


def source_folders(root: Path | None) -> list[Path]:
    """Folders that what was indexed may lie in: the one that was named, or this one, and those of its repository."""
    if root is not None:
        return [root.resolve()]
    here = Path.cwd()
    try:
        depth = len(Path(WorkTree(here).prefix).parts)
    except (GitError, OSError):
        return [here]
    return [here, *here.parents[:depth]]


def locate(path: str, folders: Sequence[Path]) -> Path | None:
    """Find the file of a hit.

    Args:
        path: As the service gives it, which may be anybody's.
        folders: Where to look, in this order.

    Returns:
        The file, absolute; None where no folder has it, or a link leads out of the folder.
    """
    for folder in folders:
        file = folder / path
        if file.is_file() and file.resolve().is_relative_to(folder.resolve()):
            return file
    return None
