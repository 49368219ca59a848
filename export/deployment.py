"""What Triton has to be told about a version of an encoder, and its part of the manifest.

Everything here is read back from manifest.json, so that a rollback writes the configuration of the version that it
rolls back to: its buckets and its batch limit, which an engine was built for, and not those of today's exporter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from export.errors import ExportError
from export.serving import LENGTH_BUCKETS, Runtime, Serving
from export.spec import EncoderSpec

LARGEST_BATCH = 64
"""Most rows of a batch; more than any length needs to fill a CPU or a GPU."""

TOKEN_BUDGET = 512
"""Padded tokens of a micro-batch of the Python backend; measured best on CPU, where big padded batches are 2.5 to 6
times slower."""

HOSTED_INSTANCES = 2
"""Processes of the Python backend that each hold an encoder, and its weights. Between two requests one waits some
milliseconds for the next: the other runs meanwhile, and whoever comes while one runs bulk work has the other. Measured,
see DECISIONS.md."""

LARGEST_SCORES = 2**28
"""Most rows × length² of a batch on a native backend.

Triton has one batch limit a model, and its batcher would fill it with the longest rows as well. Their attention scores
decide then, where the runtime does not fuse attention: of 16 heads in 2 bytes and again in 4 (the softmax), this many
take 26 GB.
"""


def input_names(*, takes_task: bool) -> tuple[str, ...]:
    """Inputs of a graph, in order; `task_id` only for an encoder with task adapters."""
    return ("input_ids", "attention_mask", "task_id") if takes_task else ("input_ids", "attention_mask")


@dataclass(frozen=True)
class Deployment:
    """How a version is deployed on Triton.

    Attributes:
        encoder: Triton model name.
        runtime: What runs the graph.
        dimension: Length of the vector.
        takes_task: Whether the graph has the input `task_id`.
        max_tokens: Longest row, tokens.
        num_threads: Threads of one inference on CPU.
        max_batch_size: Most rows of a request, and of what Triton merges.
        length_buckets: Lengths that rows are padded to, ascending, the last one `max_tokens`; empty for the Python
            backend, which undoes padding.
        names_rows: Whether an answer says of which rows it is; those of native backends, and of older exports, do not.
    """

    encoder: str
    runtime: Runtime
    dimension: int
    takes_task: bool
    max_tokens: int
    num_threads: int
    max_batch_size: int
    length_buckets: tuple[int, ...]
    names_rows: bool

    @property
    def input_names(self) -> tuple[str, ...]:
        """The graph's inputs, in order."""
        return input_names(takes_task=self.takes_task)

    def as_manifest(self) -> dict[str, Any]:
        """The value of `serving` in manifest.json."""
        return {
            "backend": self.runtime.backend,
            "num_threads": self.num_threads,
            "max_batch_size": self.max_batch_size,
            "length_buckets": list(self.length_buckets),
            "names_rows": self.names_rows,
        }

    def can_follow(self, other: "Deployment") -> bool:
        """Whether one config.pbtxt can keep a version deployed like `other` loaded beside this one.

        The hosts of the Python backend read runtime and precision from their own version folder; threads are the
        machine's, not the version's.
        """
        same = ("encoder", "dimension", "takes_task", "max_batch_size", "length_buckets")
        hosted = self.runtime.backend == other.runtime.backend == "python"
        return (hosted or self.runtime is other.runtime) and all(
            getattr(self, name) == getattr(other, name) for name in same
        )


def plan_deployment(spec: EncoderSpec, serving: Serving) -> Deployment:
    """How a new version of an encoder is deployed."""
    hosted = serving.runtime.backend == "python"
    return Deployment(
        encoder=spec.name,
        runtime=serving.runtime,
        dimension=spec.dimension,
        takes_task=bool(spec.tasks),
        max_tokens=spec.max_tokens,
        num_threads=serving.num_threads,
        max_batch_size=LARGEST_BATCH if hosted else batch_limit(spec.max_tokens),
        length_buckets=() if hosted else buckets_up_to(spec.max_tokens),
        names_rows=hosted,
    )


def buckets_up_to(max_tokens: int) -> tuple[int, ...]:
    """The length buckets of rows of 1 to `max_tokens` tokens; the last one is `max_tokens` itself."""
    return (*(length for length in LENGTH_BUCKETS if length < max_tokens), max_tokens)


def batch_limit(max_tokens: int) -> int:
    """Most rows of a batch on a native backend: a power of two, at least 1 and at most 64."""
    limit = LARGEST_BATCH
    while limit > 1 and limit * max_tokens**2 > LARGEST_SCORES:
        limit //= 2
    return limit


def deployment_of(manifest: Mapping[str, Any], path: Path) -> Deployment:
    """The deployment that a published version's manifest states.

    Args:
        manifest: Content of manifest.json.
        path: Where it was read, for the error.

    Raises:
        ExportError: The manifest lacks a field, or the fields contradict each other.
    """
    try:
        serving, spec = manifest["serving"], manifest["spec"]
        deployment = Deployment(
            encoder=manifest["encoder"],
            runtime=Runtime(manifest["runtime"]),
            dimension=int(manifest["dimension"]),
            takes_task=bool(spec["tasks"]),
            max_tokens=int(spec["max_tokens"]),
            num_threads=int(serving["num_threads"]),
            max_batch_size=int(serving["max_batch_size"]),
            length_buckets=tuple(int(length) for length in serving["length_buckets"]),
            names_rows=bool(serving.get("names_rows", False)),
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise ExportError(
            f"{path} does not say how its version is served ({exc!r}); publish the encoder again"
        ) from exc
    hosted = deployment.runtime.backend == "python"
    if not _ascend_to(deployment.length_buckets, deployment.max_tokens, may_be_empty=hosted):
        raise ExportError(
            f"{path}: length_buckets must ascend to max_tokens ({deployment.max_tokens}), "
            f"not {list(deployment.length_buckets)}; publish the encoder again"
        )
    return deployment


def _ascend_to(lengths: Sequence[int], last: int, *, may_be_empty: bool) -> bool:
    if not lengths:
        return may_be_empty
    return lengths[0] > 0 and lengths[-1] == last and all(a < b for a, b in pairwise(lengths))
