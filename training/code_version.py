"""Which code runs: what a result and a publication are recorded with."""

import subprocess
from importlib.metadata import version
from pathlib import Path


def code_version(root: Path = Path(__file__).parents[1]) -> str:
    """duovec's version, with the commit where it runs from a clone, and whether tracked files differ from it.

    Where git does not tell, the commit is unknown, and this says so: it is not the release that runs.
    """
    release = f"duovec {version('duovec')}"
    if not (root / ".git").exists():
        return release
    try:
        commit = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return f"{release}, commit unknown"
    return f"{release}, commit {commit}{', modified' if changed else ''}"


def _git(root: Path, *words: str) -> str:
    found = subprocess.run(  # noqa: S603
        ["git", "-C", str(root), *words],  # noqa: S607
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    return found.stdout.strip()
