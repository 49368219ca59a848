"""Checkpoints of the full pair's architectures: true dimensions, few layers, narrow feed-forward, random weights."""

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    JinaEmbeddingsV3Config,
    JinaEmbeddingsV3Model,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2Model,
    Qwen2Tokenizer,
)

from export.gate.samples import real_functions
from export.source import task_folder
from export.spec import EncoderSpec
from export.transformer import quiet_transformers

VOCAB_SIZE = 2048
# Of 8960 and 4096: most of the weights, and nothing depends on it.
FEED_FORWARD = 1024


def make_qwen2(folder: Path, *, layers: int = 2, seed: int = 0) -> Path:
    """A Qwen2 checkpoint of Qodo-Embed-1-1.5B's dimensions."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=VOCAB_SIZE,
        hidden_size=1536,
        intermediate_size=FEED_FORWARD,
        num_hidden_layers=layers,
        num_attention_heads=12,
        num_key_value_heads=2,
        max_position_embeddings=32768,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        use_sliding_window=False,
    )
    with quiet_transformers():
        Qwen2Model(config).save_pretrained(folder)
    _save_qwen2_tokenizer(folder)
    return folder


def make_jina(folder: Path, spec: EncoderSpec, *, layers: int = 2, seed: int = 0) -> Path:
    """A jina-embeddings-v3 checkpoint of the true dimensions, with one PEFT adapter a task of the spec."""
    torch.manual_seed(seed)
    config = JinaEmbeddingsV3Config(vocab_size=VOCAB_SIZE, num_hidden_layers=layers, intermediate_size=FEED_FORWARD)
    with quiet_transformers():
        JinaEmbeddingsV3Model(config, add_pooling_layer=False).save_pretrained(folder)
        assert spec.lora is not None
        lora = LoraConfig(
            r=spec.lora.rank,
            lora_alpha=int(spec.lora.alpha),
            target_modules=list(spec.lora.targets),
            init_lora_weights=False,  # random: a B of zero would hide that a task is ignored
        )
        for number, task in enumerate(spec.tasks):
            base = JinaEmbeddingsV3Model.from_pretrained(folder, add_pooling_layer=False)
            torch.manual_seed(seed + number + 1)
            model = get_peft_model(base, lora)
            _enlarge(model)
            model.save_pretrained(str(folder / task_folder(task)))
    _save_jina_tokenizer(folder)
    return folder


def _enlarge(model: torch.nn.Module) -> None:
    """Random adapters of PEFT's own size move vectors by less than a test would notice."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name or "lora_embedding_B" in name:
                parameter.mul_(10)


def _save_qwen2_tokenizer(folder: Path) -> None:
    """Cut as Qwen2 cuts: transformers rebuilds that part from the class, whatever tokenizer.json says."""
    plain: Any = Qwen2Tokenizer
    own = plain().backend_tokenizer
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer, tokenizer.pre_tokenizer = own.normalizer, own.pre_tokenizer
    _train(tokenizer, ["<|endoftext|>"])
    trained = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(one) for one in trained["merges"]]
    plain(vocab=trained["vocab"], merges=merges).save_pretrained(folder)


def _save_jina_tokenizer(folder: Path) -> None:
    """Rows begin and end with XLM-RoBERTa's tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    _train(tokenizer, special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", special.index("<s>")), ("</s>", special.index("</s>"))]
    )
    fast: Any = PreTrainedTokenizerFast
    fast(tokenizer_object=tokenizer, pad_token="<pad>").save_pretrained(folder)


def _train(tokenizer: Tokenizer, special: list[str]) -> None:
    """BPE trained on real code, so that a function has about as many tokens as with the real vocabulary."""
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(real_functions(), trainer)
