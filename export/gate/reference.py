"""The independent reference: transformers' own classes and tokenizer, PEFT's merging, pooling in float64 numpy.

Nothing of what builds the exported graph is used: neither its attention, nor its adapters, nor its pooling. Rows run
with rows of the same length only and are never padded, so that padding cannot be wrong in the same way on both sides.

Shapes: N rows, S tokens, H base dimension, D dimension.
"""

import functools
import importlib.metadata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file
from transformers import AutoConfig, AutoModel, AutoTokenizer

from export.adapters import initial_head
from export.encoder import BuildOptions, build_encoder
from export.gate.rows import Row
from export.source import ADAPTERS_FILE, Checkpoint, base_alone, task_folder
from export.spec import EncoderSpec
from export.transformer import quiet_transformers
from export.words import directions

Vectors = NDArray[np.float64]
OnStep = Callable[[str], None]
# Tokens of rows that run together.
_GROUP_TOKENS = 4096


class Reference:
    """An encoder as transformers and PEFT run it, one task's model in memory at a time."""

    def __init__(self, spec: EncoderSpec, checkpoint: Checkpoint, merge_task: str | None = None) -> None:
        """Load its tokenizer; models are loaded when they are needed.

        Args:
            spec: The encoder as its file states it.
            checkpoint: Its weights.
            merge_task: The task that every row takes; None where rows choose.
        """
        self._spec = spec
        self._checkpoint = checkpoint
        self._merge_task = merge_task
        trained = checkpoint.adapters_folder / ADAPTERS_FILE if checkpoint.adapters_folder else None
        loaded = load_file(trained) if trained and trained.is_file() else {}
        self._trained = {name: tensor.astype(np.float32) for name, tensor in loaded.items()}
        head_DH = self._trained.get("head.weight", initial_head(spec))
        self._head_DH = None if head_DH is None else head_DH.astype(np.float64)
        words = None if spec.words is None else self._trained.get("words.weight")
        self._words = None if words is None or head_DH is None else _Words(spec, words, head_DH)
        with quiet_transformers():
            self._tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint.folder, local_files_only=True)

    @property
    def name(self) -> str:
        """What it is, for a report."""
        version = importlib.metadata.version
        return f"transformers {version('transformers')} on torch {version('torch')}, fp32"

    def token_ids(self, text: str, limit: int) -> tuple[int, ...]:
        """Token ids of a text by transformers' tokenizer of the checkpoint, at most `limit`."""
        eos = self._spec.append_eos
        eos_ids = () if eos is None else (int(self._tokenizer.convert_tokens_to_ids(eos)),)
        ids = self._tokenizer(text, truncation=True, max_length=limit - len(eos_ids))["input_ids"]
        return (*ids, *eos_ids)

    def vectors(self, rows: Sequence[Row], on_step: OnStep = lambda step: None) -> Vectors:
        """Unit vectors (N, D) of rows; each task's rows run on the base with that task's adapters merged."""
        vectors_ND = np.empty((len(rows), self._spec.dimension))
        done = 0
        for task in sorted({row.task for row in rows}):
            model = self._model(self._merge_task or (self._spec.tasks[task] if self._spec.tasks else None))
            run = functools.partial(self._vectors, model)
            for group, found in run_groups(run, rows, same_length(rows, task)):
                vectors_ND[group] = found
                done += len(group)
                on_step(f"reference, row {done} of {len(rows)}")
            del model, run
        return vectors_ND

    def _vectors(self, model: Any, ids_NS: torch.Tensor) -> Vectors:
        output = model(input_ids=ids_NS, attention_mask=torch.ones_like(ids_NS))
        states_NSH = output.last_hidden_state.double().numpy()
        pooled_NH = states_NSH.mean(axis=1) if self._spec.pooling == "mean" else states_NSH[:, -1]
        vectors_ND = pooled_NH if self._head_DH is None else pooled_NH @ self._head_DH.T
        unit_ND: Vectors = vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)
        return unit_ND if self._words is None else self._words.beside(unit_ND, ids_NS.tolist())

    def _model(self, task: str | None) -> Any:
        folder, adapters = self._checkpoint.folder, self._checkpoint.adapters_folder
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        if self._spec.architecture == "qwen2":
            config.is_causal = self._spec.attention == "causal"
        # An adapter beside the base would be loaded with it, and then once more below.
        with quiet_transformers(), base_alone(self._checkpoint) as base:
            model: Any = AutoModel.from_pretrained(
                base, config=config, dtype=torch.float32, attn_implementation="sdpa", local_files_only=True
            )
            if self._trained:
                self._add_deltas(model, 0 if task is None else self._spec.tasks.index(task))
            elif adapters is not None:
                from peft import PeftModel

                peft_folder = adapters / task_folder(task) if task else adapters
                model = PeftModel.from_pretrained(model, str(peft_folder)).merge_and_unload()
        return model.eval()

    def _add_deltas(self, model: Any, task: int) -> None:
        scale = self._spec.lora.scale if self._spec.lora else 1.0
        for path in [name[len("lora.") : -len(".A")] for name in self._trained if name.endswith(".A")]:
            a_RI, b_OR = self._trained[f"lora.{path}.A"][task], self._trained[f"lora.{path}.B"][task]
            delta_OI = torch.from_numpy(scale * (b_OR @ a_RI))
            layer = model.get_submodule(path)
            with torch.no_grad():
                layer.weight += delta_OI.T if isinstance(layer, torch.nn.Embedding) else delta_OI


class _Words:
    """The words part, counted token by token; its directions are drawn where the exporter draws them."""

    def __init__(self, spec: EncoderSpec, weight_V: NDArray[np.float32], head_DH: NDArray[np.float32]) -> None:
        assert spec.words is not None  # noqa: S101
        self._share = spec.words.share
        self._weight_V = weight_V
        self._directions = directions(spec.words, len(weight_V), head_DH)

    def beside(self, vectors_ND: Vectors, rows: Sequence[Sequence[int]]) -> Vectors:
        """Unit vectors (N, D) of meaning and words."""
        joined = []
        for vector_D, ids in zip(vectors_ND, rows, strict=True):
            sum_K = np.zeros(self._directions.basis_DK.shape[1])
            for token, count in Counter(ids).items():
                harmonic = sum(1 / number for number in range(1, count + 1))
                sum_K += harmonic * float(self._weight_V[token]) * self._signs(token)
            length = np.linalg.norm(sum_K)
            words_D = self._directions.basis_DK.astype(np.float64) @ (sum_K / length if length > 0 else sum_K)
            both_D = np.sqrt(1 - self._share) * vector_D + np.sqrt(self._share) * words_D
            joined.append(both_D / np.linalg.norm(both_D))
        return np.array(joined)

    def _signs(self, token: int) -> NDArray[np.float32]:
        high, low = divmod(token, len(self._directions.high_MK))
        signs_K: NDArray[np.float32] = self._directions.high_MK[high] * self._directions.low_MK[low]
        return signs_K


def same_length(rows: Sequence[Row], task: int) -> list[list[int]]:
    """Indices of a task's rows, those of the same length together as far as memory allows."""
    by_length: dict[int, list[int]] = {}
    for index, row in enumerate(rows):
        if row.task == task:
            by_length.setdefault(len(row.ids), []).append(index)
    groups = []
    for length, indices in sorted(by_length.items()):
        size = max(1, _GROUP_TOKENS // length)
        groups += [indices[start : start + size] for start in range(0, len(indices), size)]
    return groups


def built_vectors(
    spec: EncoderSpec,
    checkpoint: Checkpoint,
    options: BuildOptions,
    rows: Sequence[Row],
    on_step: OnStep = lambda step: None,
) -> Vectors:
    """Unit vectors (N, D) of rows by the torch module that was exported, in fp32: the reference of a pruned encoder.

    No class of transformers has the pruned weights; that this module is right unpruned is what `Reference` proves.
    """
    encoder, _ = build_encoder(spec, checkpoint, options)
    # A module that chooses adapters holds the choice of the running batch: its batches cannot run side by side.
    workers = None if encoder.selection is None else 1
    vectors_ND = np.empty((len(rows), spec.dimension))
    done = 0
    for task in sorted({row.task for row in rows}):

        def run(ids_NS: torch.Tensor, task: int = task) -> Vectors:
            tasks = () if encoder.selection is None else (torch.full((len(ids_NS), 1), task),)
            found: Vectors = encoder(ids_NS, torch.ones_like(ids_NS), *tasks).double().numpy()
            return found

        for group, found in run_groups(run, rows, same_length(rows, task), workers):
            vectors_ND[group] = found
            done += len(group)
            on_step(f"pruned reference, row {done} of {len(rows)}")
    return vectors_ND


def run_groups(
    run: Callable[[torch.Tensor], Vectors],
    rows: Sequence[Row],
    groups: Sequence[Sequence[int]],
    workers: int | None = None,
) -> Iterator[tuple[Sequence[int], Vectors]]:
    """Vectors of every group of rows, one thread a group and as many at a time as there are cores.

    Threads inside one product wait for each other at every layer; where other work takes a core they mostly wait. On
    two cores shared with other work this reference took 13 s on one thread and 110 s on torch's own two.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def one(group: Sequence[int]) -> Vectors:
        with torch.inference_mode():
            return run(torch.tensor([rows[index].ids for index in group]))

    try:
        with ThreadPoolExecutor(workers or threads) as pool:
            yield from zip(groups, pool.map(one, groups), strict=True)
    finally:
        torch.set_num_threads(threads)
