"""Tokens of an encoder, made by its own published tokenizer, off the event loop but for a short text alone.

Shapes: T tokens of one text.
"""

import asyncio
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as HubTokenizer

from gateway.embedding.space import Encoder, InputType
from gateway.errors import InvalidInput, StartupError, TextTooLong

# Code has 2 to 5 characters a token. A text of more than 64 a token of the limit is not tokenized beyond
# them, so that a text of a million characters costs no more than one that fits.
_CHARS_PER_TOKEN = 64
# A text of more than so many characters a token of the limit has more tokens than that, unless it is mostly blanks:
# its beginning is tokenized first, and the rest only where that was not enough.
_BEGINNING_CHARS_PER_TOKEN = 8
# The beginning ends where every tokenizer has a border, whatever follows: between a word and a blank with another word.
_BORDER = re.compile(r".*[A-Za-z](?= [A-Za-z])", re.DOTALL)
# Texts are tokenized so many characters at a time, some 10 ms of both cores, so that a query need not wait for a call
# of megabytes, and that a call which was given up ends.
_SLICE_CHARS = 64 * 1024
# So short a text, a query, takes less than the way to a thread and back. One only: several are handed to the library's
# own threads, and waited for, though those be about slices of others.
_AT_ONCE_CHARS = 512
# Of code, by which a call is judged before its tokens are counted.
_USUAL_CHARS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Tokens:
    """One text as an encoder reads it."""

    ids_T: NDArray[np.int64]
    """Token ids, special tokens and prompt included, no padding."""
    excess: str | None
    """What of the text was too much ("700 tokens"), or None when the encoder reads all of it."""


class Tokenizer:
    """The published tokenizer of one encoder; cuts at the encoder's limit and says so."""

    def __init__(self, encoder: Encoder) -> None:
        """Load it.

        Raises:
            StartupError: The file is missing, not a tokenizer, or lacks the token that the spec appends.
        """
        path = encoder.tokenizer_path
        try:
            self._tokenizer = HubTokenizer.from_file(str(path))
        except Exception as exc:  # the Rust library raises nothing more precise
            raise StartupError(f"unreadable tokenizer {path}: {exc}") from exc
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._encoder = encoder
        # The ids that must close a sequence also when its middle is cut.
        self._tail_ids = self._closing_ids()
        added = self._tokenizer.get_added_tokens_decoder()
        self._special_ids = {number for number, token in added.items() if token.special}
        unknown = getattr(self._tokenizer.model, "unk_token", None)
        self._unknown_id = None if unknown is None else self._tokenizer.token_to_id(unknown)
        self._eos_ids: list[int] = []
        if encoder.append_eos is not None:
            eos_id = self._tokenizer.token_to_id(encoder.append_eos)
            if eos_id is None:
                raise StartupError(f"{path}: no token {encoder.append_eos!r}, which the spec appends")
            self._eos_ids = [eos_id]

    def _closing_ids(self) -> list[int]:
        """The special tokens after a text: `[SEP]` for BERT's `[CLS] a [SEP]`, none for Qwen2."""
        encoding = self._tokenizer.encode("a")
        count = len(encoding.ids)
        while count and encoding.special_tokens_mask[count - 1]:
            count -= 1
        return encoding.ids[count:]

    def excess(self, tokens: Tokens, field: str) -> TextTooLong | None:
        """The error for a text that the encoder cannot read to its end, or None.

        Args:
            tokens: Of the text.
            field: Name of the text in the caller's request.
        """
        if tokens.excess is None:
            return None
        encoder = self._encoder
        return TextTooLong(
            field,
            f"{tokens.excess}, but encoder {encoder.name} reads at most {encoder.max_tokens} tokens; "
            "split the text or set truncate",
        )

    async def texts_of(self, rows: Sequence[Sequence[int]], fields: Sequence[str]) -> list[str]:
        """The texts that rows of token ids stand for, in a thread.

        Args:
            rows: Ids of this tokenizer, of any number of texts; special tokens but the unknown one are skipped.
            fields: Their names in the caller's request.

        Raises:
            InvalidInput: Ids are none of this tokenizer, or of no text: tokenized, it would have others.
        """
        return await asyncio.to_thread(self._texts_of, rows, fields)

    def _texts_of(self, rows: Sequence[Sequence[int]], fields: Sequence[str]) -> list[str]:
        size, name = self._tokenizer.get_vocab_size(), self._encoder.name
        plain_rows = []
        for ids, field in zip(rows, fields, strict=True):
            for position, number in enumerate(ids):
                if not 0 <= number < size:
                    raise InvalidInput(f"{field}[{position}]", f"is {number}; ids of {name} are 0 to {size - 1}")
                if number == self._unknown_id:
                    raise InvalidInput(f"{field}[{position}]", f"is {number}, which to {name} is any unknown character")
            plain_rows.append([number for number in ids if number not in self._special_ids])
        texts = [str(text) for text in self._tokenizer.decode_batch(plain_rows)]
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        for field, ids, encoding in zip(fields, plain_rows, encodings, strict=True):
            if encoding.ids != ids:
                raise InvalidInput(field, f"are not the ids of {name} of any text; send the text itself")
        return texts

    def guess(self, texts: Sequence[str]) -> int:
        """About how many tokens texts have, without tokenizing them."""
        limit = self._encoder.max_tokens
        return sum(min(len(text) // _USUAL_CHARS_PER_TOKEN + 1, limit) for text in texts)

    async def tokenize(self, texts: Sequence[str], input_type: InputType) -> list[Tokens]:
        """Tokenize texts, in a thread but for a short one; the library releases the GIL and uses every core.

        Args:
            texts: Any number of texts.
            input_type: Chooses the prompt.

        Returns:
            Tokens of each text, in order, at most `max_tokens` each.
        """
        if len(texts) == 1 and len(self._encoder.prompts[input_type]) + len(texts[0]) <= _AT_ONCE_CHARS:
            return self._tokenize(texts, input_type)
        rows: list[Tokens] = []
        for some in self._slices(texts):
            rows += await asyncio.to_thread(self._tokenize, some, input_type)
        return rows

    def _slices(self, texts: Sequence[str]) -> Iterator[Sequence[str]]:
        beginning = self._encoder.max_tokens * _BEGINNING_CHARS_PER_TOKEN
        start = chars = 0
        for end, text in enumerate(texts):
            size = min(len(text), beginning)
            if end > start and chars + size > _SLICE_CHARS:
                yield texts[start:end]
                start, chars = end, 0
            chars += size
        yield texts[start:]

    def _tokenize(self, texts: Sequence[str], input_type: InputType) -> list[Tokens]:
        limit = self._encoder.max_tokens
        char_limit = limit * _CHARS_PER_TOKEN
        prompt = self._encoder.prompts[input_type]
        read = [self._beginning(text) for text in texts]
        found = self._ids(prompt, read)
        short = [index for index, ids in enumerate(found) if len(read[index]) < len(texts[index]) and len(ids) <= limit]
        if short:
            for index in short:
                read[index] = texts[index][:char_limit]
            for index, ids in zip(short, self._ids(prompt, [read[index] for index in short]), strict=True):
                found[index] = ids
        rows = []
        for text, part, ids in zip(texts, read, found, strict=True):
            excess = None
            if len(part) < len(text):
                excess = f"{len(text)} characters"
            elif len(ids) > limit:
                excess = f"{len(ids)} tokens"
            if len(ids) > limit:
                tail = self._tail_ids + self._eos_ids
                ids = ids[: limit - len(tail)] + tail
            rows.append(Tokens(np.array(ids, dtype=np.int64), excess))
        return rows

    def _ids(self, prompt: str, texts: Sequence[str]) -> list[list[int]]:
        encodings = self._tokenizer.encode_batch_fast([prompt + text for text in texts])
        return [encoding.ids + self._eos_ids for encoding in encodings]

    def _beginning(self, text: str) -> str:
        """As much of a text as has more tokens than the encoder reads, most likely, and the same as in the whole."""
        most = self._encoder.max_tokens * _BEGINNING_CHARS_PER_TOKEN
        if len(text) <= most:
            return text
        border = _BORDER.match(text, 0, most)
        return text[: border.end()] if border else text[: self._encoder.max_tokens * _CHARS_PER_TOKEN]
