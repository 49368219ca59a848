"""Texts as token rows, made from the published tokenizer.json exactly as the gateway makes them.

The wall between the packages keeps the gateway's own tokenizer out of here; that both agree is held by the integration
test of the vectors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from export.deployment import buckets_up_to
from export.errors import ExportError
from export.gate.samples import Pair, long_text, real_functions
from export.spec import EncoderSpec, InputType

Feeds = dict[str, NDArray[np.int64]]

UNUSUAL_TEXTS = (
    "größte Zahl, façade, naïve Ångström",
    "e\u0301 as two code points, ﬁ as one, Ⅳ, ½, x²",
    "函数返回列表的长度 関数 함수",
    "функция возвращает αβγ",
    "emoji 🚀👩‍💻 and\ttabs  two spaces\r\nand lines\n\n\n",
    "<s> </s> <|endoftext|> [CLS] [SEP] <mask>",
    "\u00a0non-breaking\u200bzero-width\ufeff",
)
"""Accents composed and decomposed, other scripts, emoji, white space, and the names of special tokens."""

LARGEST_BATCH = 32
# Padded tokens of one compared batch: 32 rows up to 128 tokens, fewer of longer ones.
_BATCH_TOKENS = 4096


@dataclass(frozen=True)
class Row:
    """One text as an encoder reads it.

    Attributes:
        text: Prompt and text.
        limit: Most tokens that it may have.
        task: Task id; 0 for an encoder without tasks.
        ids: Token ids, special tokens included, no padding.
    """

    text: str
    limit: int
    task: int
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Batch:
    """Rows that are compared together, right-padded to `length`."""

    length: int
    rows: tuple[Row, ...]


class PublishedTokenizer:
    """The tokenizer.json of a version, with the spec's EOS rule and the gateway's way of cutting."""

    def __init__(self, path: Path, spec: EncoderSpec) -> None:
        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        encoding = self._tokenizer.encode("a")
        specials = [bool(flag) for flag in encoding.special_tokens_mask]
        eos_id = None if spec.append_eos is None else self._tokenizer.token_to_id(spec.append_eos)
        if spec.append_eos is not None and eos_id is None:
            raise ExportError(f"{path} has no token {spec.append_eos!r}, which the spec of {spec.name} appends")
        eos_ids = [] if eos_id is None else [eos_id]
        closing = specials[::-1].index(False)
        self._eos_ids = eos_ids
        self._tail_ids = encoding.ids[len(specials) - closing :] + eos_ids
        self.shortest = sum(specials) + len(eos_ids) + 1
        """Tokens of the shortest text."""

    def ids(self, text: str, limit: int) -> tuple[int, ...]:
        """Token ids of a text, at most `limit`; what closes a row still closes it when it is cut."""
        ids = self._tokenizer.encode(text).ids + self._eos_ids
        if len(ids) > limit:
            ids = ids[: limit - len(self._tail_ids)] + self._tail_ids
        return tuple(ids)


def task_of(spec: EncoderSpec, input_type: InputType) -> int:
    """Task id of an input type; 0 for an encoder without tasks."""
    return 0 if input_type.task is None else spec.tasks.index(input_type.task)


def pad(rows: Sequence[Row], length: int, *, has_tasks: bool) -> Feeds:
    """The graph's inputs: ids and mask (B, S), right-padded with zeros, and task ids (B, 1) where it takes them."""
    ids_BS = np.zeros((len(rows), length), dtype=np.int64)
    mask_BS = np.zeros_like(ids_BS)
    for index, row in enumerate(rows):
        ids_BS[index, : len(row.ids)] = row.ids
        mask_BS[index, : len(row.ids)] = 1
    feeds = {"input_ids": ids_BS, "attention_mask": mask_BS}
    if has_tasks:
        feeds["task_id"] = np.array([[row.task] for row in rows], dtype=np.int64)
    return feeds


class RowMaker:
    """Rows of every length from real code."""

    def __init__(self, spec: EncoderSpec, tokenizer: PublishedTokenizer) -> None:
        self._spec = spec
        self._tokenizer = tokenizer
        counted = sorted((len(tokenizer.ids(text, 10**6)), text) for text in real_functions())
        self._lengths = np.array([length for length, _ in counted])
        self._texts = [text for _, text in counted]

    def row(self, length: int, number: int) -> Row:
        """Real code cut to exactly `length` tokens; `number` chooses among the texts that are long enough."""
        longer = self._texts[int(np.searchsorted(self._lengths, length)) :]
        # Of a text this long even English prose would give enough tokens.
        text = longer[number % len(longer)] if longer else long_text()[: 16 * length]
        task = number % self._spec.adapter_count
        return Row(text, length, task, self._tokenizer.ids(text, length))

    def batches(self, longest_bucket: int, largest_batch: int = LARGEST_BATCH) -> list[Batch]:
        """For every length bucket one full row alone, and a batch of mixed lengths that covers every task.

        Args:
            longest_bucket: Buckets above are left out, tokens.
            largest_batch: Most rows of a batch; under the number of tasks, a batch covers as many of them.
        """
        batches: list[Batch] = []
        for number, length in enumerate(buckets_up_to(self._spec.max_tokens)):
            if length > max(longest_bucket, self._tokenizer.shortest):
                break
            batches.append(Batch(length, (self.row(length, number),)))
            size = min(largest_batch, LARGEST_BATCH, max(2, self._spec.adapter_count, _BATCH_TOKENS // length))
            # The first row fills the batch, the last one is as short as a row can be.
            lengths = np.linspace(length, self._tokenizer.shortest, size).round().astype(int).tolist()
            batches.append(Batch(length, tuple(self.row(one, index) for index, one in enumerate(lengths))))
        return batches

    def neighbours(self, count: int) -> Batch:
        """Rows of functions of every length up to 128 tokens, to compare a row alone with the same among many."""
        longest = min(128, self._spec.max_tokens)
        lengths = np.linspace(self._tokenizer.shortest, longest, count).round().astype(int).tolist()
        return Batch(longest, tuple(self.row(length, index) for index, length in enumerate(lengths)))

    def unusual_rows(self) -> list[Row]:
        """What code seldom holds and people write: a tokenizer that differs there differs in silence."""
        return [self._whole(self._spec.query, text) for text in UNUSUAL_TEXTS]

    def pair_rows(self, pairs: Sequence[Pair]) -> tuple[list[Row], list[Row]]:
        """Queries and passages with their prompts and tasks, cut at the encoder's limit as the gateway cuts them."""
        query, passage = self._spec.query, self._spec.passage
        return (
            [self._whole(query, pair.query) for pair in pairs],
            [self._whole(passage, pair.code) for pair in pairs],
        )

    def _whole(self, input_type: InputType, text: str) -> Row:
        prompted, limit = input_type.prompt + text, self._spec.max_tokens
        return Row(prompted, limit, task_of(self._spec, input_type), self._tokenizer.ids(prompted, limit))
