"""Where checkpoints come from: what a publication is recorded with, and what it refuses."""

import json
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from export.source import open_checkpoint
from export.version import Version
from training.errors import TrainingError
from training.publication.measure import Candidate

# As training.result names it, which loads all that trains.
_LINEAGE_FILE = "lineage.json"
_BASE_KEYS = ("repository", "commit", "package", "version")


def code_version() -> str:
    """duovec's version, and the commit where it runs from a clone."""
    release = f"duovec {version('duovec')}"
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return release
    try:
        found = subprocess.run(  # noqa: S603
            ["git", "-C", str(root), "rev-parse", "HEAD"],  # noqa: S607
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return release
    return f"{release}, commit {found.stdout.strip()}"


def checkpoint_facts(candidate: Candidate) -> dict[str, Any]:
    """What decides a checkpoint's vectors, by digest, and what its own lineage says.

    Raises:
        ExportError: It is no checkpoint of the spec.
        TrainingError: Its lineage cannot be read.
    """
    origin = dict(open_checkpoint(candidate.spec, candidate.folder).origin)
    return {"encoder": candidate.spec.name, "origin": origin, "trained": _trained(candidate.folder)}


def require_held_out(facts: Mapping[str, Any], data_sha256: str, data: Path) -> None:
    """Make sure that the test split is that of the set which the checkpoint was trained on.

    Raises:
        TrainingError: It was trained on another set: what is asked may have been learned by heart.
    """
    trained_on = facts["trained"].get("data_sha256")
    if trained_on not in (None, data_sha256):
        raise TrainingError(
            f"the checkpoint of {facts['encoder']} was trained on the data set {trained_on[:16]}…, {data} is "
            f"{data_sha256[:16]}…: its test split may have been trained on; give the data set of the run, or "
            "--unseen-data if you know that it was not"
        )


def require_same_base(facts: Mapping[str, Any], served: Version) -> None:
    """Make sure that a checkpoint was trained from the base of the served version.

    Raises:
        TrainingError: Both say where they come from, and it is not the same.
    """
    ours = _base(facts["trained"].get("base") or facts["origin"])
    theirs = _base(served.manifest.get("source") or {})
    if ours and theirs and ours != theirs:
        raise TrainingError(
            f"the base of the checkpoint of {facts['encoder']} is {_words(ours)}, that of the live space is "
            f"{_words(theirs)}; train from the space's base"
        )


def _base(origin: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(origin[key]) for key in _BASE_KEYS if key in origin}


def _words(base: Mapping[str, str]) -> str:
    return " ".join(base.values())


def _trained(folder: Path) -> dict[str, Any]:
    path = folder / _LINEAGE_FILE
    if not path.is_file():
        return {}
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise TrainingError(f"cannot read {path}: {exc}") from exc
    if not isinstance(facts, dict):
        raise TrainingError(f"{path} is not a lineage; `duovec-train run` writes it")
    return {key: facts.get(key) for key in ("data_sha256", "recipe_sha256", "base", "rows", "steps")}
