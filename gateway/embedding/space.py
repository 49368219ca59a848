"""The space: which two published encoders make the vectors, read from the model repository that Triton serves."""

import hashlib
import json
import logging
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from gateway.errors import StartupError
from gateway.repository import publish_hint, read_served_versions

logger = logging.getLogger(__name__)

CODE_DIM = 1536
TEXT_DIM = 1024
VECTOR_DIM = CODE_DIM + TEXT_DIM

PASSAGE_FORMAT = "symbol-newline-content"
"""How a chunk becomes the text that is embedded (`passage_of`); part of the space's identity."""


class InputType(Enum):
    """What a text is for; the values are the keys of a spec's prompts and tasks."""

    QUERY = "query"
    PASSAGE = "passage"


@dataclass(frozen=True, slots=True)
class Encoder:
    """The served version of an encoder, as its manifest describes it."""

    name: str
    version: int
    role: str
    dimension: int
    max_tokens: int
    append_eos: str | None
    prompts: dict[InputType, str]
    task_ids: dict[InputType, int]
    """Empty for an encoder without task adapters."""
    max_batch_size: int
    """Most rows of a request to Triton."""
    length_buckets: tuple[int, ...]
    """Lengths that rows are padded to, ascending, for a backend that merges equal shapes only; empty for the others."""
    token_budget: int
    """Most padded tokens that the backend runs at a time, where that is known; 0 where it is not."""
    instances: int
    """Processes of the backend that each hold the encoder, where that is known; 1 where it is not."""
    names_rows: bool
    """Whether an answer says of which rows it is."""
    folder: Path
    """Holds its `tokenizer.json`, and `canary.json`: one row with the vector that was seen when it was published."""
    identity: dict[str, Any]
    """Everything that decides the numbers of the vector."""

    @property
    def tokenizer_path(self) -> Path:
        """The version's own tokenizer."""
        return self.folder / "tokenizer.json"

    @classmethod
    def load(cls, repository: Path, name: str, version: int, *, role: str, dimension: int) -> "Encoder":
        """Read a published version of an encoder.

        Raises:
            StartupError: It is not there, or its manifest is not of this role and dimension.
        """
        hint = publish_hint(repository, name)
        settings = read_served_versions(repository, name).settings
        folder = repository / name / str(version)
        path = folder / "manifest.json"
        try:
            manifest = json.loads(path.read_bytes())
            spec, serving = manifest["spec"], manifest["serving"]
            encoder = cls(
                name=manifest["encoder"],
                version=manifest["version"],
                role=manifest["role"],
                dimension=manifest["dimension"],
                max_tokens=spec["max_tokens"],
                append_eos=spec["append_eos"],
                prompts={input_type: spec["prompts"][input_type.value] for input_type in InputType},
                task_ids={
                    input_type: int(spec["task_ids"][input_type.value]) for input_type in InputType if spec["tasks"]
                },
                max_batch_size=int(serving["max_batch_size"]),
                length_buckets=tuple(serving["length_buckets"]),
                token_budget=settings.token_budget if settings else 0,
                instances=settings.instances if settings else 1,
                names_rows=bool(serving.get("names_rows", False)),
                folder=folder,
                identity={
                    "encoder": manifest["encoder"],
                    "dimension": manifest["dimension"],
                    "precision": manifest["precision"],
                    "spec": {field: value for field, value in spec.items() if field != "license"},
                    # The code that hosts the model decides how fast, not which numbers; the canary only tells of them.
                    "files": {
                        file: digest
                        for file, digest in manifest["files"].items()
                        if not file.endswith(".py") and file != "canary.json"
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
    def of(cls, code: Encoder, text: Encoder) -> "Space":
        """The space that two encoders make."""
        identity = {"code": code.identity, "text": text.identity, "passage_format": PASSAGE_FORMAT}
        canonical = json.dumps(identity, sort_keys=True, separators=(",", ":")).encode()
        return cls(code, text, hashlib.sha256(canonical).hexdigest(), identity)

    @classmethod
    def load(cls, repository: Path, *, code_encoder: str, text_encoder: str) -> "Space":
        """Read the served version of both encoders.

        Raises:
            StartupError: One of them is missing or does not fit.
        """
        code, text = (
            Encoder.load(
                repository, name, read_served_versions(repository, name).served, role=role, dimension=dimension
            )
            for name, role, dimension in ((code_encoder, "code", CODE_DIM), (text_encoder, "text", TEXT_DIM))
        )
        return cls.of(code, text)

    @classmethod
    def find(cls, repository: Path, fingerprint: str, *, code_encoder: str, text_encoder: str) -> "Space | None":
        """Look for a space among all versions that are loaded; None when no two of them make it.

        Raises:
            StartupError: The configuration of an encoder cannot be read.
        """
        codes = _loaded(repository, code_encoder, role="code", dimension=CODE_DIM)
        texts = _loaded(repository, text_encoder, role="text", dimension=TEXT_DIM)
        spaces = (cls.of(code, text) for code in codes for text in texts)
        return next((space for space in spaces if space.fingerprint == fingerprint), None)


def _loaded(repository: Path, name: str, *, role: str, dimension: int) -> list[Encoder]:
    """The versions that are kept loaded, newest first; one that cannot be read makes no space."""
    encoders = []
    for version in sorted(read_served_versions(repository, name).loaded, reverse=True):
        try:
            encoders.append(Encoder.load(repository, name, version, role=role, dimension=dimension))
        except StartupError as exc:
            logger.warning("%s", exc)
    return encoders


def passage_of(symbol: str, content: str) -> str:
    """The text that is embedded for a chunk.

    A method does not name its class, and a later part of a long function does not name the function:
    the symbol's path says both.
    """
    return f"{symbol}\n{content}" if symbol else content
