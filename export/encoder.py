"""The encoder as one torch module, tokens in and unit vectors out.

Shapes: B rows, S tokens, H base dimension, D dimension.
"""

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from export.adapters import Adapters, initial_adapters, load_adapters
from export.errors import ExportError
from export.lora import TaskSelection, adapted_layers, keep_per_row, merge
from export.peft_adapters import load_peft
from export.pruning import prune_ffn, prune_layers
from export.source import ADAPTERS_FILE, Checkpoint
from export.spec import EncoderSpec
from export.transformer import attention_bias, last_hidden_state, load_transformer
from export.words import WordsPart


@dataclass(frozen=True)
class BuildOptions:
    """What may be built from a checkpoint besides the encoder as its spec states it.

    Attributes:
        merge_task: Task whose adapter is merged into the weights, which makes an encoder without tasks; None keeps
            the tasks, chosen row by row. Adapters of an encoder without tasks are always merged.
        drop_layers: Layers to leave out, those that change their input least.
        ffn_width: Neurons to keep in every feed-forward layer; None keeps all.
    """

    merge_task: str | None = None
    drop_layers: int = 0
    ffn_width: int | None = None

    @property
    def prunes(self) -> bool:
        """Whether the encoder is made smaller than its checkpoint."""
        return bool(self.drop_layers) or self.ffn_width is not None


def effective_spec(spec: EncoderSpec, options: BuildOptions) -> EncoderSpec:
    """The spec of what is built: an encoder with one task merged has no tasks any more.

    Raises:
        ExportError: The task to merge is none of the spec's.
    """
    if options.merge_task is None:
        return spec
    if options.merge_task not in spec.tasks:
        known = f"one of {', '.join(spec.tasks)}" if spec.tasks else "absent: the encoder has no tasks"
        raise ExportError(f"{spec.name}: the task to merge must be {known}, not {options.merge_task!r}")
    return dataclasses.replace(
        spec,
        tasks=(),
        query=dataclasses.replace(spec.query, task=None),
        passage=dataclasses.replace(spec.passage, task=None),
    )


class Encoder(nn.Module):
    """Transformer, pooling, head, L2 normalization, and the words part beside it where the spec has one.

    A row whose mask is all zero becomes NaN (0 / 0) rather than a plausible vector: the caller must refuse it.
    """

    def __init__(
        self, transformer: PreTrainedModel, spec: EncoderSpec, adapters: Adapters, selection: TaskSelection | None
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self.selection = selection
        self.head: nn.Linear | None = None
        if adapters.head is not None:
            self.head = nn.Linear(spec.base_dimension, spec.dimension, bias=False)
            self.head.weight = nn.Parameter(torch.from_numpy(adapters.head), requires_grad=False)
        self.words: WordsPart | None = None
        if spec.words is not None and adapters.words is not None and adapters.head is not None:
            self.words = WordsPart(spec.words, adapters.words, adapters.head)
        self._attention = spec.attention
        self._pooling = spec.pooling

    def forward(self, input_ids: Tensor, attention_mask: Tensor, task_id: Tensor | None = None) -> Tensor:
        """Embed token rows.

        Args:
            input_ids: (B, S) int64.
            attention_mask: (B, S) int64, 1 on real tokens, which come first.
            task_id: (B, 1) int64 for an encoder with tasks, otherwise absent.

        Returns:
            vectors_BD (B, D) float32, each row of L2 norm 1.
        """
        if self.selection is not None and task_id is not None:
            self.selection.select(task_id)
        bias = attention_bias(attention_mask, self._attention)
        hidden_BSH = last_hidden_state(self.transformer, input_ids, bias)
        pooled = self.pool(hidden_BSH, attention_mask)
        vectors_BD: Tensor = pooled if self.head is None else self.head(pooled)
        unit_BD: Tensor = vectors_BD / vectors_BD.norm(dim=-1, keepdim=True)
        return unit_BD if self.words is None else self.words(unit_BD, input_ids, attention_mask)

    def pool(self, hidden_BSH: Tensor, attention_mask: Tensor) -> Tensor:
        """The mean of the hidden states over real tokens, or the last real token's, (B, H)."""
        if self._pooling == "mean":
            mask_BS1 = attention_mask.unsqueeze(-1).to(hidden_BSH.dtype)
            mean_BH: Tensor = (hidden_BSH * mask_BS1).sum(dim=1) / mask_BS1.sum(dim=1)
            return mean_BH
        lengths_B1 = attention_mask.sum(dim=1, keepdim=True)
        last_B1H = (lengths_B1 - 1).clamp(min=0).unsqueeze(-1).expand(-1, -1, hidden_BSH.shape[-1])
        any_B1 = (lengths_B1 > 0).to(hidden_BSH.dtype)
        pooled_BH: Tensor = hidden_BSH.gather(1, last_B1H).squeeze(1) * any_B1 / any_B1
        return pooled_BH


def build_encoder(
    spec: EncoderSpec, checkpoint: Checkpoint, options: BuildOptions | None = None
) -> tuple[Encoder, Adapters]:
    """The encoder in evaluation mode, and the adapters that it carries.

    Args:
        spec: The encoder as its file states it.
        checkpoint: Its weights.
        options: What to change.

    Raises:
        ExportError: The base or the adapters do not fit the spec, or the options do not fit the base.
    """
    options = options or BuildOptions()
    built = effective_spec(spec, options)
    transformer = load_transformer(spec, checkpoint)
    adapters = read_adapters(spec, checkpoint, transformer)
    selection = None
    if built.tasks:
        selection = keep_per_row(transformer, adapters)
    elif adapters.layers:
        merge(transformer, adapters, spec.tasks.index(options.merge_task) if options.merge_task else 0)
    if options.drop_layers:
        prune_layers(transformer, spec, checkpoint, options.drop_layers, selection)
    if options.ffn_width is not None:
        prune_ffn(transformer, spec, options.ffn_width)
    return Encoder(transformer, built, adapters, selection).eval(), adapters


def read_adapters(spec: EncoderSpec, checkpoint: Checkpoint, transformer: PreTrainedModel) -> Adapters:
    """The adapters of a checkpoint, or the untrained ones where the spec allows them.

    Raises:
        ExportError: They are missing, or do not fit the spec or the base.
    """
    folder = checkpoint.adapters_folder
    try:
        shapes = adapted_layers(transformer, spec.lora.targets) if spec.lora else {}
    except ExportError as exc:
        raise ExportError(f"{spec.name}: {exc}") from exc
    vocabulary: int = transformer.config.vocab_size
    if folder is None:
        if spec.lora is not None and spec.lora.trained:
            raise ExportError(f"{checkpoint.folder} lacks the task adapters of {spec.name}; fetch it whole")
        return initial_adapters(spec, shapes, vocabulary)
    if (folder / ADAPTERS_FILE).is_file():
        return load_adapters(folder / ADAPTERS_FILE, spec, shapes, vocabulary)
    if spec.words is not None:
        raise ExportError(
            f"{folder}: PEFT's folders hold no weights of words, which {spec.name} has; give {ADAPTERS_FILE}"
        )
    adapters = load_peft(folder, spec)
    unadapted = sorted(shapes.keys() - adapters.layers.keys())
    if unadapted:
        raise ExportError(f"{folder}: no adapter for {unadapted[0]}, which lora.targets of {spec.name} names")
    return adapters
