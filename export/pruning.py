"""Structured pruning: whole layers and whole feed-forward neurons, so that a smaller dense model remains."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from export.errors import ExportError
from export.lora import TaskSelection
from export.source import Checkpoint
from export.spec import EncoderSpec

# (linear layers into the neurons, linear layer out of them), by path inside one transformer layer.
_FFN: dict[str, tuple[tuple[str, ...], str]] = {
    "bert": (("intermediate.dense",), "output.dense"),
    "jina_embeddings_v3": (("mlp.fc1",), "mlp.fc2"),
    "qwen2": (("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj"),
}


def layer_list(transformer: PreTrainedModel, architecture: str) -> nn.ModuleList:
    """The transformer layers, first to last."""
    path = "encoder.layer" if architecture == "bert" else "layers"
    layers = transformer.get_submodule(path)
    if not isinstance(layers, nn.ModuleList):
        raise TypeError(f"{path} of {architecture} is no list of layers")
    return layers


def prune_layers(
    transformer: PreTrainedModel, spec: EncoderSpec, checkpoint: Checkpoint, count: int, selection: TaskSelection | None
) -> None:
    """Remove the layers that change their input least, in place.

    A layer's influence is one minus the mean cosine between a token's state before and after it, over real code
    (Men et al. 2024, "ShortGPT: Layers in Large Language Models are More Redundant Than You Expect").

    Raises:
        ExportError: No layer would remain.
    """
    layers = layer_list(transformer, spec.architecture)
    if not 0 < count < len(layers):
        raise ExportError(f"{spec.name} has {len(layers)} layers; --drop-layers must be 1 to {len(layers) - 1}")
    influence = _influence(transformer, layers, spec, checkpoint, selection)
    kept = sorted(sorted(range(len(layers)), key=lambda index: -influence[index])[: len(layers) - count])
    remaining = nn.ModuleList(layers[index] for index in kept)
    transformer.set_submodule("encoder.layer" if spec.architecture == "bert" else "layers", remaining)
    config: Any = transformer.config
    if spec.architecture == "qwen2":
        config.layer_types = [config.layer_types[index] for index in kept]
    config.num_hidden_layers = len(kept)


def _influence(
    transformer: PreTrainedModel,
    layers: nn.ModuleList,
    spec: EncoderSpec,
    checkpoint: Checkpoint,
    selection: TaskSelection | None,
) -> list[float]:
    from tokenizers import Tokenizer

    from export.gate.samples import real_functions
    from export.transformer import attention_bias, last_hidden_state

    tokenizer = Tokenizer.from_file(str(checkpoint.tokenizer_path))
    tokenizer.no_padding()
    tokenizer.enable_truncation(min(128, spec.max_tokens))
    changes: list[list[float]] = [[] for _ in layers]

    def watch(index: int) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            after: Tensor = output[0] if isinstance(output, tuple) else output
            changes[index].append(1.0 - float(nn.functional.cosine_similarity(args[0], after, dim=-1).mean()))

        return hook

    handles = [layer.register_forward_hook(watch(index)) for index, layer in enumerate(layers)]
    try:
        with torch.inference_mode():
            for text in real_functions()[:16]:
                ids = torch.tensor([tokenizer.encode(text).ids])
                if selection is not None:
                    selection.select(torch.zeros((1, 1), dtype=torch.int64))
                last_hidden_state(transformer, ids, attention_bias(torch.ones_like(ids), spec.attention))
    finally:
        for handle in handles:
            handle.remove()
    return [sum(one) / len(one) for one in changes]


def prune_ffn(transformer: PreTrainedModel, spec: EncoderSpec, width: int) -> None:
    """Keep the `width` feed-forward neurons of every layer whose weights are largest, in place.

    A neuron's importance is the product of the norms of the weights into it and out of it.

    Raises:
        ExportError: The width is not smaller than the base's, or adapters per row sit on these layers.
    """
    into, out = _FFN[spec.architecture]
    for layer in layer_list(transformer, spec.architecture):
        incoming: list[Any] = [layer.get_submodule(path) for path in into]
        outgoing: Any = layer.get_submodule(out)
        if not all(isinstance(one, nn.Linear) for one in (*incoming, outgoing)):
            raise ExportError(
                f"{spec.name}: --ffn-width cannot cut layers that carry adapters per row; merge one with --merge-task"
            )
        full = outgoing.weight.shape[1]
        if not 0 < width < full:
            raise ExportError(f"{spec.name}: the feed-forward width is {full}; --ffn-width must be 1 to {full - 1}")
        norms = [one.weight.norm(dim=1) for one in incoming]
        importance = torch.stack(norms).prod(dim=0) * outgoing.weight.norm(dim=0)
        kept = importance.topk(width).indices.sort().values
        for one in incoming:
            _cut(one, one.weight[kept], None if one.bias is None else one.bias[kept])
        _cut(outgoing, outgoing.weight[:, kept], outgoing.bias)


def _cut(layer: Any, weight: Tensor, bias: Tensor | None) -> None:
    layer.weight = nn.Parameter(weight.clone(), requires_grad=False)
    layer.bias = None if bias is None else nn.Parameter(bias.clone(), requires_grad=False)
    layer.out_features, layer.in_features = weight.shape
