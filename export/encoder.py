"""The encoder as one torch module, tokens in and unit vectors out.

Shapes: B rows, S tokens, H base dimension, D dimension, T tasks, R adapter rank.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel
from transformers.utils import logging as transformers_logging

from export.adapters import Adapters, LayerAdapter, initial_adapters, load_adapters
from export.checkpoint import Checkpoint
from export.errors import ExportError
from export.spec import EncoderSpec


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' load report and bars: what is missing is checked here, and raised."""
    verbosity = transformers_logging.get_verbosity()
    bar_was_on = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bar_was_on:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


class TaskSelection:
    """Which of the stacked ranks each row uses; set once a forward pass, read by every adapted layer."""

    mask: Tensor


class TaskLora(nn.Module):
    """A linear layer with one low-rank adapter a task, chosen row by row.

    All tasks' ranks are computed in one product (K = T·R columns), then the columns of the other tasks are
    zeroed. That equals gathering A and B by task id, and keeps the weights constants of the graph.
    """

    def __init__(self, linear: nn.Linear, adapter: LayerAdapter, scale: float, selection: TaskSelection) -> None:
        super().__init__()
        self.linear = linear
        tasks, rank, inputs = adapter.A_TRI.shape
        self.a_IK = nn.Parameter(torch.from_numpy(adapter.A_TRI).reshape(tasks * rank, inputs).T.contiguous())
        b_TRO = torch.from_numpy(adapter.B_TOR).transpose(1, 2)
        self.b_KO = nn.Parameter(scale * b_TRO.reshape(tasks * rank, -1))
        self._selection = selection

    def forward(self, hidden_BSI: Tensor) -> Tensor:
        """(B, S, I) to (B, S, O)."""
        low_BSK = (hidden_BSI @ self.a_IK) * self._selection.mask
        output: Tensor = self.linear(hidden_BSI) + low_BSK @ self.b_KO
        return output


class Encoder(nn.Module):
    """Transformer, mean pooling, head and L2 normalization.

    A row whose mask is all zero becomes NaN (0 / 0) rather than a plausible vector: the caller must refuse it.
    """

    task_columns: Tensor

    def __init__(self, transformer: BertModel, spec: EncoderSpec, adapters: Adapters) -> None:
        super().__init__()
        self.transformer = transformer
        self._selection = TaskSelection()
        for path, adapter in adapters.layers.items():
            linear = transformer.get_submodule(path)
            if not isinstance(linear, nn.Linear):
                raise ExportError(f"{spec.name}: lora target {path} is not a linear layer")
            if spec.tasks:
                adapted = TaskLora(linear, adapter, spec.lora.scale, self._selection)
                transformer.set_submodule(path, adapted)
            else:
                with torch.no_grad():
                    linear.weight += torch.from_numpy(adapter.delta(0, spec.lora.scale))
        columns_TK = torch.eye(spec.adapter_count).repeat_interleave(spec.lora.rank, dim=1)
        self.register_buffer("task_columns", columns_TK)
        self.head = nn.Linear(spec.base_dimension, spec.dimension, bias=False)
        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(adapters.head))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, task_id: Tensor | None = None) -> Tensor:
        """Embed token rows.

        Args:
            input_ids: (B, S) int64.
            attention_mask: (B, S) int64, 1 on real tokens.
            task_id: (B, 1) int64 for an encoder with tasks, otherwise absent.

        Returns:
            vectors_BD (B, D) float32, each row of L2 norm 1.
        """
        if task_id is not None:
            self._selection.mask = self.task_columns[task_id]
        hidden_BSH = self.encode_tokens(input_ids, attention_mask)
        pooled_BH = self.pool(hidden_BSH, attention_mask)
        vectors_BD: Tensor = self.head(pooled_BH)
        unit_BD: Tensor = vectors_BD / vectors_BD.norm(dim=-1, keepdim=True)
        return unit_BD

    def encode_tokens(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The transformer's last hidden states, (B, S, H)."""
        hidden_BSH: Tensor = self.transformer(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return hidden_BSH

    def pool(self, hidden_BSH: Tensor, attention_mask: Tensor) -> Tensor:
        """Mean of the hidden states over real tokens, (B, H)."""
        mask_BS1 = attention_mask.unsqueeze(-1).to(hidden_BSH.dtype)
        pooled_BH: Tensor = (hidden_BSH * mask_BS1).sum(dim=1) / mask_BS1.sum(dim=1)
        return pooled_BH


def layer_shapes(transformer: nn.Module, spec: EncoderSpec) -> dict[str, tuple[int, int]]:
    """(outputs, inputs) of every linear layer that the spec's targets name, by path.

    Raises:
        ExportError: A target names no layer.
    """
    shapes: dict[str, tuple[int, int]] = {}
    for target in spec.lora.targets:
        found = {
            path: (module.out_features, module.in_features)
            for path, module in transformer.named_modules()
            if isinstance(module, nn.Linear) and path.rpartition(".")[2] == target
        }
        if not found:
            raise ExportError(f"{spec.name}: lora.targets names {target!r}, which is no linear layer of the base")
        shapes.update(found)
    return shapes


def load_transformer(spec: EncoderSpec, checkpoint: Checkpoint) -> BertModel:
    """The base model with all of its weights.

    Raises:
        ExportError: The checkpoint's architecture contradicts the spec, or a weight is missing.
    """
    config = BertConfig.from_pretrained(checkpoint.folder, local_files_only=True)
    if config.model_type != "bert" or spec.attention != "bidirectional":
        raise ExportError(
            f"{spec.name}: only bidirectional BERT bases are built, not {spec.attention} {config.model_type}"
        )
    if spec.append_eos is not None:
        raise ExportError(f"{spec.name}: append_eos is {spec.append_eos!r}, but BERT tokenizers end rows themselves")
    if config.hidden_size != spec.base_dimension:
        raise ExportError(f"{spec.name}: base_dimension is {spec.base_dimension}, the base has {config.hidden_size}")
    if config.max_position_embeddings < spec.max_tokens:
        raise ExportError(
            f"{spec.name}: max_tokens is {spec.max_tokens}, the base has {config.max_position_embeddings}"
        )
    with quiet_transformers():
        # Eager attention: the decomposition of SDPA turns NaN into zero, which would hide a broken row.
        # The stubs do not know that output_loading_info returns a pair.
        loaded: Any = BertModel.from_pretrained(
            checkpoint.folder,
            add_pooling_layer=False,
            attn_implementation="eager",
            dtype=torch.float32,
            local_files_only=True,
            output_loading_info=True,
        )
    transformer, info = loaded
    if info["missing_keys"] or info["mismatched_keys"]:
        names = sorted([*info["missing_keys"], *map(str, info["mismatched_keys"])])
        raise ExportError(f"{checkpoint.folder}/model.safetensors lacks weights of the encoder: {', '.join(names)}")
    model: BertModel = transformer.eval()
    return model


def build_encoder(
    spec: EncoderSpec, checkpoint: Checkpoint, adapters_path: Path | None = None
) -> tuple[Encoder, Adapters]:
    """The encoder in evaluation mode, and the adapters that it carries.

    Args:
        spec: The encoder.
        checkpoint: Its verified base.
        adapters_path: Trained adapters (layout in `export.adapters`); without it, the untrained ones.

    Raises:
        ExportError: The base or the adapters do not fit the spec.
    """
    transformer = load_transformer(spec, checkpoint)
    shapes = layer_shapes(transformer, spec)
    adapters = load_adapters(adapters_path, spec, shapes) if adapters_path else initial_adapters(spec, shapes)
    return Encoder(transformer, spec, adapters).eval(), adapters
