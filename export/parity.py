"""Proof that what will serve agrees with sentence-transformers on the same checkpoint, over real code.

The reference is independent: sentence-transformers tokenizes, runs and pools; the adapters are merged into its weights
task by task, and the head is applied in float64 numpy.

Shapes: B rows, S tokens, D dimension.
"""

import ast
import functools
import importlib
import importlib.metadata
import inspect
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from export.adapters import Adapters
from export.checkpoint import Checkpoint
from export.encoder import quiet_transformers
from export.errors import ExportError
from export.python_backend.host import Session, open_session
from export.spec import EncoderSpec
from export.triton_config import Serving

Vectors = NDArray[np.float32]

SHAPES = ((1, 2), (1, 24), (1, 512), (4, 17), (4, 128), (4, 512), (32, 8), (32, 64), (32, 160))
MODULES = ("argparse", "ast", "calendar", "difflib", "inspect", "json.decoder", "shutil", "statistics", "textwrap")
NEIGHBOURS = 63


@dataclass(frozen=True)
class Tolerance:
    """How far vectors may lie apart: least cosine to the reference, most cosine distance between batches."""

    min_cosine: float
    max_batch_distance: float = 1e-4


TOLERANCES = {"f32": Tolerance(0.99999), "bf16": Tolerance(0.999)}


@dataclass(frozen=True)
class ShapeResult:
    """Agreement at one shape."""

    batch: int
    length: int
    max_abs_difference: float
    min_cosine: float


@functools.cache
def real_functions() -> tuple[str, ...]:
    """Source of the functions in a few standard library modules, as they stand in their files."""
    texts: list[str] = []
    for name in MODULES:
        source = inspect.getsource(importlib.import_module(name))
        functions = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef))
        texts.extend(ast.get_source_segment(source, node) or "" for node in functions)
    return tuple(texts)


class Reference:
    """sentence-transformers on the checkpoint, one model a task with that task's adapters merged."""

    def __init__(self, spec: EncoderSpec, checkpoint: Checkpoint, adapters: Adapters) -> None:
        self._head_DH = adapters.head.astype(np.float64)
        self._models = [
            _merged_model(checkpoint.folder, adapters, task, spec.lora.scale) for task in range(spec.adapter_count)
        ]

    def encode(self, texts: Sequence[str], tasks_B: NDArray[np.int64], max_tokens: int) -> NDArray[np.float64]:
        """Unit vectors (B, D) of texts, cut to `max_tokens` by sentence-transformers itself."""
        base_BH = np.empty((len(texts), self._head_DH.shape[1]))
        for task, model in enumerate(self._models):
            rows = np.flatnonzero(tasks_B == task)
            if len(rows):
                model.max_seq_length = max_tokens
                base_BH[rows] = model.encode([texts[row] for row in rows], show_progress_bar=False)
        vectors_BD = base_BH @ self._head_DH.T
        unit_BD: NDArray[np.float64] = vectors_BD / np.linalg.norm(vectors_BD, axis=1, keepdims=True)
        return unit_BD


def _merged_model(folder: Path, adapters: Adapters, task: int, scale: float) -> SentenceTransformer:
    with quiet_transformers():
        model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    transformer: Any = model[0].auto_model
    with torch.no_grad():
        for path, adapter in adapters.layers.items():
            transformer.get_submodule(path).weight += torch.from_numpy(adapter.delta(task, scale))
    return model


def check_parity(
    spec: EncoderSpec,
    checkpoint: Checkpoint,
    adapters: Adapters,
    model_path: Path,
    tokenizer_path: Path,
    serving: Serving,
    on_step: Callable[[str], None] = lambda step: None,
) -> dict[str, Any]:
    """Compare the ONNX file with sentence-transformers, in onnxruntime f32 and as it will be served.

    Args:
        spec: The encoder.
        checkpoint: Its verified base.
        adapters: Head and adapters that the ONNX file carries.
        model_path: The ONNX file.
        tokenizer_path: The tokenizer.json that is published with it.
        serving: Runtime and precision to prove, besides onnxruntime f32.
        on_step: Told about each stage.

    Returns:
        The report for manifest.json.

    Raises:
        ExportError: A shape is out of tolerance, or a vector depends on its batch mates.
    """
    on_step("sentence-transformers reference")
    cases = _cases(spec, Reference(spec, checkpoint, adapters), Tokenizer.from_file(str(tokenizer_path)))
    report: dict[str, Any] = {
        "reference": f"sentence-transformers {importlib.metadata.version('sentence-transformers')}",
        "texts": f"{len(real_functions())} functions of the Python standard library",
        "runtimes": [],
    }
    combinations = [Serving("onnxruntime", "f32", serving.num_threads)]
    if (serving.runtime, serving.precision) != ("onnxruntime", "f32"):
        combinations.append(serving)
    for combination in combinations:
        on_step(f"{combination.runtime} {combination.precision}")
        session = open_session(combination.runtime, model_path, combination.precision, combination.num_threads)
        report["runtimes"].append(_check_session(spec, session, combination, cases))
    return report


@dataclass(frozen=True)
class _Case:
    feeds: dict[str, NDArray[np.int64]]
    expected: NDArray[np.float64]


def _feeds(
    spec: EncoderSpec, tokenizer: Tokenizer, texts: Sequence[str], length: int, tasks_B: NDArray[np.int64]
) -> dict[str, NDArray[np.int64]]:
    """Tokens of the texts, cut and right-padded to exactly `length`."""
    tokenizer.enable_truncation(length)
    encoded = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
    ids_BS = np.zeros((len(texts), length), dtype=np.int64)
    mask_BS = np.zeros_like(ids_BS)
    for row, ids in enumerate(encoded):
        ids_BS[row, : len(ids)] = ids
        mask_BS[row, : len(ids)] = 1
    feeds = {"input_ids": ids_BS, "attention_mask": mask_BS}
    if spec.tasks:
        feeds["task_id"] = tasks_B[:, None]
    return feeds


def _cases(spec: EncoderSpec, reference: Reference, tokenizer: Tokenizer) -> list[_Case]:
    by_length = sorted(real_functions(), key=len, reverse=True)
    cases = []
    for batch, length in SHAPES:
        # The longest function fills the row, the rest are of every length: real right padding.
        texts = [by_length[row * (len(by_length) - 1) // max(1, batch - 1)] for row in range(batch)]
        tasks_B = np.arange(batch, dtype=np.int64) % spec.adapter_count
        feeds = _feeds(spec, tokenizer, texts, length, tasks_B)
        cases.append(_Case(feeds, reference.encode(texts, tasks_B, length)))
    tasks_B = np.arange(NEIGHBOURS + 1, dtype=np.int64) % spec.adapter_count
    neighbours = _feeds(spec, tokenizer, real_functions()[: NEIGHBOURS + 1], 128, tasks_B)
    # The last case has no reference: it is compared with itself, alone and among its neighbours.
    return [*cases, _Case(neighbours, np.empty((0, spec.dimension)))]


def _check_session(spec: EncoderSpec, session: Session, serving: Serving, cases: list[_Case]) -> dict[str, Any]:
    where = f"{spec.name} in {serving.runtime} {serving.precision}"
    tolerance = TOLERANCES[serving.precision]
    results = []
    for (batch, length), case in zip(SHAPES, cases, strict=False):
        vectors_BD = session.run(case.feeds).astype(np.float64)
        if vectors_BD.shape != case.expected.shape:
            raise ExportError(f"{where} gives {vectors_BD.shape} at batch {batch}, length {length}; nothing published")
        cosine = float(np.sum(vectors_BD * case.expected, axis=1).min())
        difference = float(np.abs(vectors_BD - case.expected).max())
        # Written so that NaN fails too.
        if not cosine >= tolerance.min_cosine:
            raise ExportError(
                f"{where} differs from sentence-transformers at batch {batch}, length {length}: "
                f"cosine {cosine:.6f} under {tolerance.min_cosine}; nothing published"
            )
        results.append(ShapeResult(batch, length, difference, cosine))
    distance = _batch_distance(session, cases[-1].feeds)
    if not distance <= tolerance.max_batch_distance:
        raise ExportError(
            f"{where}: a vector moves by {distance:.2e} cosine distance among {NEIGHBOURS} other rows, "
            f"the limit is {tolerance.max_batch_distance:.0e}; nothing published"
        )
    return {
        "runtime": serving.runtime,
        "precision": serving.precision,
        "tolerance": asdict(tolerance),
        "min_cosine": min(result.min_cosine for result in results),
        "max_abs_difference": max(result.max_abs_difference for result in results),
        "max_batch_distance": distance,
        "shapes": [asdict(result) for result in results],
    }


def _batch_distance(session: Session, feeds: dict[str, NDArray[np.int64]]) -> float:
    """Largest cosine distance between a row padded among its neighbours and the same row alone, unpadded."""
    together_BD = session.run(feeds).astype(np.float64)
    distance = 0.0
    for row, length in enumerate(feeds["attention_mask"].sum(axis=1)):
        alone = {name: tensor[row : row + 1, : length if name != "task_id" else None] for name, tensor in feeds.items()}
        vector_D = session.run(alone).astype(np.float64)[0]
        cosine = vector_D @ together_BD[row] / (np.linalg.norm(vector_D) * np.linalg.norm(together_BD[row]))
        distance = max(distance, 1.0 - float(cosine))
    return distance
