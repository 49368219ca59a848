"""A TensorRT engine on disk and in memory: what built it, whether it runs here, and how.

An engine runs on the kind of GPU and the version of TensorRT that it was built for. `model.plan.json` beside
`model.plan` says which; the builder and the build script both write it, and it goes into the manifest.

Shapes: B rows, S tokens of the longest row, D dimension.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.errors import ExportError
from export.gpu import find_gpu, import_tensorrt
from export.python_backend.host import OUTPUT, Ids, Vectors

ENGINE_FILE = "model.plan"
RECORD_FILE = "model.plan.json"
_AGAIN = "build it again on this machine: duovec-export build --runtime tensorrt"


@dataclass(frozen=True)
class EngineRecord:
    """What an engine was built by and for.

    Attributes:
        tensorrt: Version of TensorRT, such as `11.4.0`.
        gpu: Name of the GPU.
        compute_capability: Of the GPU, such as `9.0`.
        version_compatible: Whether later versions of TensorRT with the same major number run it too.
    """

    tensorrt: str
    gpu: str
    compute_capability: str
    version_compatible: bool

    def as_manifest(self) -> dict[str, Any]:
        """The content of `model.plan.json`, and of `engine` in manifest.json."""
        return asdict(self)


def read_record(folder: Path) -> EngineRecord:
    """What the engine of a version folder was built by and for.

    Raises:
        ExportError: The engine or its record is missing or unreadable.
    """
    if not (folder / ENGINE_FILE).is_file():
        raise ExportError(f"{folder} has no {ENGINE_FILE} yet: run its build script on a GPU, or {_AGAIN}")
    path = folder / RECORD_FILE
    try:
        record = EngineRecord(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as exc:
        raise ExportError(f"{path} does not say what built the engine ({exc}); {_AGAIN}") from exc
    if not _numbers(record.tensorrt):
        raise ExportError(f"{path}: {record.tensorrt!r} is not a version of TensorRT; {_AGAIN}")
    return record


def check_engine(record: EngineRecord, path: Path, *, tensorrt_version: str, compute_capability: str) -> None:
    """Check that an engine runs under a version of TensorRT on a GPU.

    Args:
        record: Of the engine.
        path: Of the engine, for the error.
        tensorrt_version: What would run it, such as `11.4.0.106`.
        compute_capability: Of the GPU that would run it.

    Raises:
        ExportError: It does not.
    """
    built, running = _numbers(record.tensorrt), _numbers(tensorrt_version)
    fits = (
        built[0] == running[0] and built[:3] <= running[:3] if record.version_compatible else built[:3] == running[:3]
    )
    if not fits:
        raise ExportError(
            f"{path} was built by TensorRT {record.tensorrt}, this is {tensorrt_version}; {_AGAIN}, or serve it with "
            f"TensorRT {record.tensorrt}"
        )
    if record.compute_capability != compute_capability:
        raise ExportError(
            f"{path} was built for {record.gpu} (compute capability {record.compute_capability}), this GPU has "
            f"{compute_capability}; {_AGAIN}"
        )


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split(".")
    return tuple(map(int, parts)) if len(parts) >= 3 and all(part.isdecimal() for part in parts) else ()


class EngineSession:
    """An engine in one execution context, its tensors in torch's CUDA memory."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._context = engine.create_execution_context()
        self._profile = 0

    def run(self, feeds: Mapping[str, Ids]) -> Vectors:
        """Vectors (B, D) of inputs (B, S) that lie within one of the engine's profiles.

        Raises:
            ExportError: No profile takes the shape, or the GPU fails.
        """
        import torch

        stream = torch.cuda.current_stream()
        profile = profile_for(self._engine, {name: values.shape for name, values in feeds.items()})
        if profile != self._profile:
            self._context.set_optimization_profile_async(profile, stream.cuda_stream)
            self._profile = profile
        tensors = {name: torch.from_numpy(np.ascontiguousarray(values)).cuda() for name, values in feeds.items()}
        for name, tensor in tensors.items():
            self._context.set_input_shape(name, tuple(tensor.shape))
            self._context.set_tensor_address(name, tensor.data_ptr())
        output = torch.empty(tuple(self._context.get_tensor_shape(OUTPUT)), dtype=torch.float32, device="cuda")
        self._context.set_tensor_address(OUTPUT, output.data_ptr())
        if not self._context.execute_async_v3(stream.cuda_stream):
            raise ExportError(f"the TensorRT engine failed on shape {feeds['input_ids'].shape}")
        stream.synchronize()
        vectors: Vectors = output.cpu().numpy()
        return vectors


def profile_for(engine: Any, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Index of the profile that takes the shapes of a request's inputs.

    Raises:
        ExportError: There is none.
    """

    def takes(index: int, name: str) -> bool:
        least, _, most = engine.get_tensor_profile_shape(name, index)
        return all(low <= size <= high for low, size, high in zip(least, shapes[name], most, strict=True))

    for index in range(engine.num_optimization_profiles):
        if all(takes(index, name) for name in shapes):
            return index
    raise ExportError(f"no profile of the TensorRT engine takes the shape {shapes['input_ids']}")


def open_engine(folder: Path) -> EngineSession:
    """Load the engine of a version folder on this machine's GPU.

    Raises:
        ExportError: TensorRT, torch with CUDA or a GPU is missing, or the engine was built for others than these.
    """
    record = read_record(folder)
    path = folder / ENGINE_FILE
    gpu = find_gpu()
    trt = import_tensorrt()
    check_engine(record, path, tensorrt_version=trt.__version__, compute_capability=gpu.compute_capability)
    import torch

    if not torch.cuda.is_available():
        raise ExportError("this torch has no CUDA, which holds the engine's tensors; install torch for CUDA")
    runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
    # A version-compatible engine carries a small runtime of its own, which is code.
    runtime.engine_host_code_allowed = record.version_compatible
    engine = runtime.deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        raise ExportError(f"TensorRT {trt.__version__} does not load {path}; {_AGAIN}")
    return EngineSession(engine)
