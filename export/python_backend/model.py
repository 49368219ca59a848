"""Triton's face of an encoder: requests in, one response each, in order.

The Python backend does not concatenate: it hands over the individual requests of a batch, each padded to its own
longest row. Merging them is up to `host.py`.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from .host import DIGEST, OUTPUT, HostError, Rows, Vectors, check_rows, open_host, row_digests


class TritonPythonModel:
    """The class that Triton's Python backend looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the version folder that this file lies in, with the parameters of config.pbtxt."""
        config = json.loads(args["model_config"])
        self._names_rows = any(output["name"] == DIGEST for output in config["output"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        self._host = open_host(
            Path(args["model_repository"]) / args["model_version"],
            num_threads=int(parameters["num_threads"]),
            token_budget=int(parameters["token_budget"]),
            warmup_lengths=[int(length) for length in parameters["warmup_lengths"].split(",")],
            keep_compiled=Path(args["model_repository"]) / ".compiled" / args["model_version"],
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer every request: its vectors, or the error of its own input."""
        responses: list[Any] = [None] * len(requests)
        accepted: list[tuple[int, Rows]] = []
        for position, request in enumerate(requests):
            try:
                accepted.append((position, self._read(request)))
            except HostError as exc:
                responses[position] = _refuse(str(exc), pb_utils.TritonError.INVALID_ARG)
        if accepted:
            # A runtime failure here is everybody's: Triton answers all requests of the batch with it.
            vectors = self._host.embed([rows for _, rows in accepted])
            for (position, rows), vectors_BD in zip(accepted, vectors, strict=True):
                responses[position] = self._respond(rows, vectors_BD)
        return responses

    def _read(self, request: Any) -> Rows:
        def tensor(name: str) -> Any:
            found = pb_utils.get_input_tensor_by_name(request, name)
            if found is None:
                raise HostError(f"input {name} is missing")
            return found.as_numpy()

        limits = self._host.limits
        task_B1 = tensor("task_id") if limits.task_count else None
        return check_rows(tensor("input_ids"), tensor("attention_mask"), task_B1, limits)

    def _respond(self, rows: Rows, vectors_BD: Vectors) -> Any:
        if not np.isfinite(vectors_BD).all():
            return _refuse("the encoder gave a value that is not finite", pb_utils.TritonError.INTERNAL)
        tensors = [pb_utils.Tensor(OUTPUT, np.ascontiguousarray(vectors_BD))]
        if self._names_rows:
            tensors.append(pb_utils.Tensor(DIGEST, row_digests(rows)))
        return pb_utils.InferenceResponse(output_tensors=tensors)


def _refuse(message: str, code: int) -> Any:
    return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(message, code))
