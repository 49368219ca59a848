"""Tells a running Triton, over gRPC, which versions of a model to load, and asks it for a vector.

What Triton 2.51 (explicit control mode, Python backend) does on `load` with a configuration as its parameter; measured
while a loop of requests to the running version went on:

- It takes that configuration instead of the config.pbtxt on the disk, which need not exist, until the next `load`. A
  restarted Triton reads the disk.
- Any difference to the configuration in use, and be it in a parameter, makes it load every version that is named, also
  those that run already: a second instance starts beside the first and takes over when it is ready. None of 5,000
  requests to the running version failed, and none took longer than 100 ms. The same configuration again returns at
  once, unless the files of a version have changed since.
- While that goes on, a version that was loaded and stays so is in memory twice.
- When one version fails to load, the whole `load` fails, and everything runs on as before.
- Versions that are no longer named are unloaded after all others are ready; they finish their requests in flight.
- A version that has no folder is skipped in silence: `load` succeeds. Ask for the readiness of the exact version.
- `load` goes on after its caller's deadline; the next `load` waits for it.

Shapes: S tokens of a row, D numbers of a vector.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import numpy as np
import tritonclient.grpc as triton_grpc
from google.protobuf import json_format
from numpy.typing import NDArray
from tritonclient.grpc.model_config_pb2 import ModelConfig
from tritonclient.utils import InferenceServerException

from export.errors import ExportError
from export.python_backend.host import OUTPUT

LOAD_TIMEOUT_S = 600.0
CALL_TIMEOUT_S = 10.0
_UNREACHABLE = {"StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED", "StatusCode.CANCELLED"}


class TritonUnreachable(ExportError):
    """Triton did not answer, or not in time: this says nothing about the model."""


class TritonRefused(ExportError):
    """Triton answered that it cannot do it, such as load a version."""


class TritonControl:
    """One Triton server in explicit model control mode. Every call has a deadline."""

    def __init__(
        self, url: str, *, load_timeout_s: float = LOAD_TIMEOUT_S, call_timeout_s: float = CALL_TIMEOUT_S
    ) -> None:
        """Prepare a channel; nothing is sent yet.

        Args:
            url: `host:port` of the gRPC endpoint.
            load_timeout_s: How long loading a version may take, and the first vector of it.
            call_timeout_s: How long any other call may take.

        Raises:
            ExportError: `url` is not an address.
        """
        self.url = url
        self._load_timeout_s = load_timeout_s
        self._call_timeout_s = call_timeout_s
        host, _, port = url.rpartition(":")
        if not host or not port.isdecimal():
            raise ExportError(f"--triton-url must be host:port of Triton's gRPC endpoint, not {url!r}")
        self._client = triton_grpc.InferenceServerClient(url)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def require_live(self) -> None:
        """Make sure that a Triton answers.

        Raises:
            TritonUnreachable: None does.
            TritonRefused: It answers with an error.
        """
        with self._translated("say that it is live", self._call_timeout_s):
            if not self._client.is_server_live(client_timeout=self._call_timeout_s):
                raise TritonUnreachable(f"Triton at {self.url} is not live")

    def load(self, model: str, config: ModelConfig) -> None:
        """Load the versions that a configuration names; see this module's docstring for what that does.

        Args:
            model: Folder of the model in Triton's repository.
            config: Used instead of the folder's config.pbtxt.

        Raises:
            TritonRefused: A version does not load; all that ran before runs on.
            TritonUnreachable: Triton does not answer; it may or may not have loaded.
        """
        text = json_format.MessageToJson(config, preserving_proto_field_name=True)
        with self._translated(f"load {model}", self._load_timeout_s):
            self._client.load_model(model, config=text, client_timeout=self._load_timeout_s)

    def unload(self, model: str) -> None:
        """Unload every version of a model; one that is not loaded is no error.

        Raises:
            TritonRefused: It may not, or cannot.
            TritonUnreachable: Triton does not answer.
        """
        with self._translated(f"unload {model}", self._call_timeout_s):
            self._client.unload_model(model, client_timeout=self._call_timeout_s)

    def ready(self, model: str, version: int) -> bool:
        """Whether exactly this version answers requests.

        Raises:
            TritonRefused: It answers with an error.
            TritonUnreachable: Triton does not answer.
        """
        with self._translated(f"say whether {model} version {version} is ready", self._call_timeout_s):
            return bool(self._client.is_model_ready(model, str(version), client_timeout=self._call_timeout_s))

    def infer(self, model: str, version: int, input_ids: Sequence[int], task_id: int | None) -> NDArray[np.float32]:
        """The vector of one row of tokens.

        Args:
            model: The encoder.
            version: Its version.
            input_ids: Token ids, (S,).
            task_id: Task adapter; None for an encoder without tasks.

        Returns:
            vector_D (D,), float32.

        Raises:
            TritonRefused: The inference fails, or its answer has no vector.
            TritonUnreachable: Triton does not answer.
        """
        ids_1S = np.array([input_ids], dtype=np.int64)
        inputs = [_tensor("input_ids", ids_1S), _tensor("attention_mask", np.ones_like(ids_1S))]
        if task_id is not None:
            inputs.append(_tensor("task_id", np.array([[task_id]], dtype=np.int64)))
        # The first request may wait for what a runtime does lazily, such as choosing its kernels.
        with self._translated(f"run {model} version {version}", self._load_timeout_s):
            reply = self._client.infer(model, inputs, model_version=str(version), client_timeout=self._load_timeout_s)
        vectors_1D = reply.as_numpy(OUTPUT)
        if vectors_1D is None or vectors_1D.ndim != 2 or len(vectors_1D) != 1:
            raise TritonRefused(f"Triton at {self.url}: {model} version {version} answers without one {OUTPUT}")
        vector_D: NDArray[np.float32] = vectors_1D[0]
        return vector_D

    @contextmanager
    def _translated(self, what: str, timeout_s: float) -> Iterator[None]:
        try:
            yield
        except InferenceServerException as exc:
            status, text = exc.status() or "", " ".join((exc.message() or "no reason given").split())
            if status == "StatusCode.DEADLINE_EXCEEDED":
                raise TritonUnreachable(f"Triton at {self.url} did not {what} within {timeout_s:g} s") from exc
            if status in _UNREACHABLE:
                raise TritonUnreachable(
                    f"Triton at {self.url} did not {what}: {text}; check --triton-url, or publish without it"
                ) from exc
            if "explicit model load / unload is not allowed" in text:
                text = "it does not run with --model-control-mode=explicit"
            if "at least one version must be available" in text:
                text = "it does not see the version's folder; does it serve this repository?"
            raise TritonRefused(f"Triton at {self.url} cannot {what}: {text}") from exc


def _tensor(name: str, values: NDArray[np.int64]) -> triton_grpc.InferInput:
    tensor = triton_grpc.InferInput(name, list(values.shape), "INT64")
    tensor.set_data_from_numpy(values)
    return tensor
