"""A pair of real encoders of a few hundred kilobytes, under the names and with the dimensions of the compact pair."""

from pathlib import Path

from small_encoder import VOCABULARY, build_small
from tokenizers import Tokenizer, models, pre_tokenizers

from export.publish import publish_candidate
from export.repository import EncoderFolder

DIMENSIONS = {"compact-code": 1536, "compact-text": 1024}
_WORDS = ["?", *"a b c d def e f for from g h i if import in is k l m n none not of open or p path r raise".split()]
_LIMIT = 64


def _tokenizer() -> str:
    words = {word: number for number, word in enumerate(_WORDS)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return str(tokenizer.to_str())


def publish_small_pair(repository: Path) -> None:
    """Both encoders, for OpenVINO in fp32, on one thread."""
    for role, (name, dimension) in zip(("code", "text"), DIMENSIONS.items(), strict=True):
        folder = EncoderFolder(repository, name)
        changes = {
            "role": role,
            "runtime": "openvino",
            "source": {"package": "none"},
            "gate": {"passed": True, "tolerance": {"max_batch_distance": 1e-4}},
            "spec": {
                "max_tokens": _LIMIT,
                "append_eos": None,
                "prompts": {"query": "", "passage": ""},
                "tasks": [],
                "task_ids": {},
                "vocab_size": VOCABULARY,
            },
        }
        build_small(folder, seed=len(name), changes=changes, dimension=dimension, tokenizer=_tokenizer())
        publish_candidate(folder, None)
