"""Where checkpoints come from: what a publication is recorded with, and what it refuses."""

import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from export.source import LINEAGE_FILE, open_checkpoint
from export.version import Version
from training.errors import TrainingError
from training.publication.measure import Candidate

_NAMES = ("repository", "commit", "package", "version", "folder")
# As transformers names them, in one file or several.
_WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors")


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
    """Make sure that a checkpoint was trained from the base of the served version, by the digests of its weights.

    Raises:
        TrainingError: It was trained from another one, or one of both does not say from which.
    """
    ours = _root(facts["trained"].get("base") or facts["origin"])
    theirs = _root(served.manifest.get("source") or {})
    if not (_weights(ours) and _weights(theirs)):
        unknown = "the checkpoint" if _weights(theirs) else "the live space"
        raise TrainingError(
            f"nobody knows from which base {unknown} of {facts['encoder']} comes: no digests of weights are recorded; "
            "publish the space's encoder again with duovec-export, and train with duovec-train run"
        )
    if _weights(ours) != _weights(theirs):
        raise TrainingError(
            f"the base of the checkpoint of {facts['encoder']} is {_words(ours)}, that of the live space is "
            f"{_words(theirs)}; train from the space's base"
        )


def _root(origin: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where the weights come from in the end: a base may itself have been trained from one."""
    while isinstance(origin.get("trained_from"), dict):
        origin = origin["trained_from"]
    return origin


def _weights(origin: Mapping[str, Any]) -> dict[str, str]:
    """The digests of a transformer's weights by their files' names; adapters lie beside them under other names."""
    files = origin.get("files") or {}
    found = {PurePosixPath(name).name: digest for name, digest in files.items()}
    return {name: str(digest) for name, digest in found.items() if _WEIGHTS.fullmatch(name)}


def _words(base: Mapping[str, Any]) -> str:
    named = " ".join(str(base[key]) for key in _NAMES if key in base)
    return f"{named} ({', '.join(f'{name} {digest[:12]}…' for name, digest in sorted(_weights(base).items()))})"


def _trained(folder: Path) -> dict[str, Any]:
    path = folder / LINEAGE_FILE
    if not path.is_file():
        return {}
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise TrainingError(f"cannot read {path}: {exc}") from exc
    if not isinstance(facts, dict):
        raise TrainingError(f"{path} is not a lineage; `duovec-train run` writes it")
    return {key: facts.get(key) for key in ("code", "data_sha256", "recipe_sha256", "base", "rows", "steps")}
