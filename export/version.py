"""A version folder and its manifest.json."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.disk import replace_text, writing
from export.errors import ExportError

MANIFEST_SCHEMA = 2


@dataclass(frozen=True)
class Version:
    """A complete version folder and its manifest; `number` is 0 for a candidate."""

    encoder: str
    number: int
    folder: Path
    manifest: Mapping[str, Any]


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write manifest.json whole or not at all.

    Raises:
        ExportError: The disk refuses.
    """
    with writing(folder / "manifest.json"):
        replace_text(folder / "manifest.json", json.dumps(manifest, indent=2) + "\n")


def seal(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of what a manifest states; the number and the gate's report, which holds this, are no part of it.

    Prompts, precision, limits: nothing but the gate shows that they are right, and a file's digest does not cover them.
    """
    stated = {key: value for key, value in manifest.items() if key not in ("gate", "version")}
    return hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest()


def is_proven(version: Version) -> bool:
    """Whether the gate passed a version that states what it states now."""
    gate = version.manifest.get("gate") or {}
    return bool(gate.get("passed")) and gate.get("seal") == seal(version.manifest)


def damaged_files(version: Version) -> list[Path]:
    """Files of a version that are missing or differ from its manifest, which itself may differ from the gate's seal."""
    from export.source import sha256_of

    gate = version.manifest.get("gate") or {}
    stated = seal(version.manifest)
    # Versions of older exporters have no seal.
    damaged = [] if gate.get("seal", stated) == stated else [version.folder / "manifest.json"]
    for name, digest in version.manifest["files"].items():
        path = version.folder / name
        if not path.is_file() or sha256_of(path) != digest:
            damaged.append(path)
    return damaged


def read_version(encoder: str, folder: Path, number: int) -> Version:
    """Read a version folder's manifest.

    Args:
        encoder: The encoder that it belongs to.
        folder: The version folder, or the candidate.
        number: Its number; 0 for a candidate.

    Raises:
        ExportError: The manifest is missing or is not one.
    """
    path = folder / "manifest.json"
    with reading(path):
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
            raise ExportError(f"{path} is not a manifest; remove that version and publish again")
        return Version(encoder, number, folder, manifest)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what cannot be read or parsed into the package's one error, which names `path`."""
    try:
        yield
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else exc
        raise ExportError(f"cannot read {path}: {reason}; remove that version and publish again") from exc
