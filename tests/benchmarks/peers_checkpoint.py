"""The compact pair's encoders as sentence-transformers folders: adapters merged, head as a Dense module."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from export.encoder import BuildOptions, build_encoder
from export.source import open_checkpoint
from export.spec import load_builtin

_TYPES = ("Transformer", "Pooling", "Dense", "Normalize")


def write_checkpoint(encoder: str, folder: Path) -> Path:
    """Write the folder anew; the adapter of passages is the one that is merged, and a words part is left out.

    Layout of sentence-transformers 2 and later: 3.4, which infinity needs, and 6.2 both read it.

    Args:
        encoder: Name of a built-in encoder with mean pooling and a head.
        folder: Where to write; what is there is removed.

    Raises:
        ExportError: The checkpoint is missing or damaged.
    """
    spec = load_builtin(encoder)
    assert spec.pooling == "mean" and not spec.passage.prompt, f"{encoder}: pooling and prompt are not written yet"
    checkpoint = open_checkpoint(spec)
    built, _ = build_encoder(spec, checkpoint, BuildOptions(merge_task=spec.passage.task))
    assert built.head is not None
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("1_Pooling", "2_Dense", "3_Normalize"):
        (folder / name).mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copyfile(checkpoint.folder / name, folder / name)
    # The base's file has a pooler besides, which BertModel would otherwise draw at random, with a warning.
    weights = load_file(checkpoint.folder / "model.safetensors")
    weights |= {name: tensor.contiguous() for name, tensor in built.transformer.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    save_file({"linear.weight": built.head.weight.contiguous()}, folder / "2_Dense" / "model.safetensors")
    documents = {
        "modules.json": [
            {
                "idx": index,
                "name": str(index),
                "path": f"{index}_{kind}" if index else "",
                "type": f"sentence_transformers.models.{kind}",
            }
            for index, kind in enumerate(_TYPES)
        ],
        "sentence_bert_config.json": {"max_seq_length": spec.max_tokens, "do_lower_case": False},
        "1_Pooling/config.json": {
            "word_embedding_dimension": spec.base_dimension,
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": True,
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
        "2_Dense/config.json": {
            "in_features": spec.base_dimension,
            "out_features": spec.dimension,
            "bias": False,
            "activation_function": f"{torch.nn.Identity.__module__}.Identity",
        },
    }
    for name, document in documents.items():
        (folder / name).write_text(json.dumps(document, indent=1), encoding="utf-8")
    return folder
