"""sentence-transformers' modules.json: where the transformer lies, and that what follows it is what the spec states."""

import json
from pathlib import Path
from typing import Any

from export.errors import ExportError
from export.spec import EncoderSpec

# What sentence-transformers calls a pooling, before version 6 and since.
_POOLINGS = {"mean": ("pooling_mode_mean_tokens", "mean"), "last_token": ("pooling_mode_lasttoken", "lasttoken")}


def transformer_folder(spec: EncoderSpec, folder: Path) -> Path:
    """The folder of the transformer: sentence-transformers may keep it in the subfolder of its first module.

    The exported graph has the spec's pooling and L2: a folder that states anything else is another model.

    Args:
        spec: The encoder.
        folder: A checkpoint, with modules.json or without.

    Raises:
        ExportError: modules.json is none, points outside its folder, or names another pooling or another module.
    """
    path = folder / "modules.json"
    if not path.is_file():
        return folder
    try:
        modules = [(str(one["path"]), str(one["type"]).rpartition(".")[2]) for one in _json(path)]
        if not modules:
            raise ValueError("it is empty")
    except (LookupError, TypeError, ValueError) as exc:
        raise ExportError(f"{path} is not a list of sentence-transformers modules: {exc!r}") from exc
    for inside, kind in modules[1:]:
        if kind == "Pooling":
            _check_pooling(spec, folder / inside / "config.json")
        elif kind != "Normalize":
            raise ExportError(
                f"{path}: a module {kind} is not exported, only a transformer, its pooling and Normalize; "
                "train adapters and their head instead"
            )
    first = modules[0][0]
    if not (folder / first).resolve().is_relative_to(folder.resolve()):
        raise ExportError(f"{path} points outside its folder, to {first}")
    return folder / first


def _check_pooling(spec: EncoderSpec, path: Path) -> None:
    config = _json(path)
    if not isinstance(config, dict):
        raise ExportError(f"{path} is not the configuration of a pooling")
    given = config.get("pooling_mode")
    if given is None:
        given = [key for key, value in config.items() if key.startswith("pooling_mode_") and value]
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or len(names) != 1 or names[0] not in _POOLINGS[spec.pooling]:
        raise ExportError(
            f"{path}: pooling is {given!r}, the spec of {spec.name} says {spec.pooling}; "
            "train it so, or give a spec of its own with --spec"
        )
    if config.get("include_prompt") is False and (spec.query.prompt or spec.passage.prompt):
        raise ExportError(f"{path}: include_prompt is false, {spec.name} pools its prompts as well; train with true")


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise ExportError(f"cannot read {path}: {exc.strerror if isinstance(exc, OSError) else exc}") from exc
