"""How a version runs: on which runtime, in which precision, and what each of them can do."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from export.errors import ExportError

LENGTH_BUCKETS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
"""Lengths that rows are padded to for a backend that merges equal shapes only, tokens."""


class Runtime(StrEnum):
    """What runs the graph, and through which backend of Triton."""

    OPENVINO = "openvino"
    """OpenVINO on CPU, hosted by the Python backend."""
    ONNXRUNTIME = "onnxruntime"
    """onnxruntime on CPU, hosted by the Python backend."""
    ONNXRUNTIME_CPU = "onnxruntime-cpu"
    """Triton's own onnxruntime backend, CPU provider."""
    ONNXRUNTIME_CUDA = "onnxruntime-cuda"
    """Triton's own onnxruntime backend, CUDA provider."""
    ONNXRUNTIME_TENSORRT = "onnxruntime-tensorrt"
    """Triton's own onnxruntime backend, TensorRT provider."""
    TENSORRT = "tensorrt"
    """A TensorRT engine in Triton's `tensorrt_plan` platform."""

    @property
    def backend(self) -> str:
        """Name of the Triton backend: `python`, `onnxruntime` or `tensorrt`."""
        if self in (Runtime.OPENVINO, Runtime.ONNXRUNTIME):
            return "python"
        return "tensorrt" if self is Runtime.TENSORRT else "onnxruntime"

    @property
    def needs_gpu(self) -> bool:
        """Whether it runs on an NVIDIA GPU only."""
        return self in (Runtime.ONNXRUNTIME_CUDA, Runtime.ONNXRUNTIME_TENSORRT, Runtime.TENSORRT)


class Precision(StrEnum):
    """Number format of the matrix products.

    fp16 and bf16 graphs keep norms, softmax, pooling and L2 in float32. OpenVINO's bf16 is a hint on a float32 graph:
    on CPU it runs norms, softmax and pooling in bf16 too, which the gate's tolerance of bf16 was measured with.
    int8-bf16 is the same hint on an int8 graph, whose other parts are float32 without it.
    """

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"
    INT8_BF16 = "int8-bf16"

    @property
    def is_quantized(self) -> bool:
        """Whether its graph is calibrated."""
        return self in (Precision.INT8, Precision.INT8_BF16)

    @property
    def takes_bf16(self) -> bool:
        """Whether OpenVINO runs it in bf16, which not every CPU has."""
        return self in (Precision.BF16, Precision.INT8_BF16)


PRECISIONS: dict[Runtime, tuple[Precision, ...]] = {
    Runtime.OPENVINO: (Precision.FP32, Precision.BF16, Precision.INT8, Precision.INT8_BF16),
    Runtime.ONNXRUNTIME: (Precision.FP32, Precision.FP16, Precision.INT8),
    Runtime.ONNXRUNTIME_CPU: (Precision.FP32, Precision.FP16, Precision.INT8),
    Runtime.ONNXRUNTIME_CUDA: (Precision.FP32, Precision.FP16, Precision.BF16),
    Runtime.ONNXRUNTIME_TENSORRT: (Precision.FP32, Precision.FP16, Precision.BF16),
    Runtime.TENSORRT: (Precision.FP32, Precision.FP16, Precision.BF16),
}
"""onnxruntime's CPU provider loads no bf16; its fp16 halves the memory and not the time."""

OPSETS: dict[str, range] = {"python": range(18, 24), "onnxruntime": range(18, 24), "tensorrt": range(18, 21)}
"""Opsets that each backend takes; 18 is the exporter's native one, TensorRT's parser is proven to 20."""


@dataclass(frozen=True)
class Serving:
    """How one version is run.

    Attributes:
        runtime: What runs the graph.
        precision: Number format of its matrix products.
        num_threads: Threads of one inference on CPU.
    """

    runtime: Runtime
    precision: Precision
    num_threads: int

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS[self.runtime]:
            raise ExportError(
                f"{self.runtime} does not run {self.precision}; it runs {', '.join(PRECISIONS[self.runtime])}"
            )


BF16_FLAGS = {"avx512_bf16", "amx_bf16"}


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """The CPU's feature flags; empty where the kernel lists none."""
    if not cpuinfo.is_file():
        return frozenset()
    for line in cpuinfo.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "flags":
            return frozenset(value.split())
    return frozenset()


def resolve_precision(requested: str, runtime: Runtime, preferred: Precision, flags: frozenset[str]) -> Precision:
    """The precision to build, from what was asked for and what the machine has.

    Args:
        requested: A precision, or `auto` for the encoder's preferred one where it can run, else fp32.
        runtime: What will run the graph.
        preferred: The precision that the encoder's spec names.
        flags: Feature flags of this CPU.

    Raises:
        ExportError: OpenVINO's bf16 was asked for and this CPU has none.
    """
    cpu_lacks_bf16 = runtime is Runtime.OPENVINO and not flags & BF16_FLAGS
    if requested == "auto":
        runs = preferred in PRECISIONS[runtime] and not (preferred.takes_bf16 and cpu_lacks_bf16)
        return preferred if runs else Precision.FP32
    precision = Precision(requested)
    if precision.takes_bf16 and cpu_lacks_bf16:
        other = Precision.INT8 if precision.is_quantized else Precision.FP32
        raise ExportError(f"this CPU has neither avx512_bf16 nor amx_bf16; use --precision {other}")
    return precision
