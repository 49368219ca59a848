"""The NVIDIA GPU of this machine, asked of the driver alone: no CUDA toolkit, no torch."""

import ctypes
import importlib
from dataclasses import dataclass
from types import ModuleType

from export.errors import ExportError

_COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR = 75, 76  # CUdevice_attribute of cuda.h
_HELP = (
    "run this on the machine that will serve, or write a script for it: duovec-export build --emit-build-script FILE"
)


@dataclass(frozen=True)
class Gpu:
    """A GPU: its name as the driver gives it, and its compute capability, such as `9.0`."""

    name: str
    compute_capability: str


def find_gpu() -> Gpu:
    """The first NVIDIA GPU.

    Raises:
        ExportError: There is no driver or no GPU; the message says what to do.
    """
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError as exc:
        raise ExportError(f"this machine has no NVIDIA driver (libcuda.so.1); {_HELP}") from exc
    count, device = ctypes.c_int(), ctypes.c_int()
    if cuda.cuInit(0) != 0 or cuda.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        raise ExportError(f"the NVIDIA driver of this machine finds no GPU; {_HELP}")
    name = ctypes.create_string_buffer(256)
    major, minor = ctypes.c_int(), ctypes.c_int()
    calls = (
        cuda.cuDeviceGet(ctypes.byref(device), 0),
        cuda.cuDeviceGetName(name, len(name), device),
        cuda.cuDeviceGetAttribute(ctypes.byref(major), _COMPUTE_CAPABILITY_MAJOR, device),
        cuda.cuDeviceGetAttribute(ctypes.byref(minor), _COMPUTE_CAPABILITY_MINOR, device),
    )
    if any(calls):
        raise ExportError(f"the NVIDIA driver answers errors {calls} about its GPU; check nvidia-smi")
    return Gpu(name.value.decode(errors="replace"), f"{major.value}.{minor.value}")


def import_tensorrt() -> ModuleType:
    """TensorRT's Python package.

    Raises:
        ExportError: It is not installed, or not for this driver.
    """
    try:
        return importlib.import_module("tensorrt")
    except (ImportError, OSError) as exc:
        raise ExportError(f"TensorRT cannot be loaded ({exc}); pip install tensorrt, or {_HELP}") from exc
