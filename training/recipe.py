"""A training recipe: the frozen, validated form of `recipes/*.toml`."""

import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from export.spec import EncoderSpec, builtin_encoders, load_builtin, load_spec
from training.errors import TrainingError
from training.table import read_table, shorten

METHODS = ("lora", "full")
LOSSES = ("contrastive", "cached-contrastive", "triplet")
PRECISIONS = ("fp32", "bf16", "fp16")
_SEEDS = 1 << 32  # NumPy takes no larger one


@dataclass(frozen=True)
class DataRecipe:
    """Which rows are trained on, and what of them is read.

    Attributes:
        shares: Share of each query style, such as `docstring`, among the rows; relative to each other. A style with
            fewer rows gives all it has. Empty for all rows as they are.
        rows_an_epoch: Cap on the rows, drawn by the recipe's seed; 0 for all.
        package_run: How many rows of one package come together in a batch, as each other's negatives; 1 mixes all.
        hard_negatives: Mined negatives a row. A row with fewer is completed by passages of other rows, of another
            package and the same language where a few draws find one.
        blank_names: Share of rows whose passage loses its own name, drawn by the seed.
        query_tokens: Queries are cut to this many tokens in training.
        passage_tokens: Passages are cut to this many tokens in training.
    """

    shares: dict[str, float] = field(default_factory=dict)
    rows_an_epoch: int = 5000
    package_run: int = 1
    hard_negatives: int = 0
    blank_names: float = 0.0
    query_tokens: int = 64
    passage_tokens: int = 160

    def __post_init__(self) -> None:
        _require(self.rows_an_epoch >= 0, "rows_an_epoch", self.rows_an_epoch, "0 or more")
        for style, share in self.shares.items():
            _require(0 < share <= 1e6, f"shares.{style}", share, "above 0, up to 1000000")
        _require(self.package_run >= 1, "package_run", self.package_run, "1 or more")
        _require(0 <= self.hard_negatives <= 16, "hard_negatives", self.hard_negatives, "0 to 16")
        _require(0.0 <= self.blank_names <= 1.0, "blank_names", self.blank_names, "0 to 1")
        _require(self.query_tokens >= 8, "query_tokens", self.query_tokens, "8 or more")
        _require(self.passage_tokens >= 8, "passage_tokens", self.passage_tokens, "8 or more")


@dataclass(frozen=True)
class LossRecipe:
    """The loss of sentence-transformers.

    Attributes:
        name: `contrastive` (in-batch negatives), `cached-contrastive` (the same over batches larger than memory), or
            `triplet` (one hard negative, cosine distance).
        temperature: Of the contrastive losses; its inverse scales the cosines.
        margin: Of the triplet loss, in cosine distance.
        symmetric: Whether passages must find their query too.
        mini_batch: Rows that the cached loss embeds at a time.
        matryoshka: Dimensions at which the loss is computed besides the full one; empty for none.
    """

    name: str = "contrastive"
    temperature: float = 0.05
    margin: float = 0.3
    symmetric: bool = False
    mini_batch: int = 32
    matryoshka: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _one_of("name", self.name, LOSSES)
        _require(0.001 <= self.temperature <= 1.0, "temperature", self.temperature, "0.001 to 1")
        _require(0.0 < self.margin <= 2.0, "margin", self.margin, "above 0, up to 2")
        _require(self.mini_batch >= 1, "mini_batch", self.mini_batch, "1 or more")
        distinct = len(set(self.matryoshka)) == len(self.matryoshka)
        _require(distinct, "matryoshka", self.matryoshka, "distinct dimensions: one that comes twice counts twice")


@dataclass(frozen=True)
class LoraRecipe:
    """PEFT's LoRA, for an encoder whose spec does not state its shape."""

    rank: int = 16
    alpha: float = 32.0
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")

    def __post_init__(self) -> None:
        _require(1 <= self.rank <= 256, "rank", self.rank, "1 to 256")
        _require(0 < self.alpha <= 1e4, "alpha", self.alpha, "above 0, up to 10000")
        _require(len(self.targets) > 0, "targets", self.targets, "at least one layer's last name")


@dataclass(frozen=True)
class OptimizerRecipe:
    """AdamW under a cosine schedule.

    Attributes:
        learning_rate: Highest, of adapters (or of all weights in a full fine-tuning).
        head_learning_rate: Highest of the head; None for the same.
        batch: Rows an optimizer step, over all processes.
        epochs: Passes over the rows.
        max_steps: Ends the run earlier; 0 for no such end. The schedule ends with it.
        warmup: Share of the steps over which the learning rate rises.
        weight_decay: Of AdamW.
        max_gradient_norm: Gradients are clipped to it.
        precision: `fp32`, `bf16` or `fp16` of the forward pass; weights that are trained stay fp32.
        gradient_checkpointing: Whether activations are computed twice to save memory.
        adapter_dropout: Dropout before A of the adapters.
        base_dropout: Whether the base's own dropout is on.
    """

    learning_rate: float
    head_learning_rate: float | None = None
    batch: int = 64
    epochs: int = 1
    max_steps: int = 0
    warmup: float = 0.1
    weight_decay: float = 0.01
    max_gradient_norm: float = 1.0
    precision: str = "fp32"
    gradient_checkpointing: bool = False
    adapter_dropout: float = 0.0
    base_dropout: bool = True

    def __post_init__(self) -> None:
        _require(0 < self.learning_rate <= 1, "learning_rate", self.learning_rate, "above 0, up to 1")
        head = self.head_learning_rate
        _require(head is None or 0 < head <= 1, "head_learning_rate", head, "above 0, up to 1")
        _require(self.batch >= 2, "batch", self.batch, "2 or more")
        _require(1 <= self.epochs <= 10_000, "epochs", self.epochs, "1 to 10000")
        _require(self.max_steps >= 0, "max_steps", self.max_steps, "0 or more")
        _require(0 <= self.warmup < 1, "warmup", self.warmup, "0 up to 1")
        _require(0 <= self.weight_decay <= 1, "weight_decay", self.weight_decay, "0 to 1")
        _require(self.max_gradient_norm > 0, "max_gradient_norm", self.max_gradient_norm, "above 0")
        _require(0 <= self.adapter_dropout < 1, "adapter_dropout", self.adapter_dropout, "0 up to 1")
        _one_of("precision", self.precision, PRECISIONS)


@dataclass(frozen=True)
class CheckpointRecipe:
    """How often the run is saved, and how many of its checkpoints stay."""

    every_steps: int = 100
    keep: int = 2

    def __post_init__(self) -> None:
        _require(self.every_steps >= 1, "every_steps", self.every_steps, "1 or more")
        _require(self.keep >= 1, "keep", self.keep, "1 or more")


@dataclass(frozen=True)
class Recipe:
    """One training run.

    Attributes:
        encoder: Name of a built-in encoder, or path of a spec, relative to the recipe.
        optimizer: See there.
        seed: Of the rows drawn, their order, and dropout.
        method: `lora` or `full`.
        keep_share: What the result keeps of the change, 0 to 1: weights between the base's and the trained ones.
        divergence: The run stops when the loss is above this many times the mean of the first steps, and above that of
            an encoder that gives every text one vector; and when it stays at the latter, from which it had been far.
        data: See there.
        loss: See there.
        lora: See there; an error where the spec of the encoder states another shape.
        checkpoints: See there.
    """

    encoder: str
    optimizer: OptimizerRecipe
    seed: int = 13
    method: str = "lora"
    keep_share: float = 1.0
    divergence: float = 4.0
    data: DataRecipe = field(default_factory=DataRecipe)
    loss: LossRecipe = field(default_factory=LossRecipe)
    lora: LoraRecipe | None = None
    checkpoints: CheckpointRecipe = field(default_factory=CheckpointRecipe)

    def __post_init__(self) -> None:
        _require("\0" not in self.encoder, "encoder", self.encoder, "a name or a path")
        _one_of("method", self.method, METHODS)
        _require(0 <= self.seed < _SEEDS, "seed", self.seed, f"0 to {_SEEDS - 1}")
        _require(0 < self.keep_share <= 1, "keep_share", self.keep_share, "above 0, up to 1")
        _require(self.divergence > 1, "divergence", self.divergence, "above 1")
        negatives = self.data.hard_negatives
        _require(self.loss.name != "triplet" or negatives == 1, "data.hard_negatives", negatives, "1 for loss triplet")


def load_recipe(path: Path) -> tuple[Recipe, EncoderSpec, str]:
    """Read a recipe: its fields, the spec of its encoder, and the SHA-256 of its file.

    Raises:
        TrainingError: The file cannot be read, is not TOML, or holds an unknown key or an invalid value (named).
        ExportError: The spec of its encoder is none.
    """
    try:
        content = path.read_bytes()
        table = tomllib.loads(content.decode("utf-8"))
    except OSError as exc:
        raise TrainingError(f"cannot read the recipe {path}: {exc.strerror}") from exc
    except ValueError as exc:  # besides TOML's own: bytes that are no UTF-8, an integer of more than 4,300 digits
        raise TrainingError(f"{path} is not valid TOML: {exc}") from exc
    except RecursionError as exc:
        raise TrainingError(f"{path} is not valid TOML: its tables or lists are nested too deeply") from exc
    recipe = read_table(Recipe, table, path.name)
    known = recipe.encoder in builtin_encoders()
    spec = load_builtin(recipe.encoder) if known else load_spec(path.parent / recipe.encoder)
    _check_dimensions(path, recipe, spec)
    return recipe, spec, hashlib.sha256(content).hexdigest()


def _check_dimensions(path: Path, recipe: Recipe, spec: EncoderSpec) -> None:
    for dimension in recipe.loss.matryoshka:
        if not 1 <= dimension < spec.dimension:
            raise TrainingError(
                f"{path.name}: loss.matryoshka holds {shorten(dimension)}, not in 1 to {spec.dimension - 1}"
            )
    longest = max(recipe.data.query_tokens, recipe.data.passage_tokens)
    if longest > spec.max_tokens:
        raise TrainingError(
            f"{path.name}: data asks for {shorten(longest)} tokens, {spec.name} reads {spec.max_tokens}"
        )


def _require(holds: bool, key: str, value: object, expected: str) -> None:
    if not holds:
        raise ValueError(f"{key} is {shorten(value)}, must be {expected}")


def _one_of(key: str, value: str, known: Sequence[str]) -> None:
    _require(value in known, key, value, f"one of {', '.join(known)}")
