"""The real Qodo and Jina weights, where this machine has them, against published values and real retrieval.

The weights are taken from the hub's cache, offline; `duovec-export build --encoder NAME` fetches them.
"""

import dataclasses
from itertools import product

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from export.encoder import build_encoder
from export.errors import ExportError
from export.gate.metrics import mrr, ranks_of
from export.gate.samples import retrieval_pairs
from export.source import Checkpoint, open_checkpoint
from export.spec import EncoderSpec, load_builtin
from export.transformer import attention_bias, last_hidden_state

pytestmark = pytest.mark.weights

# The values that transformers' own integration tests of jina-embeddings-v3 state: states 1 to 3 of 11 tokens,
# numbers 1 to 3 of each; the first token is masked.
JINA_TOKENS = [0, 345, 232, 328, 740, 140, 1695, 69, 6078, 1588, 2]
JINA_STATES = {
    "retrieval.query": [[-1.5202, 2.4074, -0.9706], [-1.5279, 2.4025, -1.1237], [-1.5252, 2.6143, -0.9416]],
    "retrieval.passage": [[-1.0778, 1.8124, -0.8223], [-1.3796, 1.8108, -0.9868], [-1.1073, 1.9459, -0.8104]],
    "separation": [[-2.3134, 1.9034, 0.1885], [-2.1804, 1.9923, 0.1184], [-2.2325, 2.0251, 0.2533]],
    "classification": [[-1.9793, 2.2602, -0.17995], [-1.8780, 2.2660, -0.21822], [-1.9202, 2.4457, -0.00022832]],
    "text-matching": [[-1.6952, 1.8568, -0.2258], [-1.6239, 1.9056, -0.2681], [-1.5218, 1.8185, 0.0062]],
}


def weights(spec: EncoderSpec) -> Checkpoint:
    """The checkpoint from the cache; skips where it is absent."""
    try:
        return open_checkpoint(spec, offline=True)
    except ExportError as exc:
        pytest.skip(str(exc))


def test_jina_gives_the_published_states_for_every_task() -> None:
    """All five adapters in one batch."""
    spec = load_builtin("jina-embeddings-v3")
    encoder, _ = build_encoder(spec, weights(spec))
    assert encoder.selection is not None
    ids = torch.tensor([JINA_TOKENS] * 5)
    mask = torch.ones_like(ids)
    mask[:, 0] = 0
    with torch.inference_mode():
        encoder.selection.select(torch.arange(5)[:, None])
        states = last_hidden_state(encoder.transformer, ids, attention_bias(mask, spec.attention))
    expected = torch.tensor([JINA_STATES[task] for task in spec.tasks])
    torch.testing.assert_close(states[:, 1:4, 1:4], expected, rtol=1e-4, atol=1e-4)


def test_the_spec_of_qodo_is_the_variant_that_retrieves_best() -> None:
    """Causal or bidirectional, with `<|endoftext|>` or without: real (docstring, function) pairs decide."""
    spec = load_builtin("qodo-embed-1-1.5b")
    checkpoint = weights(spec)
    tokenizer = Tokenizer.from_file(str(checkpoint.tokenizer_path))
    tokenizer.enable_truncation(256)
    pairs = retrieval_pairs(64)
    found = {}
    for attention, eos in product(("causal", "bidirectional"), (None, "<|endoftext|>")):
        encoder, _ = build_encoder(dataclasses.replace(spec, attention=attention), checkpoint)
        closing = [] if eos is None else [tokenizer.token_to_id(eos)]
        vectors = []
        for text in [*(pair.query for pair in pairs), *(pair.code for pair in pairs)]:
            ids = torch.tensor([tokenizer.encode(text).ids + closing])
            with torch.inference_mode():
                vectors.append(encoder(ids, torch.ones_like(ids))[0].double().numpy())
        found[attention, eos] = mrr(ranks_of(np.array(vectors[:64]), np.array(vectors[64:])))
    assert max(found, key=lambda variant: found[variant]) == (spec.attention, spec.append_eos), found
