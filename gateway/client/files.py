"""Finds the files of a source tree that can be indexed, and says which cannot, and why."""

import errno
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from gateway.client.gitignore import IgnoreFile, IgnoreFileTooLarge, ignores_above, is_ignored, read_ignore_file

MAX_FILE_BYTES = 1_000_000
_MAX_PATH_CHARS, _MAX_PATH_BYTES = 1024, 2048  # Chunk.path
_REFUSED_IN_PATHS = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")
_BINARY_PROBE_BYTES = 8192
NEVER_ENTERED = frozenset({".git", ".hg", ".svn", ".jj", ".bzr", "node_modules", "__pycache__", ".venv"})


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file that is not indexed.

    Attributes:
        path: Relative to the root, with `/`; a folder ends in `/`.
        reason: "binary", "too large", "empty", "not UTF-8", "unreadable", "symbolic link", "not a regular file",
            "name not UTF-8", "name with a control character or backslash", "path too long" or "submodule".
    """

    path: str
    reason: str


@dataclass(slots=True)
class FileTree:
    """The files below a root.

    Attributes:
        folder: What paths are relative to: the root, or the folder of a root that is a file.
        paths: Relative paths with `/`, sorted folder by folder; nothing has been read yet.
        skipped: Files and folders that cannot be indexed. Ignored ones are not listed.
    """

    folder: Path
    paths: list[str] = field(default_factory=list)
    skipped: list[SkippedFile] = field(default_factory=list)


def find_files(root: Path) -> FileTree:
    """Find the files below a root.

    `.gitignore` files are honoured as git does: nested ones, negation, and those above the root up to the folder
    that holds `.git`, with its repository's `info/exclude`. `.git` is never taken, be it a folder or a file. Links are
    never followed, so the walk neither loops nor leaves the root. A folder whose `.gitignore` has more than 128 KiB
    counts as unreadable.

    Args:
        root: A folder, or one file, which is taken even if it is ignored, but not if it is no regular file.

    Returns:
        What was found, in an order that depends on names alone.

    Raises:
        FileNotFoundError: There is no such file or folder.
        IgnoreFileTooLarge: A `.gitignore` above the root has more than 128 KiB (an OSError).
    """
    root = root.resolve(strict=True)
    if not root.is_dir():
        tree = FileTree(root.parent)
        _add(tree, root)
        return tree
    tree = FileTree(root)
    _walk(tree, root, _ignores_of(root))
    return tree


def find_changed(root: Path, changed: Iterable[str]) -> FileTree:
    """Find what `find_files` would of some paths, and of what is below them.

    Args:
        root: A folder.
        changed: Paths relative to it, with `/`. What is there may be a file, a folder or nothing.

    Returns:
        As `find_files`. What is gone, ignored or behind a link is not in it.

    Raises:
        As `find_files`.
    """
    root = root.resolve(strict=True)
    tree = FileTree(root)
    inside = {root: [*_ignores_of(root), *read_ignore_file(root)]}
    for relative in sorted(set(changed)):
        path = root / relative
        try:
            is_folder = _is_reached(root, path, inside)
        except OSError:
            tree.skipped.append(SkippedFile(_printable(relative), "unreadable"))
            continue
        if is_folder:
            _walk(tree, path, inside[path.parent])
        elif is_folder is not None:
            _add(tree, path)
    # Of a folder and what is in it both may be named.
    tree.paths = list(dict.fromkeys(tree.paths))
    return tree


def _is_reached(root: Path, path: Path, inside: dict[Path, list[IgnoreFile]]) -> bool | None:
    """Tell whether a path that the walk comes to is a folder; None where it does not come to it.

    `inside` has the ignore files that hold in a folder, and is filled on the way.
    """
    here = root
    for part in path.relative_to(root).parts:
        folder, here = here, here / part
        try:
            is_folder = stat.S_ISDIR(here.lstat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if _is_left_out(here, inside[folder], is_folder=is_folder):
            return None
        if here == path:
            return is_folder
        if not is_folder:
            return None
        if here not in inside:
            inside[here] = [*inside[folder], *read_ignore_file(here)]
    return True


def _is_left_out(path: Path, ignores: list[IgnoreFile], *, is_folder: bool) -> bool:
    # `.git` is a file in a linked work tree and in a submodule.
    never = path.name in NEVER_ENTERED if is_folder else path.name == ".git"
    return never or is_ignored(path, ignores, is_folder=is_folder)


def _ignores_of(root: Path) -> list[IgnoreFile]:
    above = ignores_above(root)
    # Whoever names an ignored folder wants what is in it.
    return [] if is_ignored(root, above, is_folder=True) else above


def _walk(tree: FileTree, start: Path, above: list[IgnoreFile]) -> None:
    root = tree.folder
    stack = [(start, above)]
    while stack:
        folder, ignores = stack.pop()
        try:
            with os.scandir(folder) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
            ignores = [*ignores, *read_ignore_file(folder)]
        except OSError as error:
            if isinstance(error, IgnoreFileTooLarge):
                tree.skipped.append(SkippedFile(_printable(_relative(root, folder / ".gitignore")), "too large"))
            tree.skipped.append(SkippedFile(_printable(f"{_relative(root, folder)}/"), "unreadable"))
            continue
        folders = []
        for entry in entries:
            path = Path(entry.path)
            is_folder = entry.is_dir(follow_symlinks=False)
            if _is_left_out(path, ignores, is_folder=is_folder):
                continue
            if is_folder:
                folders.append((path, ignores))
            else:
                _add(tree, path)
        stack.extend(reversed(folders))


def read_source(tree: FileTree, path: str) -> bytes | SkippedFile:
    """Read a file that `find_files` found.

    Args:
        tree: What `find_files` gave.
        path: One of its paths.

    Returns:
        The bytes, which are UTF-8 and hold no NUL, or why the file is skipped. What was put in its place since, such
        as a link or a pipe, is neither followed nor waited for.
    """
    try:
        descriptor = _open_below(tree.folder, path)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return SkippedFile(path, "not a regular file")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(MAX_FILE_BYTES + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        return SkippedFile(path, "symbolic link" if error.errno == errno.ELOOP else "unreadable")
    return source_of(path, data)


def source_of(path: str, data: bytes) -> bytes | SkippedFile:
    """Give the bytes of a file if they can be indexed, or say why not; of a large file the first megabyte and one."""
    if not data:
        return SkippedFile(path, "empty")
    if b"\0" in data[:_BINARY_PROBE_BYTES]:
        return SkippedFile(path, "binary")
    if len(data) > MAX_FILE_BYTES:
        return SkippedFile(path, "too large")
    if b"\0" in data:  # PostgreSQL's text holds no NUL.
        return SkippedFile(path, "binary")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return SkippedFile(path, "not UTF-8")
    return data


def _open_below(folder: Path, path: str) -> int:
    """Open a file below a folder without following a link on the way, and without waiting for a pipe's writer."""
    *parents, name = path.split("/")
    here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for parent in parents:
            below = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = below
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=here)
    finally:
        os.close(here)


def _add(tree: FileTree, path: Path) -> None:
    relative = _relative(tree.folder, path)
    if (reason := _unusable(path, relative)) is not None:
        tree.skipped.append(SkippedFile(_printable(relative), reason))
    else:
        tree.paths.append(relative)


def _unusable(path: Path, relative: str) -> str | None:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return "unreadable"
    if stat.S_ISLNK(mode):
        return "symbolic link"
    if not stat.S_ISREG(mode):
        return "not a regular file"
    return unusable_name(relative)


def unusable_name(relative: str) -> str | None:
    """Say why a file of this path cannot be stored; None where it can."""
    if _printable(relative) != relative:
        return "name not UTF-8"
    if _REFUSED_IN_PATHS.search(relative):
        return "name with a control character or backslash"
    if len(relative) > _MAX_PATH_CHARS or len(relative.encode()) > _MAX_PATH_BYTES:
        return "path too long"
    return None


def _printable(path: str) -> str:
    """Replace the surrogates by which Python names files whose names are not UTF-8."""
    return path.encode("utf-8", "replace").decode("utf-8")


def _relative(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()
