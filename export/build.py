"""From checkpoint to candidate: built, exported, written with its manifest; neither proven nor published yet."""

import gc
import hashlib
import importlib.metadata
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.deployment import plan_deployment
from export.disk import writing
from export.errors import ExportError
from export.repository import EncoderFolder
from export.serving import OPSETS, Precision, Runtime, Serving
from export.source import Checkpoint, sha256_of, write_tokenizer
from export.spec import EncoderSpec
from export.version import MANIFEST_SCHEMA, Version, damaged_files, write_manifest

if TYPE_CHECKING:
    from export.encoder import BuildOptions

HOST_FILES = ("model.py", "host.py", "compiled.py")
"""Of `export.python_backend`: what a version folder carries to serve itself on Triton's Python backend."""
_TOOLS = ("torch", "transformers", "onnx", "onnxruntime", "openvino", "nncf")
OnStep = Callable[[str], None]


@dataclass(frozen=True)
class BuildRequest:
    """What is asked for.

    Attributes:
        spec: The encoder as its file states it.
        serving: How it will run.
        opset: Opset of the graph.
        merge_task: Task whose adapter is merged; None to choose adapters row by row.
        drop_layers: Layers to prune.
        ffn_width: Neurons to keep in every feed-forward layer; None for all.
        version_compatible: Whether a TensorRT engine must run on later versions of TensorRT too.
    """

    spec: EncoderSpec
    serving: Serving
    opset: int
    merge_task: str | None = None
    drop_layers: int = 0
    ffn_width: int | None = None
    version_compatible: bool = False

    def __post_init__(self) -> None:
        opsets = OPSETS[self.serving.runtime.backend]
        if self.opset not in opsets:
            raise ExportError(
                f"{self.serving.runtime} takes opset {opsets[0]} to {opsets[-1]}, not {self.opset}; change --opset"
            )

    @property
    def options(self) -> "BuildOptions":
        """What the encoder is built with."""
        from export.encoder import BuildOptions

        return BuildOptions(self.merge_task, self.drop_layers, self.ffn_width)

    @property
    def digest(self) -> str:
        """SHA-256 of everything but the weights that decides the version, threads aside: they change no number."""
        wanted = {
            "spec": asdict(self.spec),
            "runtime": self.serving.runtime,
            "precision": self.serving.precision,
            "options": self.as_manifest(),
            "exporter": _exporter(),
        }
        return _digest_of(wanted)

    def as_manifest(self) -> dict[str, Any]:
        """The value of `options` in manifest.json."""
        return {
            "opset": self.opset,
            "merge_task": self.merge_task,
            "drop_layers": self.drop_layers,
            "ffn_width": self.ffn_width,
            "version_compatible": self.version_compatible,
        }


def matching_candidate(folder: EncoderFolder, request: BuildRequest, checkpoint: Checkpoint) -> Version | None:
    """The candidate of an earlier run, if it is whole and was built from exactly these inputs.

    Raises:
        ExportError: Its manifest cannot be read.
    """
    candidate = folder.candidate()
    if candidate is None or candidate.manifest.get("inputs") != _inputs(request, checkpoint):
        return None
    return None if damaged_files(candidate) else candidate


def answers(version: Version, request: BuildRequest, checkpoint: Checkpoint | None, *, any_threads: bool) -> bool:
    """Whether a published version is what a request asks for, and whole.

    Args:
        version: A published version.
        request: What is asked for.
        checkpoint: The weights; None for those that the spec names, which are not opened for this.
        any_threads: Whether the number of threads may differ.
    """
    inputs, serving = version.manifest.get("inputs") or {}, version.manifest.get("serving") or {}
    if checkpoint is None:
        same = inputs.get("request") == request.digest and not inputs.get("own_checkpoint")
    else:
        same = inputs == _inputs(request, checkpoint)
    same = same and (any_threads or serving.get("num_threads") == request.serving.num_threads)
    return same and not damaged_files(version)


def build(
    folder: EncoderFolder,
    request: BuildRequest,
    checkpoint: Checkpoint,
    *,
    timing_cache: Path | None = None,
    script: Path | None = None,
    on_step: OnStep = lambda step: None,
) -> Version:
    """Make the candidate, in place of the one before; the caller holds `folder.building`.

    Args:
        folder: Where.
        request: What to build.
        checkpoint: The weights.
        timing_cache: File of kernels that TensorRT measured, read and written.
        script: For TensorRT: write a script that builds the engine elsewhere, instead of building it here.
        on_step: Told about each stage.

    Raises:
        ExportError: Checkpoint, spec and options do not fit each other, or the disk refuses; the candidate before
            stays then.
    """
    is_engine = request.serving.runtime is Runtime.TENSORRT
    if is_engine and script is None:
        _require_tensorrt()
    with folder.staging() as staged, writing(staged):
        spec = _write_graph(request, checkpoint, staged, on_step)
        write_tokenizer(checkpoint, staged / "tokenizer.json")
        if request.serving.precision.is_quantized:
            _quantize(spec, staged, on_step)
        if request.serving.runtime.backend == "python":
            for name in HOST_FILES:
                shutil.copyfile(str(resources.files("export.python_backend") / name), staged / name)
        if is_engine:
            _write_engine(request, spec, staged, timing_cache, script, on_step)
        on_step("digest the files")
        write_manifest(staged, _manifest(request, spec, checkpoint, staged))
        on_step("keep the candidate")
        return folder.keep_candidate(staged)


def _write_graph(request: BuildRequest, checkpoint: Checkpoint, staged: Path, on_step: OnStep) -> EncoderSpec:
    """Write what the runtime loads; returns the spec of what was built."""
    on_step("load the libraries")
    from export.encoder import build_encoder, effective_spec
    from export.onnx_export import export_onnx
    from export.transformer import set_matmul_precision

    serving = request.serving
    spec = effective_spec(request.spec, request.options)
    on_step("build the encoder")
    encoder, adapters = build_encoder(request.spec, checkpoint, request.options)
    # OpenVINO lowers the precision of a float32 graph itself, and says whether it did.
    if serving.precision in (Precision.FP16, Precision.BF16) and serving.runtime is not Runtime.OPENVINO:
        set_matmul_precision(encoder.transformer, serving.precision)
    on_step("export to ONNX")
    export_onnx(encoder, spec, staged, opset=request.opset)
    del encoder, adapters
    gc.collect()
    return spec


def _quantize(spec: EncoderSpec, staged: Path, on_step: OnStep) -> None:
    from export.quantize import calibration_feeds, quantize_int8

    on_step("quantize to int8")
    quantize_int8(staged, calibration_feeds(spec, staged / "tokenizer.json"))


def _require_tensorrt() -> None:
    """Fail now rather than after a long export."""
    from export.gpu import find_gpu, import_tensorrt

    find_gpu()
    import_tensorrt()


def _write_engine(
    request: BuildRequest,
    spec: EncoderSpec,
    staged: Path,
    timing_cache: Path | None,
    script: Path | None,
    on_step: OnStep,
) -> None:
    from export.tensorrt_build import EngineOptions, build_engine
    from export.tensorrt_script import write_build_script

    deployment = plan_deployment(spec, request.serving)
    options = EngineOptions(version_compatible=request.version_compatible, timing_cache=timing_cache)
    if script is None:
        build_engine(staged, deployment, options, on_step=on_step)
    else:
        write_build_script(script, Path(".candidate"), deployment, request.serving.precision, options)


def _manifest(request: BuildRequest, spec: EncoderSpec, checkpoint: Checkpoint, staged: Path) -> dict[str, Any]:
    return {
        "version": 0,
        **stated(request, spec, checkpoint),
        "files": {path.name: sha256_of(path) for path in sorted(staged.iterdir())},
        "gate": None,
        "versions": {name: importlib.metadata.version(name) for name in _TOOLS},
        "exporter": _exporter(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def stated(request: BuildRequest, spec: EncoderSpec, checkpoint: Checkpoint) -> dict[str, Any]:
    """What the manifest says of a version before it is built; all that whoever serves it goes by, files aside.

    Args:
        request: What is built.
        spec: The spec of what is built, see `export.encoder.effective_spec`.
        checkpoint: The weights.
    """
    return {
        "schema": MANIFEST_SCHEMA,
        "encoder": spec.name,
        "role": spec.role,
        "dimension": spec.dimension,
        "runtime": request.serving.runtime,
        "precision": request.serving.precision,
        "serving": plan_deployment(spec, request.serving).as_manifest(),
        "spec": spec_manifest(spec, checkpoint.config["vocab_size"]),
        "source": dict(checkpoint.origin),
        "options": request.as_manifest(),
        "inputs": _inputs(request, checkpoint),
    }


def spec_manifest(spec: EncoderSpec, vocab_size: int) -> dict[str, Any]:
    """The part of the spec that whoever tokenizes and serves must follow."""
    return {
        "max_tokens": spec.max_tokens,
        "append_eos": spec.append_eos,
        "prompts": {"query": spec.query.prompt, "passage": spec.passage.prompt},
        "tasks": list(spec.tasks),
        "task_ids": dict(spec.task_ids),
        "pooling": spec.pooling,
        "normalize": True,
        "attention": spec.attention,
        "vocab_size": vocab_size,
        "license": asdict(spec.license),
    }


def _inputs(request: BuildRequest, checkpoint: Checkpoint) -> dict[str, Any]:
    """What decides the version: the request and the weights, each by its digest."""
    return {
        "request": request.digest,
        "spec": spec_digest(request.spec),
        "source": _digest_of(dict(checkpoint.origin)),
        "own_checkpoint": "folder" in checkpoint.origin or "adapters" in checkpoint.origin,
    }


def spec_digest(spec: EncoderSpec) -> str:
    """SHA-256 of an encoder's spec."""
    return _digest_of(asdict(spec))


def _digest_of(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _exporter() -> str:
    return f"duovec {importlib.metadata.version('duovec')}"
