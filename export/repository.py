"""The model repository on disk: versions appear whole or not at all.

`DIR/<encoder>/<version>/` holds model.onnx, tokenizer.json, model.py, host.py and manifest.json, and never changes.
`DIR/<encoder>/config.pbtxt` names the one version that serves.
"""

import fcntl
import importlib.metadata
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from export.errors import ExportError

MANIFEST_SCHEMA = 1
_STAGING_PREFIX = ".staging-"
_POLL_S = 0.1


@dataclass(frozen=True)
class PublishedVersion:
    """A complete version folder and its manifest."""

    encoder: str
    version: int
    folder: Path
    manifest: Mapping[str, Any]


@contextmanager
def locked(repository: Path, *, wait_s: float = 600.0) -> Iterator[None]:
    """Hold the repository for one exporter, across processes.

    Args:
        repository: Created when missing.
        wait_s: How long to wait for another exporter, seconds.

    Raises:
        ExportError: The folder cannot be written, or another exporter still holds it after `wait_s`.
    """
    path = repository / ".duovec-export.lock"
    try:
        repository.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as exc:
        raise ExportError(f"cannot write to the model repository {repository}: {exc.strerror}") from exc
    try:
        _acquire(descriptor, path, wait_s)
        yield
    finally:
        # Closing releases the lock, and so does a crash. The file stays: removing it would race with a waiter.
        os.close(descriptor)


def _acquire(descriptor: int, path: Path, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise ExportError(f"another exporter holds {path}; waited {wait_s:.0f} s, try again later") from None
            time.sleep(_POLL_S)
        else:
            return


@contextmanager
def staging(repository: Path, encoder: str) -> Iterator[Path]:
    """A folder to build a version in, beside the versions and removed at the end; hold the lock.

    It lies inside the encoder's folder, where Triton ignores names that are not numbers; at the top of the
    repository it would be taken for a model.
    """
    folder = repository / encoder
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(f"{_STAGING_PREFIX}*"):
        shutil.rmtree(leftover)  # the lock is ours, so its exporter is dead
    path = Path(tempfile.mkdtemp(prefix=_STAGING_PREFIX, dir=folder))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def publish(repository: Path, encoder: str, staged: Path, version: int, config_text: str) -> Path:
    """Make a staged folder the served version; hold the lock.

    The version folder appears in one rename and config.pbtxt follows in another, so a crash between the two leaves
    the old version serving.

    Raises:
        ExportError: The version exists already, or the disk refuses.
    """
    folder = repository / encoder
    target = folder / str(version)
    try:
        for path in staged.iterdir():
            _sync(path)
        _sync(staged)
        staged.rename(target)
        _sync(folder)
        _replace_text(folder / "config.pbtxt", config_text)
    except OSError as exc:
        raise ExportError(f"cannot publish {target}: {exc.strerror}") from exc
    return target


def _replace_text(path: Path, text: str) -> None:
    staged = path.with_name(f".{path.name}.new")
    staged.write_text(text, encoding="utf-8")
    _sync(staged)
    staged.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write manifest.json, stamped with the time and the exporter."""
    stamped = {
        "schema": MANIFEST_SCHEMA,
        **manifest,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "exporter": f"duovec {importlib.metadata.version('duovec')}",
    }
    (folder / "manifest.json").write_text(json.dumps(stamped, indent=2) + "\n", encoding="utf-8")


def next_version(repository: Path, encoder: str) -> int:
    """One above the highest version folder, complete or not; numbers are never used again."""
    folder = repository / encoder
    numbers = [int(path.name) for path in folder.iterdir() if path.name.isdecimal()] if folder.is_dir() else []
    return max(numbers, default=0) + 1


def published_versions(repository: Path, encoder: str) -> list[PublishedVersion]:
    """Complete versions of an encoder, oldest first.

    Raises:
        ExportError: A manifest is unreadable.
    """
    found = []
    for path in (repository / encoder).glob("*/manifest.json"):
        if path.parent.name.isdecimal():
            try:
                manifest = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as exc:
                raise ExportError(f"cannot read {path}: {exc}; remove that version and publish again") from exc
            found.append(PublishedVersion(encoder, int(path.parent.name), path.parent, manifest))
    return sorted(found, key=lambda version: version.version)


def current_version(repository: Path, encoder: str) -> PublishedVersion | None:
    """The version that config.pbtxt serves, or None when nothing is published.

    Raises:
        ExportError: config.pbtxt or the manifest is unreadable.
    """
    # Imported here because tritonclient takes most of a second, and `list` on an empty folder needs none of it.
    from export.triton_config import served_version

    number = served_version(repository / encoder / "config.pbtxt")
    return next((one for one in published_versions(repository, encoder) if one.version == number), None)


def encoders(repository: Path) -> list[str]:
    """Names of the encoders that have a folder in the repository."""
    if not repository.is_dir():
        return []
    return sorted(path.name for path in repository.iterdir() if path.is_dir() and not path.name.startswith("."))


def damaged_files(version: PublishedVersion) -> list[Path]:
    """Files of a version that are missing or differ from its manifest."""
    from export.checkpoint import sha256_of

    damaged = []
    for name, digest in version.manifest["files"].items():
        path = version.folder / name
        if not path.is_file() or sha256_of(path) != digest:
            damaged.append(path)
    return damaged
