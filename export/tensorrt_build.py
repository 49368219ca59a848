"""A TensorRT engine from a typed ONNX graph: one optimization profile a length bucket.

Names of the API are those of TensorRT 11.4 (its Python bindings); 10 has them too.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.deployment import Deployment
from export.disk import replace_text, writing
from export.errors import ExportError
from export.gpu import find_gpu, import_tensorrt
from export.profiles import profiles_of
from export.tensorrt_engine import ENGINE_FILE, RECORD_FILE, EngineRecord

OnStep = Callable[[str], None]


@dataclass(frozen=True)
class EngineOptions:
    """How to build.

    Attributes:
        workspace_bytes: Most GPU memory that one layer may take for its intermediate results.
        version_compatible: Whether later versions of TensorRT with the same major number may run the engine. Triton
            needs `--backend-config=tensorrt,version-compatible=true` then; the engine may be slower.
        timing_cache: File of measured kernels, read and written: a second build takes a fraction of the time.
    """

    workspace_bytes: int = 8 << 30
    version_compatible: bool = False
    timing_cache: Path | None = None


def build_engine(
    folder: Path,
    deployment: Deployment,
    options: EngineOptions | None = None,
    *,
    on_step: OnStep = lambda step: None,
) -> EngineRecord:
    """Build `model.plan` from the `model.onnx` in a folder, on this machine's GPU.

    The types of the graph are taken as they are: norms, softmax and pooling stay in the precision that it states.

    Args:
        folder: A candidate's; `model.plan` and `model.plan.json` appear in it.
        deployment: Its buckets and batch limit make the profiles.
        options: How to build.
        on_step: Told about each phase of the build.

    Raises:
        ExportError: TensorRT or a GPU is missing, TensorRT cannot take the graph, or the disk refuses.
    """
    options = options or EngineOptions()
    gpu = find_gpu()
    trt = import_tensorrt()
    log = _log(trt)
    builder = trt.Builder(log)
    # TensorRT 11 knows only this mode and ignores the flag; 10 would choose types of its own without it.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(folder / "model.onnx")):
        errors = [str(parser.get_error(index)) for index in range(parser.num_errors)]
        raise ExportError(f"TensorRT {trt.__version__} cannot take {folder / 'model.onnx'}: {_line(errors)}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    cache = config.create_timing_cache(_read_cache(options.timing_cache))
    config.set_timing_cache(cache, ignore_mismatch=False)
    _add_profiles(builder, config, deployment)
    config.progress_monitor = _monitor(trt, on_step)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ExportError(f"TensorRT {trt.__version__} built no engine of {folder / 'model.onnx'}: {_line(log.errors)}")
    record = EngineRecord(
        ".".join(trt.__version__.split(".")[:3]), gpu.name, gpu.compute_capability, options.version_compatible
    )
    with writing(folder):
        (folder / ENGINE_FILE).write_bytes(memoryview(plan))
        replace_text(folder / RECORD_FILE, json.dumps(record.as_manifest()) + "\n")
    if options.timing_cache is not None:
        with writing(options.timing_cache):
            options.timing_cache.parent.mkdir(parents=True, exist_ok=True)
            options.timing_cache.write_bytes(memoryview(config.get_timing_cache().serialize()))
    return record


def _add_profiles(builder: Any, config: Any, deployment: Deployment) -> None:
    for profile in profiles_of(deployment):
        one = builder.create_optimization_profile()
        for name, bounds in profile.items():
            one.set_shape(name, bounds.least, bounds.optimal, bounds.most)
        config.add_optimization_profile(one)


def _read_cache(path: Path | None) -> bytes:
    return path.read_bytes() if path is not None and path.is_file() else b""


def _line(errors: list[str]) -> str:
    return " ".join("; ".join(errors).split()) or "it gives no reason"


def _log(trt: Any) -> Any:
    """A logger that keeps what went wrong, for the one line of the error."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                self.errors.append(message)

    return Log()


def _monitor(trt: Any, on_step: OnStep) -> Any:
    """Tells the outermost phases of a build; TensorRT calls it from several threads."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._step_counts: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                self._step_counts[phase_name] = num_steps
                on_step(f"{phase_name}: {num_steps} steps")

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self._step_counts:
                on_step(f"{phase_name}: {step + 1} of {self._step_counts[phase_name]}")
            return True

        def phase_finish(self, phase_name: str) -> None:
            self._step_counts.pop(phase_name, None)

    return Monitor()
