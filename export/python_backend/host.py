"""Runs one encoder's ONNX file over rows of mixed length: micro-batches sorted by length.

Copied beside `model.py` into the version folder, so it imports nothing of duovec but what is copied with it. The gate
of the export runs this same code: what was proven is what serves.

Shapes: B rows, S tokens of the longest row, D dimension.
"""

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .compiled import CompiledGraph, graph_folder

Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]

# Not "embedding", which collides with an internal value name of torch's exporter.
OUTPUT = "sentence_embedding"
DIGEST = "row_digest"
# What OpenVINO is told, and how it names that in its answer. The weights of an int8 graph are int8 in the file already.
OPENVINO_HINTS = {
    "fp32": ("f32", "float32"),
    "bf16": ("bf16", "bfloat16"),
    "int8": ("f32", "float32"),
    "int8-bf16": ("bf16", "bfloat16"),
}
ONNXRUNTIME_PRECISIONS = ("fp32", "fp16", "int8")
# The exporter's smoke test and the gateway ask for as much.
CANARY_COSINE = 0.9999


class HostError(Exception):
    """The encoder cannot be loaded, or a request cannot be run; the message says why."""


class Session(Protocol):
    """A compiled graph."""

    def run(self, feeds: Mapping[str, Ids]) -> Vectors:
        """Vectors (B, D) of padded inputs (B, S)."""


class OpenVinoSession:
    """The graph compiled by OpenVINO for one stream: concurrency comes from micro-batches, not from streams."""

    def __init__(self, path: Path, precision: str, num_threads: int, cache_dir: Path | None = None) -> None:
        """Compile a graph, or take it up compiled.

        Args:
            path: The ONNX file.
            precision: A key of `OPENVINO_HINTS`.
            num_threads: Threads of one inference.
            cache_dir: Where OpenVINO looks for the compiled graph and else keeps it; None for nowhere.

        Raises:
            HostError: The precision cannot be had here.
        """
        import openvino

        if precision not in OPENVINO_HINTS:
            raise HostError(f"openvino runs {', '.join(OPENVINO_HINTS)}, not {precision!r}")
        hint, hint_name = OPENVINO_HINTS[precision]
        properties = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": num_threads,
            "INFERENCE_PRECISION_HINT": hint,
            # Every process would take the first cores: two encoders of one thread each shared one, the other idle.
            "ENABLE_CPU_PINNING": False,
        }
        core = openvino.Core()
        try:
            cached = {} if cache_dir is None else {"CACHE_DIR": str(cache_dir)}
            compiled = core.compile_model(path, "CPU", {**properties, **cached})
        except RuntimeError:  # openvino has no narrower one
            # A full disk must not keep a version from loading.
            if cache_dir is None:
                raise
            compiled = core.compile_model(path, "CPU", properties)
        self.was_kept = bool(compiled.get_property("LOADED_FROM_CACHE"))
        # OpenVINO takes a bf16 hint on any CPU and falls back in silence; vectors would leave their space.
        effective = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if effective not in (hint, hint_name):
            raise HostError(
                f"this CPU runs {effective}, not the published {precision}; publish the encoder again on this machine"
            )
        self._request = compiled.create_infer_request()

    def run(self, feeds: Mapping[str, Ids]) -> Vectors:
        """See `Session.run`."""
        # A copy, because the request reuses its output buffer.
        return np.array(self._request.infer(dict(feeds))[OUTPUT], dtype=np.float32)


class OnnxRuntimeSession:
    """The graph in onnxruntime, in the number format that it was exported in."""

    def __init__(self, path: Path, precision: str, num_threads: int) -> None:
        import onnxruntime

        if precision not in ONNXRUNTIME_PRECISIONS:
            raise HostError(f"onnxruntime runs {', '.join(ONNXRUNTIME_PRECISIONS)} on CPU, not {precision!r}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        # The arena keeps a block for every shape it ever saw, and rows come in every length.
        options.enable_cpu_mem_arena = False
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(self, feeds: Mapping[str, Ids]) -> Vectors:
        """See `Session.run`."""
        return np.asarray(self._session.run([OUTPUT], dict(feeds))[0], dtype=np.float32)


def open_session(runtime: str, path: Path, precision: str, num_threads: int, cache_dir: Path | None = None) -> Session:
    """Compile an ONNX file.

    Args:
        runtime: `openvino` or `onnxruntime`.
        path: The ONNX file; external data lies beside it.
        precision: `fp32`, `fp16`, `bf16`, `int8` or `int8-bf16`; not every runtime runs every one.
        num_threads: Threads of one inference.
        cache_dir: Where OpenVINO looks for the compiled graph and else keeps it; None for nowhere.

    Raises:
        HostError: The runtime is unknown, or the machine cannot run that precision.
    """
    if runtime == "openvino":
        return OpenVinoSession(path, precision, num_threads, cache_dir)
    if runtime == "onnxruntime":
        return OnnxRuntimeSession(path, precision, num_threads)
    raise HostError(f"unknown runtime {runtime!r}; known: openvino, onnxruntime")


WIDTH_STEP, SHORT_WIDTH_STEP, SHORT_WIDTH = 16, 8, 32


def padded_width(length: int) -> int:
    """Tokens that a micro-batch is padded to whose longest row has `length`.

    OpenVINO makes kernels for every shape that it has not seen yet, in 4 to 10 ms where the run itself took 3 (one
    short row) to 40 (512 tokens): so there are few widths. Of short rows 16 tokens would be mostly padding: 256 of 8
    tokens took both encoders 4.0 ms of CPU each, padded to 8 they take 2.1; real code took the same.
    """
    step = SHORT_WIDTH_STEP if length <= SHORT_WIDTH else WIDTH_STEP
    return -(-length // step) * step


def group_by_length(lengths_B: Ids, token_budget: int) -> list[NDArray[np.intp]]:
    """Split rows into micro-batches of similar length.

    Args:
        lengths_B: Tokens of each row, (B,).
        token_budget: Most padded tokens (rows times longest) of a group; a longer row makes a group alone.

    Returns:
        Row indices of each group; together they hold every row once, shortest first.
    """
    order_B = np.argsort(lengths_B, kind="stable")
    sorted_B = lengths_B[order_B].tolist()
    groups = []
    start = 0
    for end, length in enumerate(sorted_B):
        if end > start and (end - start + 1) * length > token_budget:
            groups.append(order_B[start:end])
            start = end
    if sorted_B:
        groups.append(order_B[start:])
    return groups


@dataclass(frozen=True)
class Rows:
    """Token rows of one request, right-padded: ids (B, S), lengths (B,), task ids (B,) or None."""

    ids: Ids
    lengths: Ids
    tasks: Ids | None


@dataclass(frozen=True)
class Limits:
    """What a row may hold; an id beyond a table would be read as zeros by some runtimes, in silence."""

    max_tokens: int
    vocab_size: int
    task_count: int


def check_rows(ids_BS: Ids, mask_BS: Ids, task_B1: Ids | None, limits: Limits) -> Rows:
    """Validate one request's tensors and undo its padding.

    Raises:
        HostError: A dtype, shape, mask, token id or task id is not what the encoder takes.
    """
    if ids_BS.dtype != np.int64 or mask_BS.dtype != np.int64:
        raise HostError(f"input_ids and attention_mask must be int64, not {ids_BS.dtype} and {mask_BS.dtype}")
    if ids_BS.ndim != 2 or ids_BS.shape != mask_BS.shape:
        raise HostError(f"input_ids {ids_BS.shape} and attention_mask {mask_BS.shape} must be the same (rows, tokens)")
    lengths_B = mask_BS.sum(axis=1)
    if not np.array_equal(mask_BS, np.arange(mask_BS.shape[1]) < lengths_B[:, None]):
        raise HostError("attention_mask must be ones, then zeros: rows are padded on the right")
    if lengths_B.size == 0 or lengths_B.min() < 1:
        raise HostError("every row needs at least one token")
    if lengths_B.max() > limits.max_tokens:
        raise HostError(f"a row has {lengths_B.max()} tokens, the limit is {limits.max_tokens}")
    if ids_BS.min() < 0 or ids_BS.max() >= limits.vocab_size:
        raise HostError(f"token ids must lie in 0 to {limits.vocab_size - 1}")
    if limits.task_count == 0:
        return Rows(ids_BS, lengths_B, None)
    if task_B1 is None or task_B1.dtype != np.int64 or task_B1.shape != (ids_BS.shape[0], 1):
        raise HostError("task_id must be int64 of shape (rows, 1)")
    if task_B1.min() < 0 or task_B1.max() >= limits.task_count:
        raise HostError(f"task_id must lie in 0 to {limits.task_count - 1}")
    return Rows(ids_BS, lengths_B, task_B1[:, 0])


def row_digests(rows: Rows) -> Ids:
    """What says of which rows an answer is: Triton was seen to answer a request with the vectors of another.

    Returns:
        digest_B1 (B, 1) int64: CRC-32 of the bytes of each row's ids without padding, begun with its task id, or 0.
    """
    tasks_B = np.zeros(len(rows.lengths), np.int64) if rows.tasks is None else rows.tasks
    digests = [
        zlib.crc32(ids_S[:length].tobytes(), int(task))
        for ids_S, length, task in zip(rows.ids, rows.lengths, tasks_B, strict=True)
    ]
    return np.array(digests, dtype=np.int64)[:, None]


class EncoderHost:
    """One loaded version of an encoder."""

    def __init__(self, session: Session, limits: Limits, dimension: int, token_budget: int) -> None:
        self.limits = limits
        self._session = session
        self._dimension = dimension
        self._token_budget = token_budget

    def embed(self, requests: Sequence[Rows]) -> list[Vectors]:
        """Run the rows of several requests together.

        Returns:
            vectors_BD (B, D), float32, for each request, in order.

        Raises:
            HostError: The graph gave another shape than (B, D).
        """
        lengths_B = np.concatenate([rows.lengths for rows in requests])
        width = self._padded(int(lengths_B.max()))
        ids_BS = np.zeros((len(lengths_B), width), dtype=np.int64)
        start = 0
        for rows in requests:
            used = min(width, rows.ids.shape[1])
            ids_BS[start : start + len(rows.lengths), :used] = rows.ids[:, :used]
            start += len(rows.lengths)
        tasks = [rows.tasks for rows in requests if rows.tasks is not None]
        task_B = np.concatenate(tasks) if tasks else None
        vectors_BD = np.empty((len(lengths_B), self._dimension), dtype=np.float32)
        for group in group_by_length(lengths_B, self._token_budget):
            longest = self._padded(int(lengths_B[group[-1]]))
            mask = (np.arange(longest) < lengths_B[group, None]).astype(np.int64)
            # Padding positions may hold any id; zero is in every vocabulary, and the mask hides it.
            feeds = {"input_ids": ids_BS[group, :longest] * mask, "attention_mask": mask}
            if task_B is not None:
                feeds["task_id"] = task_B[group, None]
            output = self._session.run(feeds)
            if output.shape != (len(group), self._dimension):
                raise HostError(f"the graph gave {output.shape} instead of {(len(group), self._dimension)}")
            vectors_BD[group] = output
        return np.split(vectors_BD, np.cumsum([len(rows.lengths) for rows in requests])[:-1])

    def _padded(self, length: int) -> int:
        """Tokens that rows are padded to whose longest has `length`."""
        return min(padded_width(length), self.limits.max_tokens)

    def warm_up(self, length: int) -> None:
        """Run one row of padding tokens, so that the runtime has allocated for it before the first request.

        Raises:
            HostError: The graph gives another shape, or values that are not finite.
        """
        ids = np.zeros((1, length), dtype=np.int64)  # 0 is in every vocabulary
        task = np.zeros((1, 1), dtype=np.int64) if self.limits.task_count else None
        vectors = self.embed([check_rows(ids, np.ones_like(ids), task, self.limits)])[0]
        if not np.isfinite(vectors).all():
            raise HostError(f"the graph gives values that are not finite for a row of {length} tokens")


def open_host(
    version_folder: Path,
    *,
    num_threads: int,
    token_budget: int,
    warmup_lengths: Sequence[int] = (1,),
    keep_compiled: Path | None = None,
) -> EncoderHost:
    """Load a published version, verify it, and run one row of each of some lengths through it.

    Runtime and precision are those that the version's own manifest was proven for: versions that differ in them are
    served side by side under one config.pbtxt. A graph that was kept compiled must give the vector of the version's
    canary; else it is removed, and the graph compiled anew.

    Args:
        version_folder: Folder with manifest.json and model.onnx.
        num_threads: Threads of one inference.
        token_budget: Most padded tokens of a micro-batch.
        warmup_lengths: Tokens of the rows to run; those longer than the encoder takes are passed over.
        keep_compiled: Folder to keep this version's compiled graph in, where the runtime can and the version has a
            canary; None to compile at every start.

    Raises:
        HostError: A file is not the published one, the precision cannot be had, or a row fails.
    """
    try:
        manifest: dict[str, Any] = json.loads((version_folder / "manifest.json").read_text(encoding="utf-8"))
        # With external data there are two.
        graph = {name: digest for name, digest in manifest["files"].items() if name.startswith("model.onnx")}
        spec = manifest["spec"]
        limits = Limits(spec["max_tokens"], spec["vocab_size"], len(spec["tasks"]))
        runtime, precision, dimension = manifest["runtime"], manifest["precision"], manifest["dimension"]
    except (OSError, ValueError, KeyError) as exc:
        raise HostError(f"cannot read the version {version_folder}: {exc!r}; publish the encoder again") from exc
    model, canary = version_folder / "model.onnx", version_folder / "canary.json"
    kept: CompiledGraph | None = None
    if keep_compiled is not None and runtime == "openvino" and canary.is_file():
        kept = graph_folder(keep_compiled, graph, precision)

    def host_of(session: Session) -> EncoderHost:
        return EncoderHost(session, limits, dimension, token_budget)

    host: EncoderHost | None = None
    if kept is not None and kept.is_whole():
        session = OpenVinoSession(model, precision, num_threads, kept.folder)
        host = host_of(session)
        if not session.was_kept or not gives_canary(host, canary):
            kept.drop()
            host = None
    if host is None:
        for name, published in graph.items():
            _verify(version_folder / name, published)
        with nullcontext() if kept is None else kept.staged() as cache_dir:
            host = host_of(open_session(runtime, model, precision, num_threads, cache_dir))
    for length in warmup_lengths:
        if length <= limits.max_tokens:
            host.warm_up(length)
    return host


def gives_canary(host: EncoderHost, path: Path) -> bool:
    """Whether a host gives the vector in canary.json, as the gate saw it.

    Raises:
        HostError: The file is no canary.
    """
    try:
        canary = json.loads(path.read_text(encoding="utf-8"))
        ids = np.array([canary["input_ids"]], dtype=np.int64)
        task = None if canary["task_id"] is None else np.array([[canary["task_id"]]], dtype=np.int64)
        expected_D = np.array(canary["vector"], dtype=np.float64)
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise HostError(f"cannot read {path}: {exc!r}; publish the encoder again") from exc
    try:
        found_D = host.embed([check_rows(ids, np.ones_like(ids), task, host.limits)])[0][0].astype(np.float64)
    except (HostError, RuntimeError):  # a graph of another shape
        return False
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = float(found_D @ expected_D / (np.linalg.norm(found_D) * np.linalg.norm(expected_D)))
    return cosine >= CANARY_COSINE  # NaN is not


def _verify(path: Path, published: str) -> None:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != published:
        raise HostError(f"{path} is not the published file; publish the encoder again")
