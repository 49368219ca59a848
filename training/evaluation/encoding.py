"""Texts to vectors by the very module that the export builds, in fp32 torch.

Shapes: N texts, S tokens, D dimension.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from export.encoder import Encoder, build_encoder
from export.source import Checkpoint, open_checkpoint
from export.spec import EncoderSpec, InputType
from training.errors import TrainingError

Vectors = NDArray[np.float32]
_TOKENS_A_BATCH = 4096


def untrained(spec: EncoderSpec) -> EncoderSpec:
    """The same encoder before any training: its base, adapters that change nothing, the isometric head."""
    return spec


class TextEncoder:
    """An encoder with its tokenizer, prompts and tasks.

    Args:
        spec: The encoder.
        folder: A checkpoint; None for the spec's own weights.

    Raises:
        ExportError: The checkpoint does not fit the spec.
    """

    def __init__(self, spec: EncoderSpec, folder: Path | None = None) -> None:
        checkpoint: Checkpoint = open_checkpoint(spec, folder)
        self.spec = spec
        self._encoder: Encoder = build_encoder(spec, checkpoint)[0]
        self._tokenizer = Tokenizer.from_file(str(checkpoint.tokenizer_path))
        self._tokenizer.no_padding()
        reserved = 0 if spec.append_eos is None else 1
        self._tokenizer.enable_truncation(spec.max_tokens - reserved)
        self._eos = None if spec.append_eos is None else self._tokenizer.token_to_id(spec.append_eos)

    @torch.inference_mode()
    def encode(
        self, texts: Sequence[str], input_type: InputType, on_progress: Callable[[int], None] = lambda done: None
    ) -> Vectors:
        """Embed texts; those longer than the encoder reads are cut.

        Returns:
            vectors_ND (N, D) float32 of norm 1, in the order of the texts.

        Raises:
            TrainingError: A vector is not finite.
        """
        rows = [one.ids for one in self._tokenizer.encode_batch_fast([input_type.prompt + text for text in texts])]
        if self._eos is not None:
            rows = [[*row, self._eos] for row in rows]
        order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
        vectors_ND = np.empty((len(rows), self.spec.dimension), np.float32)
        start = 0
        while start < len(order):
            end = start + 1
            while end < len(order) and (end + 1 - start) * len(rows[order[end]]) <= _TOKENS_A_BATCH:
                end += 1
            chosen = order[start:end]
            vectors_ND[chosen] = self._forward([rows[number] for number in chosen], input_type)
            start = end
            on_progress(start)
        if not np.isfinite(vectors_ND).all():
            raise TrainingError(f"{self.spec.name} gives vectors that are not finite; do not use this checkpoint")
        return vectors_ND

    def _forward(self, rows: list[list[int]], input_type: InputType) -> Vectors:
        longest = max(len(row) for row in rows)
        ids_BS = torch.zeros(len(rows), longest, dtype=torch.int64)
        mask_BS = torch.zeros_like(ids_BS)
        for number, row in enumerate(rows):
            ids_BS[number, : len(row)] = torch.tensor(row)
            mask_BS[number, : len(row)] = 1
        task_B1 = None
        if input_type.task is not None:
            task_B1 = torch.full((len(rows), 1), self.spec.tasks.index(input_type.task), dtype=torch.int64)
        vectors: Vectors = self._encoder(ids_BS, mask_BS, task_B1).numpy()
        return vectors


def join(code_ND: Vectors, text_ND: Vectors, weight: float = 0.5) -> Vectors:
    """The pair's vectors, as the gateway joins them: normalize([√w · code ; √(1−w) · text])."""
    joined_ND = np.concatenate([np.sqrt(weight) * code_ND, np.sqrt(1.0 - weight) * text_ND], axis=1)
    unit_ND: Vectors = (joined_ND / np.linalg.norm(joined_ND, axis=1, keepdims=True)).astype(np.float32)
    return unit_ND
