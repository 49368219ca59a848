"""The weights of the words part, counted on the passages that a run trains on."""

from collections.abc import Sequence

import numpy as np
from tokenizers import Tokenizer

from export.adapters import Array
from export.source import Checkpoint
from export.spec import EncoderSpec
from export.words import rarity

_AT_A_TIME = 4096


def word_weights(spec: EncoderSpec, checkpoint: Checkpoint, passages: Sequence[str]) -> Array | None:
    """Weight of every token by how few of the distinct passages hold it; None for an encoder without a words part.

    Args:
        spec: The encoder.
        checkpoint: Its base, whose tokenizer counts.
        passages: What is trained on; each counts once.
    """
    if spec.words is None:
        return None
    tokenizer = Tokenizer.from_file(str(checkpoint.tokenizer_path))
    tokenizer.no_padding()
    tokenizer.enable_truncation(spec.max_tokens)
    counts_V = np.zeros(checkpoint.config["vocab_size"], np.int64)
    texts = sorted(set(passages))
    for start in range(0, len(texts), _AT_A_TIME):
        for one in tokenizer.encode_batch_fast(texts[start : start + _AT_A_TIME]):
            counts_V[list(set(one.ids))] += 1
    special = [number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special]
    return rarity(counts_V, len(texts), special)
