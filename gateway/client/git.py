"""What git knows of a folder: commits, what differs between two, and the bytes of files. By its command line."""

import os
import selectors
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc

from gateway.client.errors import ClientError
from gateway.client.files import MAX_FILE_BYTES, SkippedFile, source_of

_TIMEOUT_S = 120.0
_PIECE_BYTES = 1 << 20
_REGULAR_MODES = frozenset({"100644", "100755"})
_UNUSABLE_MODES = {"120000": "symbolic link", "160000": "submodule"}
# A repository is read that perhaps is no friend's: nothing that it is set to run is run, and nothing is asked for.
_COMMAND = ("git", "-c", "core.fsmonitor=false", "-c", "log.showSignature=false", "--no-pager")
_EMPTY = "EMPTY_FILTER"
_SETTINGS = {
    "LC_ALL": "C",
    "GIT_TERMINAL_PROMPT": "0",
    # An index that was brought up to date is not written, which would run a hook.
    "GIT_OPTIONAL_LOCKS": "0",
    # A partial clone does not get what it lacks, which would run what its remote is reached by. Before 2.45 and the
    # repairs of 2.39 to 2.44 git does not know the first: it tries, and no way to a remote is allowed to it.
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "",
    _EMPTY: "",
}
# What a hook hands on to its children would name another repository than the folder's.
_REDIRECTIONS = frozenset(
    {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_NAMESPACE", "GIT_EXTERNAL_DIFF"}
)


class GitError(ClientError):
    """Git is missing, is not content with the folder, or did not answer in time."""

    def __init__(self, message: str) -> None:
        """Say what failed in one line."""
        super().__init__(message, code=grpc.StatusCode.FAILED_PRECONDITION)


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit: its whole id, and when it was made."""

    commit_id: str
    time: datetime


@dataclass(frozen=True, slots=True)
class TrackedFile:
    """A file of a commit.

    Attributes:
        path: Relative to the folder, with `/`.
        blob_id: Of its bytes.
        skipped: Why it is no regular file; None where it is one.
    """

    path: str
    blob_id: str
    skipped: str | None


@dataclass(frozen=True, slots=True)
class Changes:
    """What differs between two commits.

    Attributes:
        written: Files that are new, have new bytes or a new name.
        gone: Paths that the later commit has not, old names included.
        renamed_count: How many files only have a new name.
    """

    written: list[TrackedFile]
    gone: list[str]
    renamed_count: int


class WorkTree:
    """A folder in the work tree of a git repository. Every method raises GitError where git fails.

    Attributes:
        folder: The folder.
        prefix: The folder's path in the repository, without a slash at the end; empty for all of it.
    """

    def __init__(self, folder: Path) -> None:
        """Ask git where the folder lies."""
        self.folder = folder.resolve(strict=True)
        self.prefix = self._ask("rev-parse", "--show-prefix").rstrip("\n").rstrip("/")

    def head(self) -> Commit:
        """The commit that is checked out."""
        commit_id, _, seconds = self._ask("show", "--no-patch", "--format=%H %ct", "HEAD", "--").strip().partition(" ")
        try:
            time = datetime.fromtimestamp(int(seconds), UTC)
        except (ValueError, OverflowError, OSError) as error:
            # Git takes dates that neither Python nor a Timestamp has.
            raise GitError(f"{self.folder}: the time of commit {commit_id} cannot be recorded: {error}") from error
        return Commit(commit_id, time)

    def branch(self) -> str:
        """The branch that is checked out; empty where none is."""
        name = self._ask("rev-parse", "--abbrev-ref", "HEAD").strip()
        return "" if name == "HEAD" else name

    def has(self, commit_id: str) -> bool:
        """Whether a commit of this id is there, with its files' names; a shallow clone lacks most."""
        return self._run("cat-file", "-e", f"{commit_id}^{{tree}}").returncode == 0

    def commits_between(self, older: str, newer: str) -> int:
        """How many commits `newer` has that `older` has not."""
        return int(self._ask("rev-list", "--count", f"{older}..{newer}", "--"))

    def files(self, commit_id: str) -> Iterator[TrackedFile]:
        """All files of a commit below the folder."""
        listed = self._ask("ls-tree", "-r", "-z", "--full-tree", f"{commit_id}:{self.prefix}")
        for entry in listed.split("\0")[:-1]:
            about, _, path = entry.partition("\t")
            mode, _, blob_id = about.split(" ")
            yield _tracked(path, mode, blob_id)

    def changes(self, older: str, newer: str) -> Changes:
        """What differs between two commits below the folder, whichever way they are related."""
        # To find names that are nearly the same file's, git would read the older files, which a partial clone lacks.
        raw = self._ask("diff-tree", "-r", "-z", "--raw", "-M100%", "--no-abbrev", "--relative", older, newer, "--")
        fields = iter(raw.split("\0")[:-1])
        written: list[TrackedFile] = []
        gone: list[str] = []
        renamed_count = 0
        for about in fields:
            _, mode, _, blob_id, status = about.split(" ")
            path = next(fields)
            if status[0] in "RC":
                if status[0] == "R":
                    gone.append(path)
                    renamed_count += 1
                path = next(fields)
            if status[0] == "D":
                gone.append(path)
            else:
                written.append(_tracked(path, mode, blob_id))
        return Changes(written, gone, renamed_count)

    def uncommitted(self) -> list[str]:
        """Paths below the folder that differ from the commit that is checked out, and new ones that are not ignored.

        What a filter made of a file is compared as it is, where git has to compare: no filter is run.
        """
        listed = self._ask(
            *("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--ignore-submodules=all"),
            *("--", "."),
            options=self._no_filters(),
        )
        below = f"{self.prefix}/" if self.prefix else ""
        # Two letters and a space come first. Other repositories inside, which end in a slash, are left alone as
        # submodules are.
        return sorted(entry[3:].removeprefix(below) for entry in listed.split("\0")[:-1] if not entry.endswith("/"))

    def blobs(self) -> "BlobReader":
        """A reader of files' bytes, for use in a `with`."""
        return BlobReader(self.folder)

    def _no_filters(self) -> list[str]:
        """Options by which every filter that is set, be it by whom it may, does nothing; git has none for all."""
        names = self._ask("config", "--null", "--name-only", "--get-regexp", r"^filter\.", none_code=1).split("\0")[:-1]
        filters = sorted({name.rpartition(".")[0] for name in names})
        # Not by `-c`, to which a name with an equals sign would end there. Git before 2.31 refuses it.
        return [f"--config-env={name}.{key}={_EMPTY}" for name in filters for key in ("clean", "process", "required")]

    def _ask(self, *arguments: str, options: Sequence[str] = (), none_code: int = 0) -> str:
        done = self._run(*arguments, options=options)
        if done.returncode not in {0, none_code}:
            why = os.fsdecode(done.stderr).strip().splitlines() or [f"exit code {done.returncode}"]
            raise GitError(f"{self.folder}: git {arguments[0]}: {why[0].removeprefix('fatal: ')}")
        return os.fsdecode(done.stdout)

    def _run(self, *arguments: str, options: Sequence[str] = ()) -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(  # noqa: S603 - no shell; ids were checked by whoever recorded them
                [*_COMMAND, *options, *arguments],
                cwd=self.folder,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_TIMEOUT_S,
                check=False,
            )
        except FileNotFoundError as error:
            raise GitError("there is no command `git`; install it, or use `duovec index`") from error
        except subprocess.TimeoutExpired as error:
            raise GitError(f"{self.folder}: git {arguments[0]} took longer than {_TIMEOUT_S:g} s") from error


class BlobReader:
    """Reads files' bytes from a repository, by one process of git."""

    def __init__(self, folder: Path) -> None:
        """Read from the repository that a folder lies in."""
        self._folder = folder

    def __enter__(self) -> Self:
        """Start git."""
        self._process = subprocess.Popen(  # noqa: S603 - no shell, and no argument of others
            [*_COMMAND, "cat-file", "--batch"],
            cwd=self._folder,
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._buffer = bytearray()
        self._selector = selectors.DefaultSelector()
        assert self._process.stdin and self._process.stdout  # noqa: S101 - for mypy: both are pipes
        self._in, self._out = self._process.stdin, self._process.stdout
        self._selector.register(self._out, selectors.EVENT_READ)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop git."""
        self._process.kill()
        self._process.wait()
        self._selector.close()
        # What git did not take is written once more.
        with suppress(BrokenPipeError):
            self._in.close()
        self._out.close()

    def read(self, file: TrackedFile) -> bytes | SkippedFile:
        """Read a file of a commit.

        Returns:
            As `gateway.client.files.read_source`.
        """
        if file.skipped is not None:
            return SkippedFile(file.path, file.skipped)
        try:
            data = self._read_blob(file.blob_id)
        except BrokenPipeError as error:
            raise GitError(
                f"{self._folder}: git cat-file ended by itself at {file.path!r} ({file.blob_id}), as it does in a"
                " partial clone where it would have to fetch"
            ) from error
        if data is None:
            raise GitError(f"{self._folder}: git has no bytes of {file.path!r} ({file.blob_id}); fetch them")
        return source_of(file.path, data)

    def _read_blob(self, blob_id: str) -> bytes | None:
        """Read so much of a blob that one sees whether it is too large; None where there is none."""
        self._in.write(f"{blob_id}\n".encode())
        self._in.flush()
        header = self._line().split()
        if len(header) != 3 or header[1] != b"blob":
            return None
        size_bytes = int(header[2])
        data = self._take(min(size_bytes, MAX_FILE_BYTES + 1))
        left_bytes = size_bytes - len(data)
        while left_bytes:
            left_bytes -= len(self._take(min(left_bytes, _PIECE_BYTES)))
        self._take(1)  # the line's end after it
        return data

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            self._fill()
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def _take(self, size_bytes: int) -> bytes:
        while len(self._buffer) < size_bytes:
            self._fill()
        data = bytes(self._buffer[:size_bytes])
        del self._buffer[:size_bytes]
        return data

    def _fill(self) -> None:
        if not self._selector.select(_TIMEOUT_S):
            raise GitError(f"{self._folder}: git cat-file did not answer within {_TIMEOUT_S:g} s")
        data = os.read(self._out.fileno(), _PIECE_BYTES)
        if not data:
            raise BrokenPipeError("git cat-file ended by itself")
        self._buffer += data


def _tracked(path: str, mode: str, blob_id: str) -> TrackedFile:
    skipped = None if mode in _REGULAR_MODES else _UNUSABLE_MODES.get(mode, "not a regular file")
    return TrackedFile(path, blob_id, skipped)


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _REDIRECTIONS}
    return kept | _SETTINGS
