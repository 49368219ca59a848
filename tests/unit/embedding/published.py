"""Writes a repository as the exporter publishes it, without the weights."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from tritonclient.grpc.model_config_pb2 import ModelConfig

DIMENSIONS = {"code": 1536, "text": 1024}
VOCABULARY = {
    word: word_id for word_id, word in enumerate(["[UNK]", "[CLS]", "[SEP]", "a", "b", "c", "query", ":", "<eos>"])
}


def manifest_of(role: str) -> dict[str, Any]:
    """The manifest of an encoder called `tiny-<role>`; the text encoder has tasks and a query prompt."""
    is_text = role == "text"
    return {
        "schema": 2,
        "encoder": f"tiny-{role}",
        "version": 1,
        "role": role,
        "dimension": DIMENSIONS[role],
        "spec": {
            "max_tokens": 8,
            "append_eos": None if is_text else "<eos>",
            "prompts": {"query": "query: " if is_text else "", "passage": ""},
            "tasks": ["other", "query", "passage"] if is_text else [],
            "task_ids": {"query": 1, "passage": 2} if is_text else {},
        },
        "serving": {"backend": "python", "num_threads": 2, "max_batch_size": 64, "length_buckets": []},
        "runtime": "onnxruntime",
        "precision": "fp32",
        "files": {"model.onnx": "11", "tokenizer.json": "22", "model.py": "33", "host.py": "44", "canary.json": "55"},
        "source": {"package": "base", "version": "1", "files": {}},
        "gate": {"max_abs": 1e-6},
        "created": "2026-01-01T00:00:00+00:00",
        "exporter": "duovec 0.1.0",
    }


def serve_version(repository: Path, encoder: str, served: int, loaded: Sequence[int] = ()) -> None:
    """Write a config.pbtxt that names the served version."""
    config = ModelConfig(name=encoder)
    config.version_policy.specific.versions.extend(loaded or [served])
    config.parameters["served_version"].string_value = str(served)
    (repository / encoder / "config.pbtxt").write_text(text_format.MessageToString(config))


def write_version(repository: Path, manifest: dict[str, Any]) -> Path:
    """Write one version folder with its manifest and tokenizer, and serve it."""
    folder = repository / manifest["encoder"] / str(manifest["version"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    serve_version(repository, manifest["encoder"], manifest["version"])
    write_tokenizer(folder / "tokenizer.json", closing=manifest["role"] == "text")
    return folder


def write_tokenizer(path: Path, *, closing: bool) -> None:
    """Write a tokenizer of whole words; `closing` puts `[CLS]` and `[SEP]` around, as BERT does."""
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if closing:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
        )
    # Baked in, as published tokenizers often have it; the gateway must not obey.
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=12)
    tokenizer.save(str(path))
