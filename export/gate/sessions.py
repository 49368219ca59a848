"""Opens an exported model on the runtime that will serve it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from export.errors import ExportError
from export.onnx_export import MODEL_FILE
from export.python_backend.host import OUTPUT, HostError, Ids, Session, Vectors, open_session
from export.serving import Runtime, Serving

_PROVIDERS = {
    Runtime.ONNXRUNTIME_CUDA: "CUDAExecutionProvider",
    Runtime.ONNXRUNTIME_TENSORRT: "TensorrtExecutionProvider",
}


class _ProviderSession:
    """The graph in onnxruntime on a GPU provider, as Triton's onnxruntime backend runs it."""

    def __init__(self, path: Path, runtime: Runtime) -> None:
        import onnxruntime

        provider = _PROVIDERS[runtime]
        available = onnxruntime.get_available_providers()
        if provider not in available:
            raise ExportError(
                f"{runtime} can only be proven where onnxruntime has the {provider}; this one has "
                f"{', '.join(available)}: run the gate on a machine with an NVIDIA GPU and onnxruntime-gpu"
            )
        self._session = onnxruntime.InferenceSession(str(path), providers=[provider])
        # onnxruntime goes on with the CPU, in silence, where a provider's libraries or its GPU are missing.
        running = self._session.get_providers()
        if running[0] != provider:
            raise ExportError(
                f"{provider} does not start on this machine, onnxruntime fell back to {', '.join(running)}; "
                "check the NVIDIA driver and the CUDA libraries"
            )

    def run(self, feeds: Mapping[str, Ids]) -> Vectors:
        """See `export.python_backend.host.Session.run`."""
        return np.asarray(self._session.run([OUTPUT], dict(feeds))[0], dtype=np.float32)


def open_exported(folder: Path, serving: Serving) -> Session:
    """Load the model of a version folder.

    Raises:
        ExportError: The runtime, its provider, its GPU or its precision cannot be had on this machine.
    """
    if serving.runtime in _PROVIDERS:
        return _ProviderSession(folder / MODEL_FILE, serving.runtime)
    if serving.runtime is Runtime.TENSORRT:
        from export.tensorrt_engine import open_engine

        return open_engine(folder)
    # Triton's own onnxruntime backend runs the same library on the CPU as the Python backend's host.
    hosted = "openvino" if serving.runtime is Runtime.OPENVINO else "onnxruntime"
    try:
        return open_session(hosted, folder / MODEL_FILE, serving.precision, serving.num_threads)
    except HostError as exc:
        raise ExportError(f"{folder / MODEL_FILE}: {exc}") from exc
