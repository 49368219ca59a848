"""The bases: transformers' own classes, run under an attention of ours that exports well and hides nothing.

Shapes: B rows, S tokens, N heads, G heads that share a key head, H base dimension.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, BertModel, JinaEmbeddingsV3Model, PreTrainedModel, Qwen2Model
from transformers.utils import logging as transformers_logging

from export.errors import ExportError
from export.source import Checkpoint, base_alone
from export.spec import EncoderSpec

_CLASSES: dict[str, tuple[type[PreTrainedModel], dict[str, Any]]] = {
    "bert": (BertModel, {"add_pooling_layer": False}),
    "jina_embeddings_v3": (JinaEmbeddingsV3Model, {"add_pooling_layer": False}),
    "qwen2": (Qwen2Model, {}),
}
MATMUL_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_ATTENTION = "duovec-{}"


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


def load_transformer(spec: EncoderSpec, checkpoint: Checkpoint) -> PreTrainedModel:
    """The base with all of its weights, in fp32 and in evaluation mode.

    Raises:
        ExportError: The configuration asks for what is not built, or a weight is missing or of another shape.
    """
    config = checkpoint.config
    if config.get("use_sliding_window"):
        raise ExportError(f"{checkpoint.folder}/config.json: use_sliding_window is not built; set it to false")
    kind, arguments = _CLASSES[spec.architecture]
    with quiet_transformers(), base_alone(checkpoint) as folder:
        try:
            loaded: Any = kind.from_pretrained(
                folder,
                attn_implementation=_ATTENTION.format("fp32"),
                dtype=torch.float32,
                local_files_only=True,
                output_loading_info=True,
                **arguments,
            )
        except (RuntimeError, ValueError) as exc:
            reason = str(exc).strip().splitlines()[0]
            raise ExportError(f"{checkpoint.folder}: transformers cannot load the base: {reason}") from exc
    transformer, info = loaded
    absent = sorted([*info["missing_keys"], *(str(key) for key in info["mismatched_keys"])])
    if absent:
        some = ", ".join(absent[:5]) + (f" and {len(absent) - 5} more" if len(absent) > 5 else "")
        raise ExportError(f"{checkpoint.folder}: the safetensors lack weights of {spec.architecture}: {some}")
    model: PreTrainedModel = transformer.eval()
    model.requires_grad_(False)
    return model


def attention_bias(attention_mask: Tensor, attention: str) -> Tensor:
    """What is added to the attention scores: zero where a token may look, the least float where not.

    The least float rather than minus infinity: a row without any token then has uniform attention and becomes NaN in
    pooling, where it is refused, instead of NaN everywhere in the batch.

    Args:
        attention_mask: (B, S) int64, 1 on real tokens.
        attention: `causal` or `bidirectional`.

    Returns:
        (B, 1, S, S) float32, or (B, 1, 1, S) when every position may look at the same ones.
    """
    visible = attention_mask[:, None, None, :].bool()
    if attention == "causal":
        positions_S = torch.arange(attention_mask.shape[1], device=attention_mask.device)
        visible = visible & (positions_S[None, None, :, None] >= positions_S[None, None, None, :])
    hidden = torch.full((), torch.finfo(torch.float32).min, device=attention_mask.device)
    return torch.where(visible, torch.zeros((), device=attention_mask.device), hidden)


def last_hidden_state(transformer: PreTrainedModel, input_ids: Tensor, bias: Tensor) -> Tensor:
    """Run the base, (B, S) to (B, S, H), under a mask that is already an attention bias."""
    # A mask of four dimensions is taken by transformers as it is. Positions are spelt out for every row, because
    # broadcast ones break onnxruntime above batch 1 in newer opsets.
    positions_BS = torch.arange(input_ids.shape[1], device=input_ids.device).expand(input_ids.shape)
    arguments: dict[str, Any] = {"use_cache": False} if transformer.config.model_type == "qwen2" else {}
    output = transformer(input_ids=input_ids, attention_mask=bias, position_ids=positions_BS, **arguments)
    hidden_BSH: Tensor = output.last_hidden_state
    return hidden_BSH


def _attention(dtype: torch.dtype) -> Any:
    """Scaled dot-product attention with products in `dtype` and the softmax in fp32."""

    def forward(
        module: nn.Module,
        query_BNSd: Tensor,
        key_BKSd: Tensor,
        value_BKSd: Tensor,
        bias: Tensor | None,
        scaling: float | None = None,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> tuple[Tensor, None]:
        size = query_BNSd.shape[3]
        groups = query_BNSd.shape[1] // key_BKSd.shape[1]
        if groups > 1:
            key_BKSd = key_BKSd.repeat_interleave(groups, dim=1)
            value_BKSd = value_BKSd.repeat_interleave(groups, dim=1)
        # The query is scaled before the product: the scores of fp16 overflow otherwise.
        scaled = query_BNSd * (size**-0.5 if scaling is None else scaling)
        scores_BNSS = (scaled.to(dtype) @ key_BKSd.to(dtype).transpose(2, 3)).float()
        if bias is not None:
            scores_BNSS = scores_BNSS + bias
        weights_BNSS = scores_BNSS.softmax(dim=-1)
        mixed = (weights_BNSS.to(dtype) @ value_BKSd.to(dtype)).float()
        return mixed.transpose(1, 2).contiguous(), None

    return forward


for _name, _dtype in MATMUL_DTYPES.items():
    AttentionInterface.register(_ATTENTION.format(_name), _attention(_dtype))


class TypedLinear(nn.Module):
    """A linear layer whose product runs in a 16-bit format between fp32 activations; the bias is added in fp32."""

    def __init__(self, linear: nn.Linear, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(linear.weight.to(dtype), requires_grad=False)
        self.bias = linear.bias

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., I) float32 to (..., O) float32."""
        product = nn.functional.linear(hidden.to(self.weight.dtype), self.weight).float()
        return product if self.bias is None else product + self.bias


class TypedEmbedding(nn.Module):
    """An embedding table kept in a 16-bit format and read as fp32."""

    def __init__(self, table: nn.Embedding, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(table.weight.to(dtype), requires_grad=False)

    def forward(self, ids: Tensor) -> Tensor:
        """(...) int64 to (..., H) float32."""
        return nn.functional.embedding(ids, self.weight).float()


def set_matmul_precision(transformer: PreTrainedModel, precision: str) -> None:
    """Make the base compute its products in fp16 or bf16, in place, one layer's weights at a time.

    Norms, softmax, rotary embedding, activation functions and the residual stream stay in fp32: what TensorRT and the
    CUDA provider run is stated by the graph's own types, so nothing is left to their heuristics.
    """
    dtype = MATMUL_DTYPES[precision]
    transformer.set_attn_implementation(_ATTENTION.format(precision))
    for path, module in list(transformer.named_modules()):
        if isinstance(module, nn.Linear):
            transformer.set_submodule(path, TypedLinear(module, dtype))
        elif isinstance(module, nn.Embedding):
            transformer.set_submodule(path, TypedEmbedding(module, dtype))
