"""What an encoder is: the frozen, validated form of `specs/*.toml`."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from export.errors import ExportError
from export.serving import Precision

PAIRS: Mapping[str, tuple[str, str]] = {
    "compact": ("compact-code", "compact-text"),
    "full": ("qodo-embed-1-1.5b", "jina-embeddings-v3"),
}
ROLE_DIMENSIONS: Mapping[str, int] = {"code": 1536, "text": 1024}


@dataclass(frozen=True)
class InputType:
    """How a query or a passage reaches the encoder.

    Attributes:
        prompt: Text put before it, before tokenization; empty for none.
        task: Task adapter that it takes; None for an encoder without tasks.
    """

    prompt: str
    task: str | None


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters: `y = Wx + (alpha / rank) · B(Ax)` on every linear and embedding layer in `targets`.

    Attributes:
        rank: Columns of A and rows of B.
        alpha: Numerator of the scale.
        targets: Last names of the adapted layers, such as `q_proj`.
        trained: Whether the checkpoint must bring them; untrained ones start with B zero.
    """

    rank: int
    alpha: float
    targets: tuple[str, ...]
    trained: bool

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
class Words:
    """The part of the vector that says which words a text has, see `export.words`.

    Attributes:
        share: Of it in every cosine, above 0 and below 1.
        seed: Draws the tokens' directions.
    """

    share: float
    seed: int


@dataclass(frozen=True)
class BundledAdapters:
    """Trained adapters and head that come with duovec: a folder of `export/specs`, the weights pinned by SHA-256."""

    folder: str
    sha256: str

    @property
    def path(self) -> Path:
        """Where the folder lies on this machine."""
        return Path(str(resources.files("export") / "specs")) / self.folder


@dataclass(frozen=True)
class PackageSource:
    """Base weights inside an installed Python package, every file pinned by SHA-256."""

    package: str
    version: str
    folder: str
    files: Mapping[str, str]


@dataclass(frozen=True)
class HubSource:
    """Base weights on the Hugging Face hub.

    Attributes:
        repository: `owner/name`.
        revision: Commit, tag or branch; a branch is resolved to its commit, which the manifest records.
        files: Patterns of the files to download.
    """

    repository: str
    revision: str
    files: tuple[str, ...]


Source = PackageSource | HubSource


@dataclass(frozen=True)
class License:
    """The terms of the weights.

    Attributes:
        identifier: SPDX identifier, or `LicenseRef-…` where SPDX has none.
        url: Where the text stands.
        forbids: What it does not allow, in a sentence; empty when it only asks for attribution.
    """

    identifier: str
    url: str
    forbids: str


@dataclass(frozen=True)
class EncoderSpec:
    """One encoder, as its TOML file states it.

    Attributes:
        name: Triton model name, such as `compact-code`.
        role: `code` (1536 dimensions) or `text` (1024).
        architecture: `model_type` of the base's config.json: `bert`, `qwen2` or `jina_embeddings_v3`.
        dimension: Length of the vector that the encoder gives.
        base_dimension: Hidden size of the base checkpoint, checked against it.
        pooling: `mean` over the real tokens, or `last_token`.
        max_tokens: Longest row in tokens, special tokens included.
        append_eos: Token appended after the last one, or None when the tokenizer ends rows itself or nothing does.
        attention: `bidirectional` or `causal`.
        precision: What to build where the runtime can run it, else fp32.
        query: How a query is encoded.
        passage: How a passage is encoded.
        tasks: Names of the task adapters in the order of their ids; empty when adapters are merged.
        lora: Shape of the adapters, or None.
        head: Kind and seed of the head, or None when the base has the encoder's dimension.
        words: Share and seed of the words part, which takes the dimensions that the head leaves free; None for none.
        adapters: Those that come with duovec, trained on `source`; None where none do.
        source: Where the base comes from.
        license: Terms of the weights.
    """

    name: str
    role: str
    architecture: str
    dimension: int
    base_dimension: int
    pooling: str
    max_tokens: int
    append_eos: str | None
    attention: str
    precision: Precision
    query: InputType
    passage: InputType
    tasks: tuple[str, ...]
    lora: Lora | None
    head: Head | None
    words: Words | None
    adapters: BundledAdapters | None
    source: Source
    license: License

    @property
    def adapter_count(self) -> int:
        """Adapters stacked in one file: one a task, or a single one that is merged."""
        return max(1, len(self.tasks))

    @property
    def untrained(self) -> "EncoderSpec":
        """The encoder as it was before the adapters that come with duovec were trained; itself where none do."""
        if self.adapters is None:
            return self
        lora = None if self.lora is None else replace(self.lora, trained=False)
        return replace(self, adapters=None, lora=lora)

    @property
    def task_ids(self) -> Mapping[str, int]:
        """Task id of `query` and `passage`; empty for an encoder without tasks."""
        if not self.tasks:
            return {}
        inputs = {"query": self.query, "passage": self.passage}
        return {name: self.tasks.index(one.task) for name, one in inputs.items() if one.task is not None}


def load_spec(path: Path) -> EncoderSpec:
    """Read and validate one spec file.

    Raises:
        ExportError: The file is missing, is not TOML, or holds an unknown key or an invalid value (named).
    """
    from export.spec_reader import SpecReader

    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ExportError(f"cannot read the encoder spec {path}: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ExportError(f"{path} is not valid TOML: {exc}") from exc
    return SpecReader(path.name).spec(table)


def builtin_encoders() -> tuple[str, ...]:
    """Names of the encoders whose specs come with duovec."""
    return tuple(name for pair in PAIRS.values() for name in pair)


def load_builtin(name: str) -> EncoderSpec:
    """The spec of a built-in encoder.

    Raises:
        ExportError: No built-in encoder has that name, or its spec is invalid.
    """
    if name not in builtin_encoders():
        raise ExportError(f"no built-in encoder is named {name!r}; known: {', '.join(builtin_encoders())}")
    return load_spec(Path(str(resources.files("export") / "specs")) / f"{name}.toml")


def load_pair(pair: str) -> tuple[EncoderSpec, EncoderSpec]:
    """The specs of a built-in pair: code encoder, then text encoder.

    Raises:
        ExportError: No pair has that name, or a spec is invalid.
    """
    if pair not in PAIRS:
        raise ExportError(f"no pair is named {pair!r}; known: {', '.join(sorted(PAIRS))}")
    code, text = PAIRS[pair]
    return load_builtin(code), load_builtin(text)
