"""Texts to vectors by the very module that the export builds, in fp32 torch.

Shapes: N texts, S tokens, D dimension.
"""

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from export.encoder import Encoder, build_encoder
from export.python_backend.host import group_by_length
from export.source import Checkpoint, open_checkpoint
from export.spec import EncoderSpec, InputType
from training.errors import TrainingError

Vectors = NDArray[np.float32]
_TOKENS_A_BATCH = 4096
_CPU = torch.device("cpu")


class TextEncoder:
    """An encoder with its tokenizer, prompts and tasks.

    Args:
        spec: The encoder.
        folder: A checkpoint; None for the spec's own weights.
        precision: `fp32`, or `bf16` for products in bf16 as the compact pair is published; 2.5 times faster on a CPU
            that has them.
        device: Where it computes.

    Raises:
        ExportError: The checkpoint does not fit the spec.
    """

    def __init__(
        self,
        spec: EncoderSpec,
        folder: Path | None = None,
        *,
        precision: str = "fp32",
        device: torch.device = _CPU,
    ) -> None:
        checkpoint: Checkpoint = open_checkpoint(spec, folder)
        self.spec = spec
        self._bf16 = precision == "bf16"
        self._device = device
        self._encoder: Encoder = build_encoder(spec, checkpoint)[0].to(device)
        self._tokenizer = Tokenizer.from_file(str(checkpoint.tokenizer_path))
        self._tokenizer.no_padding()
        reserved = 0 if spec.append_eos is None else 1
        self._tokenizer.enable_truncation(spec.max_tokens - reserved)
        self._eos = None if spec.append_eos is None else self._tokenizer.token_to_id(spec.append_eos)

    def encode(
        self, texts: Sequence[str], input_type: InputType, on_progress: Callable[[int], None] = lambda done: None
    ) -> Vectors:
        """Embed texts; those longer than the encoder reads are cut.

        Args:
            texts: Any number.
            input_type: Query or passage of the spec.
            on_progress: Told how many texts are done.

        Returns:
            vectors_ND (N, D) float32 of norm 1, in the order of the texts.

        Raises:
            TrainingError: A vector is not finite.
        """
        rows = [one.ids for one in self._tokenizer.encode_batch_fast([input_type.prompt + text for text in texts])]
        if self._eos is not None:
            rows = [[*row, self._eos] for row in rows]
        vectors_ND = np.empty((len(rows), self.spec.dimension), np.float32)
        groups = group_by_length(np.array([len(row) for row in rows], dtype=np.int64), _TOKENS_A_BATCH)
        done = 0
        # One thread a group: threads inside one product wait for each other wherever other work takes a core. A module
        # that chooses adapters holds the choice of the running batch, so its batches cannot run side by side; a GPU
        # takes them one after the other anyway.
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with ThreadPoolExecutor(1 if self.spec.tasks or self._device.type != "cpu" else threads) as pool:
                run = functools.partial(self._forward, rows, input_type)
                for group, found in zip(groups, pool.map(run, groups), strict=True):
                    vectors_ND[group] = found
                    done += len(group)
                    on_progress(done)
        finally:
            torch.set_num_threads(threads)
        if not np.isfinite(vectors_ND).all():
            raise TrainingError(f"{self.spec.name} gives vectors that are not finite; do not use this checkpoint")
        return vectors_ND

    @torch.inference_mode()
    def _forward(self, all_rows: list[list[int]], input_type: InputType, group: NDArray[np.intp]) -> Vectors:
        rows = [all_rows[number] for number in group]
        longest = max(len(row) for row in rows)
        ids_BS = torch.zeros(len(rows), longest, dtype=torch.int64)
        mask_BS = torch.zeros_like(ids_BS)
        for number, row in enumerate(rows):
            ids_BS[number, : len(row)] = torch.tensor(row)
            mask_BS[number, : len(row)] = 1
        task_B1 = None
        if input_type.task is not None:
            task_B1 = torch.full((len(rows), 1), self.spec.tasks.index(input_type.task), dtype=torch.int64)
        inputs = [None if one is None else one.to(self._device) for one in (ids_BS, mask_BS, task_B1)]
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._bf16):
            vectors_BD = self._encoder(*inputs).float()
        unit_BD: Vectors = torch.nn.functional.normalize(vectors_BD).cpu().numpy()
        return unit_BD


def join(code_ND: Vectors, text_ND: Vectors) -> Vectors:
    """The pair's vectors, as the gateway joins them where no query asks for other weights: normalize([code ; text])."""
    joined_ND = np.concatenate([code_ND, text_ND], axis=1, dtype=np.float64)
    unit_ND: Vectors = (joined_ND / np.linalg.norm(joined_ND, axis=1, keepdims=True)).astype(np.float32)
    return unit_ND
