"""The space: which two published encoders make the vectors, read from their version folders."""

import hashlib
import json
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from gateway.errors import StartupError

CODE_DIM = 1536
TEXT_DIM = 1024
VECTOR_DIM = CODE_DIM + TEXT_DIM

PASSAGE_FORMAT = "symbol-newline-content"
"""How a chunk becomes the text that is embedded (`passage_of`); part of the space's identity."""

_REPUBLISH = "publish the pair again: duovec-export publish --pair compact --repository {repository}"


class InputType(Enum):
    """What a text is for; the values are the keys of a spec's prompts and tasks."""

    QUERY = "query"
    PASSAGE = "passage"


@dataclass(frozen=True, slots=True)
class Encoder:
    """One published version of an encoder, as its manifest describes it."""

    name: str
    version: int
    role: str
    dimension: int
    max_tokens: int
    append_eos: str | None
    prompts: dict[InputType, str]
    task_ids: dict[InputType, int]
    """Empty for an encoder without task adapters."""
    tokenizer_path: Path
    identity: dict[str, Any]
    """Everything that decides the numbers of the vector."""

    @classmethod
    def load(cls, repository: Path, name: str, *, role: str, dimension: int) -> "Encoder":
        """Read the newest published version of an encoder.

        Raises:
            StartupError: Nothing is published, or the manifest is not of this role and dimension.
        """
        hint = _REPUBLISH.format(repository=repository)
        try:
            versions = [int(path.name) for path in (repository / name).iterdir() if path.name.isdecimal()]
        except OSError as exc:
            raise StartupError(f"no encoder in {repository / name} ({exc.strerror}); {hint}") from exc
        if not versions:
            raise StartupError(f"no published version in {repository / name}; {hint}")
        folder = repository / name / str(max(versions))
        path = folder / "manifest.json"
        try:
            manifest = json.loads(path.read_bytes())
            spec = manifest["spec"]
            encoder = cls(
                name=manifest["encoder"],
                version=manifest["version"],
                role=manifest["role"],
                dimension=manifest["dimension"],
                max_tokens=spec["max_tokens"],
                append_eos=spec["append_eos"],
                prompts={input_type: spec["prompts"][input_type.value] for input_type in InputType},
                task_ids={
                    input_type: spec["tasks"].index(input_type.value) for input_type in InputType if spec["tasks"]
                },
                tokenizer_path=folder / "tokenizer.json",
                identity={
                    "encoder": manifest["encoder"],
                    "dimension": manifest["dimension"],
                    "precision": manifest["precision"],
                    "spec": {field: value for field, value in spec.items() if field != "license"},
                    # The code that hosts the model (`*.py`) decides how fast, not which numbers.
                    "files": {
                        file: digest
                        for file, digest in manifest["files"].items()
                        if file == "tokenizer.json" or file.startswith("model.onnx")
                    },
                },
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
            raise StartupError(f"unreadable manifest {path}: {exc!r}; {hint}") from exc
        if (encoder.name, encoder.role, encoder.dimension) != (name, role, dimension):
            raise StartupError(
                f"{path}: need {role} encoder {name} of dimension {dimension}, "
                f"found {encoder.role} encoder {encoder.name} of dimension {encoder.dimension}; {hint}"
            )
        if encoder.version != int(folder.name):
            raise StartupError(f"{path}: says version {encoder.version}; {hint}")
        return encoder


@dataclass(frozen=True, slots=True)
class Space:
    """A pair of published encoders; vectors of two spaces are never compared."""

    code: Encoder
    text: Encoder
    fingerprint: str
    """SHA-256 over the identity of both encoders, 64 hex digits."""
    identity: dict[str, Any]

    @classmethod
    def load(cls, repository: Path, *, code_encoder: str, text_encoder: str) -> "Space":
        """Read the newest published version of both encoders.

        Raises:
            StartupError: One of them is missing or does not fit.
        """
        code = Encoder.load(repository, code_encoder, role="code", dimension=CODE_DIM)
        text = Encoder.load(repository, text_encoder, role="text", dimension=TEXT_DIM)
        identity = {"code": code.identity, "text": text.identity, "passage_format": PASSAGE_FORMAT}
        canonical = json.dumps(identity, sort_keys=True, separators=(",", ":")).encode()
        return cls(code, text, hashlib.sha256(canonical).hexdigest(), identity)


def passage_of(symbol: str, content: str) -> str:
    """The text that is embedded for a chunk.

    A method does not name its class, and a later part of a long function does not name the function:
    the symbol's path says both.
    """
    return f"{symbol}\n{content}" if symbol else content
