"""The published models of a stack: the pairs, and whether every file is the one that was published."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gateway.errors import StartupError
from gateway.repository import RunSettings, publish_hint, read_served_versions

PAIRS: Mapping[str, tuple[str, str]] = {
    "compact": ("compact-code", "compact-text"),
    "full": ("qodo-embed-1-1.5b", "jina-embeddings-v3"),
}
"""Code encoder and text encoder of each pair, by the names of their folders in the repository."""


def verify_repository(repository: Path, encoders: Sequence[str]) -> list[str]:
    """Check that every version that Triton will load is whole, by the SHA-256 of each file.

    Args:
        repository: The model repository.
        encoders: Its folders to check.

    Returns:
        The served versions, such as `compact-code/1`.

    Raises:
        StartupError: A file is missing or is not the one that was published; names it and the command that mends it.
    """
    versions = {encoder: read_served_versions(repository, encoder) for encoder in encoders}

    def verify(encoder: str, number: int) -> None:
        _verify_version(repository / encoder / str(number), publish_hint(repository, encoder))

    loaded = [(encoder, number) for encoder, one in versions.items() for number in one.loaded]
    # hashlib lets other threads run: gigabytes of weights take half the time on two cores.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(verify, *zip(*loaded, strict=True)):
            pass
    return [f"{encoder}/{one.served}" for encoder, one in versions.items()]


def describe_settings(repository: Path, encoders: Sequence[str], *, cores: int) -> str:
    """How the encoders are run, in words, and what had better be done about it.

    Args:
        repository: The model repository.
        encoders: Its folders.
        cores: Cores of this machine.

    Raises:
        StartupError: A config.pbtxt cannot be read.
    """
    found = {name: read_served_versions(repository, name).settings for name in encoders}
    said = {name: _in_words(settings, cores) for name, settings in found.items()}
    if len(set(said.values())) == 1:
        return said[encoders[0]]
    return ", ".join(f"{name}: {words}" for name, words in said.items())


def _in_words(settings: RunSettings | None, cores: int) -> str:
    if settings is None:
        return "run by Triton's own backend"
    many = f"{settings.instances} instances, " if settings.instances > 1 else ""
    words = f"{many}threads {settings.num_threads}, token budget {settings.token_budget}"
    if not settings.tuned_for_cores:
        return f"{words}, not tuned"
    if settings.tuned_for_cores != cores:
        return f"{words}, tuned for {settings.tuned_for_cores} cores and this machine has {cores}: run duovec tune"
    return f"{words}, tuned"


def _verify_version(version: Path, fix: str) -> None:
    manifest_path = version / "manifest.json"
    try:
        manifest = json.loads(manifest_path.read_bytes())
        digests = {str(name): str(digest) for name, digest in manifest["files"].items()}
        published_as = (str(manifest["encoder"]), str(manifest["version"]))
    except FileNotFoundError as exc:
        raise StartupError(f"{manifest_path} is missing; {fix}") from exc
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise StartupError(f"{manifest_path} is unreadable ({type(exc).__name__}: {exc}); {fix}") from exc
    if published_as != (version.parent.name, version.name):
        raise StartupError(f"{manifest_path} belongs to {'/'.join(published_as)}; {fix}")
    for name, digest in digests.items():
        try:
            with (version / name).open("rb") as file:
                actual = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError as exc:
            raise StartupError(f"{version / name} is missing; {fix}") from exc
        except OSError as exc:
            raise StartupError(f"{version / name} cannot be read ({exc.strerror}); {fix}") from exc
        if actual != digest:
            raise StartupError(f"{version / name} is corrupt: its SHA-256 is not that of its manifest; {fix}")
