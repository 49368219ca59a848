"""What an encoder is: the frozen, validated form of `specs/*.toml`."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from export.errors import ExportError

PAIRS: Mapping[str, tuple[str, str]] = {"compact": ("compact-code", "compact-text")}

_ROLE_DIMENSIONS = {"code": 1536, "text": 1024}
_POOLINGS = ("mean",)
_ATTENTIONS = ("bidirectional", "causal")
_HEAD_KINDS = ("isometric",)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[a-z][a-z0-9-]*")


@dataclass(frozen=True)
class Prompts:
    """Text put before a query or a passage, before tokenization; empty for none."""

    query: str
    passage: str


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters: `y = Wx + (alpha / rank) · B(Ax)` on every linear layer named in `targets`."""

    rank: int
    alpha: float
    targets: tuple[str, ...]

    @property
    def scale(self) -> float:
        """Factor on the low-rank product."""
        return self.alpha / self.rank


@dataclass(frozen=True)
class Head:
    """The linear map from the base dimension up to the encoder's; `seed` fixes its start."""

    kind: str
    seed: int


@dataclass(frozen=True)
class Source:
    """Where the base weights lie: a folder inside an installed package, every file pinned by SHA-256."""

    package: str
    version: str
    folder: str
    files: Mapping[str, str]


@dataclass(frozen=True)
class EncoderSpec:
    """One encoder, as its TOML file states it.

    Attributes:
        name: Triton model name, such as `compact-code`.
        role: `code` (1536 dimensions) or `text` (1024).
        dimension: Length of the vector that the encoder gives.
        base_dimension: Hidden size of the base checkpoint, checked against it.
        pooling: `mean` over the real tokens.
        normalize: Whether the graph ends in L2 normalization; always true, since the gateway joins unit parts.
        max_tokens: Longest row in tokens, special tokens included.
        append_eos: Token appended after the last one, or None.
        attention: `bidirectional` or `causal`.
        prompts: Prefixes of queries and passages.
        tasks: Names of the task adapters in the order of their ids; empty when adapters are merged.
        lora: Shape of the adapters.
        head: Kind and seed of the head.
        source: Pinned base files.
        license: SPDX identifier of the weights.
    """

    name: str
    role: str
    dimension: int
    base_dimension: int
    pooling: str
    normalize: bool
    max_tokens: int
    append_eos: str | None
    attention: str
    prompts: Prompts
    tasks: tuple[str, ...]
    lora: Lora
    head: Head
    source: Source
    license: str

    @property
    def adapter_count(self) -> int:
        """Adapters stacked in one file: one a task, or a single one that is merged."""
        return max(1, len(self.tasks))


def load_spec(path: Path) -> EncoderSpec:
    """Read and validate one spec file.

    Raises:
        ExportError: The file is missing, is not TOML, or holds an unknown key or an invalid value (named).
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ExportError(f"cannot read the encoder spec {path}: {exc.strerror}") from exc
    except tomllib.TOMLDecodeError as exc:
        raise ExportError(f"{path} is not valid TOML: {exc}") from exc
    return _Reader(path.name).spec(table)


def load_pair(pair: str) -> tuple[EncoderSpec, EncoderSpec]:
    """The specs of a built-in pair: code encoder, then text encoder.

    Raises:
        ExportError: No pair has that name, or a spec is invalid.
    """
    if pair not in PAIRS:
        raise ExportError(f"no pair is named {pair!r}; known: {', '.join(sorted(PAIRS))}")
    code, text = PAIRS[pair]
    folder = Path(str(resources.files("export") / "specs"))
    return load_spec(folder / f"{code}.toml"), load_spec(folder / f"{text}.toml")


class _Reader:
    """Decodes TOML tables strictly, naming the file and the key in every error."""

    def __init__(self, file_name: str) -> None:
        self._file_name = file_name

    def _error(self, message: str) -> ExportError:
        return ExportError(f"{self._file_name}: {message}")

    def _table(
        self, value: Any, where: str, fields: Mapping[str, type], optional: Mapping[str, type] | None = None
    ) -> dict[str, Any]:
        optional = optional or {}
        if not isinstance(value, dict):
            raise self._error(f"{where or 'the file'} must be a table")
        prefix = f"{where}." if where else ""
        for key, item in value.items():
            kind = fields.get(key) or optional.get(key)
            if kind is None:
                raise self._error(f"unknown key {prefix}{key}")
            # bool is an int in Python, and TOML writes a whole float as an integer.
            accepted = (int, float) if kind is float else (kind,)
            if not isinstance(item, accepted) or (isinstance(item, bool) and kind is not bool):
                raise self._error(f"{prefix}{key} must be a {kind.__name__}, not {item!r}")
        for key in fields:
            if key not in value:
                raise self._error(f"missing key {prefix}{key}")
        return value

    def _require(self, holds: bool, key: str, value: object, expected: str) -> None:
        if not holds:
            raise self._error(f"{key} must be {expected}, not {value!r}")

    def _names(self, key: str, values: list[Any], *, pattern: re.Pattern[str]) -> tuple[str, ...]:
        for value in values:
            self._require(isinstance(value, str) and bool(pattern.fullmatch(value)), key, value, "a list of names")
        self._require(len(set(values)) == len(values), key, values, "a list without repetition")
        return tuple(values)

    def spec(self, value: Any) -> EncoderSpec:
        table = self._table(
            value,
            "",
            {
                "name": str,
                "role": str,
                "dimension": int,
                "base_dimension": int,
                "pooling": str,
                "normalize": bool,
                "max_tokens": int,
                "attention": str,
                "prompts": dict,
                "tasks": list,
                "lora": dict,
                "head": dict,
                "source": dict,
                "license": str,
            },
            {"append_eos": str},
        )
        name, role, dimension = table["name"], table["role"], table["dimension"]
        self._require(bool(_NAME.fullmatch(name)), "name", name, "lower-case letters, digits and hyphens")
        self._require(role in _ROLE_DIMENSIONS, "role", role, "code or text")
        self._require(
            dimension == _ROLE_DIMENSIONS[role], "dimension", dimension, f"{_ROLE_DIMENSIONS[role]} for role {role}"
        )
        self._require(
            0 < table["base_dimension"] <= dimension, "base_dimension", table["base_dimension"], "in 1 to dimension"
        )
        self._require(table["pooling"] in _POOLINGS, "pooling", table["pooling"], "mean (last_token is not built yet)")
        self._require(table["normalize"], "normalize", table["normalize"], "true: the gateway joins unit vectors")
        self._require(1 <= table["max_tokens"] <= 32768, "max_tokens", table["max_tokens"], "1 to 32768")
        self._require(table["attention"] in _ATTENTIONS, "attention", table["attention"], "bidirectional or causal")
        self._require(bool(table["license"]), "license", table["license"], "an SPDX identifier")
        prompts = self._table(table["prompts"], "prompts", {"query": str, "passage": str})
        return EncoderSpec(
            name=name,
            role=role,
            dimension=dimension,
            base_dimension=table["base_dimension"],
            pooling=table["pooling"],
            normalize=table["normalize"],
            max_tokens=table["max_tokens"],
            append_eos=table.get("append_eos"),
            attention=table["attention"],
            prompts=Prompts(prompts["query"], prompts["passage"]),
            tasks=self._names("tasks", table["tasks"], pattern=re.compile(r"[a-z][a-z0-9._-]*")),
            lora=self._lora(table["lora"]),
            head=self._head(table["head"]),
            source=self._source(table["source"]),
            license=table["license"],
        )

    def _lora(self, value: Any) -> Lora:
        table = self._table(value, "lora", {"rank": int, "alpha": float, "targets": list})
        self._require(1 <= table["rank"] <= 256, "lora.rank", table["rank"], "1 to 256")
        self._require(table["alpha"] > 0, "lora.alpha", table["alpha"], "positive")
        self._require(bool(table["targets"]), "lora.targets", table["targets"], "one name or more")
        targets = self._names("lora.targets", table["targets"], pattern=re.compile(r"[a-z][a-z0-9_]*"))
        return Lora(table["rank"], float(table["alpha"]), targets)

    def _head(self, value: Any) -> Head:
        table = self._table(value, "head", {"kind": str, "seed": int})
        self._require(table["kind"] in _HEAD_KINDS, "head.kind", table["kind"], "isometric")
        self._require(table["seed"] >= 0, "head.seed", table["seed"], "0 or more")
        return Head(table["kind"], table["seed"])

    def _source(self, value: Any) -> Source:
        table = self._table(value, "source", {"package": str, "version": str, "folder": str, "files": dict})
        self._require(bool(table["files"]), "source.files", table["files"], "one file or more")
        for file_name, digest in table["files"].items():
            is_digest = isinstance(digest, str) and bool(_SHA256.fullmatch(digest))
            self._require(is_digest, f"source.files.{file_name}", digest, "a SHA-256 in lower-case hex")
        return Source(table["package"], table["version"], table["folder"], dict(table["files"]))
