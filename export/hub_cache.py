"""The hub's cache on disk, in huggingface_hub's own layout, so that either finds what the other downloaded.

In `models--<owner>--<name>/`, `blobs/<digest>` are the contents, `refs/<revision>` names a commit, and
`snapshots/<commit>/<path>` are links to the blobs. A blob is named by its SHA-256 (large files, Git LFS) or by its Git
object id, and so can be checked offline.
Ours alone are `duovec/<commit>.json`, the listing of the whole commit, and `blobs/<digest>.partial`.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from export.disk import replace_text, sync

_SHA256 = re.compile(r"[0-9a-f]{64}")
_GIT_ID = re.compile(r"[0-9a-f]{40}")
COMMIT = _GIT_ID


@dataclass(frozen=True)
class HubFile:
    """One file of a commit: its path, size in bytes, and SHA-256 (Git LFS) or Git object id."""

    path: str
    size: int
    digest: str

    def __post_init__(self) -> None:
        parts = PurePosixPath(self.path).parts
        if not parts or self.path.startswith("/") or ".." in parts:
            raise ValueError(f"{self.path!r} is not a path inside a repository")
        if not (_SHA256.fullmatch(self.digest) or _GIT_ID.fullmatch(self.digest)):
            raise ValueError(f"{self.digest!r} is neither a SHA-256 nor a Git object id")


def select(files: Iterable[HubFile], patterns: Sequence[str]) -> list[HubFile]:
    """The files that match a pattern, by path; `*` stays within one folder."""
    return [file for file in files if any(_matches(file.path, pattern) for pattern in patterns)]


def unmatched(files: Iterable[HubFile], patterns: Sequence[str]) -> list[str]:
    """The patterns without `*` that name none of the files."""
    paths = {file.path for file in files}
    return [pattern for pattern in patterns if "*" not in pattern and pattern not in paths]


def _matches(path: str, pattern: str) -> bool:
    names, globs = path.split("/"), pattern.split("/")
    return len(names) == len(globs) and all(map(fnmatchcase, names, globs))


def digests_of(path: Path) -> tuple[str, str]:
    """SHA-256 and Git object id of a file, in hex."""
    sha256, git_id = hashlib.sha256(), hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            sha256.update(chunk)
            git_id.update(chunk)
    return sha256.hexdigest(), git_id.hexdigest()


class HubCache:
    """One repository in the cache."""

    def __init__(self, cache_dir: Path, repository: str) -> None:
        self.folder = cache_dir / f"models--{repository.replace('/', '--')}"

    def blob(self, file: HubFile) -> Path:
        """Where the content of a file lies, whole."""
        return self.folder / "blobs" / file.digest

    def partial(self, file: HubFile) -> Path:
        """Where the content of a file grows."""
        return self.folder / "blobs" / f"{file.digest}.partial"

    def snapshot(self, commit: str) -> Path:
        """The folder of a commit."""
        return self.folder / "snapshots" / commit

    def commit_of(self, revision: str) -> str | None:
        """The commit that a revision stood for at the last download; None when it never was one here."""
        if COMMIT.fullmatch(revision):
            return revision
        path = self.folder / "refs" / revision
        return path.read_text(encoding="utf-8").strip() if path.is_file() else None

    def record(self, revision: str, commit: str, files: Sequence[HubFile]) -> None:
        """Remember what a revision stands for and what its commit holds."""
        texts = {self.folder / "duovec" / f"{commit}.json": json.dumps([asdict(file) for file in files], indent=1)}
        if not COMMIT.fullmatch(revision):
            texts[self.folder / "refs" / revision] = commit
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_text(path, text)

    def listing(self, commit: str) -> list[HubFile] | None:
        """The files of a commit as `record` got them; None when it did not."""
        path = self.folder / "duovec" / f"{commit}.json"
        if not path.is_file():
            return None
        return [HubFile(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]

    def found(self, commit: str) -> list[HubFile]:
        """The files that lie in a commit's snapshot, for a commit that another tool downloaded."""
        root, files = self.snapshot(commit), []
        for path in sorted(root.rglob("*")):
            if path.is_file():
                name = path.resolve().name  # of the blob
                known = _SHA256.fullmatch(name) or _GIT_ID.fullmatch(name)
                digest = name if known else digests_of(path)[0]
                files.append(HubFile(path.relative_to(root).as_posix(), path.stat().st_size, digest))
        return files

    def keep(self, file: HubFile) -> None:
        """Make the partial content of a file its blob; its digest was checked."""
        sync(self.partial(file))
        self.partial(file).replace(self.blob(file))

    def link(self, commit: str, file: HubFile) -> None:
        """Show a file in its commit's snapshot."""
        pointer = self.snapshot(commit) / file.path
        if pointer.exists() and pointer.samefile(self.blob(file)):
            return
        pointer.parent.mkdir(parents=True, exist_ok=True)
        pointer.unlink(missing_ok=True)  # what lay there was not checked
        pointer.symlink_to(os.path.relpath(self.blob(file), pointer.parent))
