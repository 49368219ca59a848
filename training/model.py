"""The encoder as sentence-transformers trains it: transformer with PEFT's LoRA, pooling, head, L2.

An encoder with tasks has one route for queries and one for passages. Both routes share the base's weights and differ
in their adapters only; the head is one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Router, Transformer
from torch import nn

from export.adapters import Adapters
from export.encoder import read_adapters
from export.source import Checkpoint, base_alone
from export.spec import EncoderSpec
from export.transformer import load_transformer, quiet_transformers
from training.errors import TrainingError
from training.recipe import Recipe

ROUTES = ("query", "document")  # sentence-transformers' names
_POOLING = {"mean": "mean", "last_token": "lasttoken"}
_ADAPTER = "default"


@dataclass(frozen=True)
class LoraShape:
    """Rank, numerator of the scale, and last names of the adapted layers."""

    rank: int
    alpha: float
    targets: tuple[str, ...]

    @property
    def scale(self) -> float:
        """Factor on the low-rank product."""
        return self.alpha / self.rank


@dataclass(frozen=True)
class TrainedEncoder:
    """The model of a run, and where its parts are.

    Attributes:
        model: As the trainer takes it.
        transformers: The Transformer module of queries, then of passages; one alone for an encoder without tasks.
        tasks: The spec's task of each transformer; empty for an encoder without tasks.
        head: The linear map up to the encoder's dimension, or None.
        adapters: What the run started from, all tasks.
        lora: Shape of the adapters; None in a full fine-tuning.
    """

    model: SentenceTransformer
    transformers: tuple[Transformer, ...]
    tasks: tuple[str, ...]
    head: nn.Linear | None
    adapters: Adapters
    lora: LoraShape | None

    def trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Every parameter that the optimizer changes, by name."""
        return ((name, one) for name, one in self.model.named_parameters() if one.requires_grad)


def build_model(spec: EncoderSpec, checkpoint: Checkpoint, recipe: Recipe) -> TrainedEncoder:
    """Load the base and put adapters and head on it, as the checkpoint has them or untrained.

    Raises:
        TrainingError: The recipe and the spec contradict each other, or the encoder is one that is not trained here.
        ExportError: The checkpoint does not fit the spec.
    """
    if spec.append_eos is not None:
        raise TrainingError(f"{spec.name} appends {spec.append_eos} itself; training knows no such encoder yet")
    if recipe.method == "full" and spec.tasks:
        raise TrainingError(f"{spec.name} has a task adapter a row; set method to lora, full has none")
    if recipe.method == "lora" and spec.head is not None and spec.lora is None:
        raise TrainingError(f"{spec.name} has a head, and PEFT's folders hold none: state [lora] in its spec")
    adapters = read_adapters(spec, checkpoint, load_transformer(spec, checkpoint))
    lora = lora_shape(spec, recipe, adapters) if recipe.method == "lora" else None
    tasks = tuple(one.task for one in (spec.query, spec.passage) if one.task is not None)
    tasks = tuple(dict.fromkeys(tasks))
    transformers = tuple(_transformer(spec, checkpoint, recipe) for _ in tasks or ("",))
    for transformer, task in zip(transformers, tasks or ("",), strict=True):
        if lora is None:
            transformer.requires_grad_(True)
        else:
            _add_adapter(transformer, lora, recipe, adapters, spec.tasks.index(task) if task else 0)
    for other in transformers[1:]:
        _share_base(transformers[0], other)
    pooling = Pooling(spec.base_dimension, pooling_mode=_POOLING[spec.pooling])
    modules: list[nn.Module] = [transformers[0], pooling]
    if len(transformers) > 1:
        routes: dict[str, Any] = {name: [one] for name, one in zip(ROUTES, transformers, strict=True)}
        modules[0] = Router(routes, default_route="document")
    head = None
    if adapters.head is not None:
        dense = Dense(
            spec.base_dimension,
            spec.dimension,
            bias=False,
            activation_function=None,
            init_weight=torch.from_numpy(adapters.head.copy()),
        )
        head = dense.linear
        modules.append(dense)
    model = SentenceTransformer(modules=[*modules, Normalize()], device="cpu")
    return TrainedEncoder(model, transformers, tasks, head, adapters, lora)


def lora_shape(spec: EncoderSpec, recipe: Recipe, adapters: Adapters) -> LoraShape:
    """The shape of the adapters: the spec's, else that of the adapters to go on from, else the recipe's.

    Raises:
        TrainingError: The recipe states another one, or none where it must.
    """
    asked = None if recipe.lora is None else LoraShape(recipe.lora.rank, recipe.lora.alpha, recipe.lora.targets)
    if spec.lora is not None:
        stated = LoraShape(spec.lora.rank, spec.lora.alpha, spec.lora.targets)
        if asked not in (None, stated):
            raise TrainingError(f"the recipe's [lora] is {asked}, the spec of {spec.name} says {stated}; leave it out")
        return stated
    if asked is None:
        raise TrainingError(f"the spec of {spec.name} states no adapters: the recipe needs [lora]")
    if adapters.layers:
        rank = next(iter(adapters.layers.values())).A_TRI.shape[1]
        targets = {path.rpartition(".")[2] for path in adapters.layers}
        if (rank, adapters.scale, targets) != (asked.rank, asked.scale, set(asked.targets)):
            raise TrainingError(
                f"the base has adapters of rank {rank} and scale {adapters.scale:g} on {', '.join(sorted(targets))}; "
                f"the recipe's [lora] is {asked}"
            )
    return asked


def _transformer(spec: EncoderSpec, checkpoint: Checkpoint, recipe: Recipe) -> Transformer:
    model_kwargs: dict[str, Any] = {"dtype": torch.float32, "attn_implementation": "sdpa"}
    if spec.architecture != "qwen2":
        model_kwargs["add_pooling_layer"] = False
    with quiet_transformers(), base_alone(checkpoint) as folder:
        transformer: Transformer = Transformer(
            str(folder),
            max_seq_length=max(recipe.data.query_tokens, recipe.data.passage_tokens),
            model_kwargs=model_kwargs,
            config_kwargs={"is_causal": False} if spec.architecture == "qwen2" and spec.attention != "causal" else {},
        )
    if not recipe.optimizer.base_dropout:
        _without_dropout(transformer)
    if recipe.optimizer.gradient_checkpointing:
        # Non-reentrant: nothing that reaches the frozen embedding layer needs a gradient.
        transformer.model.activation_checkpointing_enable({"use_reentrant": False})
    transformer.requires_grad_(False)
    return transformer


def _without_dropout(transformer: nn.Module) -> None:
    """Attention keeps its rate in a module of its own, or as a number."""
    module: Any
    for module in transformer.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ("dropout_prob", "attention_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


def _add_adapter(transformer: Transformer, lora: LoraShape, recipe: Recipe, adapters: Adapters, task: int) -> None:
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # PEFT divides it; jina's is whole, ours may not be
        target_modules=list(lora.targets),
        lora_dropout=recipe.optimizer.adapter_dropout,
        bias="none",
    )
    transformer.model.add_adapter(config, adapter_name=_ADAPTER)
    for path, adapter in adapters.layers.items():
        layer = transformer.model.get_submodule(path)
        a_RI, b_OR = lora_matrices(layer)
        with torch.no_grad():
            a_RI.copy_(torch.from_numpy(adapter.A_TRI[task]))
            b_OR.copy_(torch.from_numpy(adapter.B_TOR[task]))


def lora_matrices(layer: Any) -> tuple[nn.Parameter, nn.Parameter]:
    """A (R, I) and B (O, R) of a layer that PEFT adapted, linear or embedding."""
    if _ADAPTER in layer.lora_A:
        return layer.lora_A[_ADAPTER].weight, layer.lora_B[_ADAPTER].weight
    return layer.lora_embedding_A[_ADAPTER], layer.lora_embedding_B[_ADAPTER]


def _share_base(first: nn.Module, other: nn.Module) -> None:
    """Let frozen parameters be one in memory."""
    theirs = dict(first.named_parameters())
    for name, parameter in other.named_parameters():
        if not parameter.requires_grad:
            parameter.data = theirs[name].data
