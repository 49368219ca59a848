"""Optimization profiles of TensorRT: the shapes that an engine is built for, one profile a length bucket."""

from collections.abc import Mapping
from dataclasses import dataclass

from export.deployment import Deployment

Shape = tuple[int, int]
"""(rows, tokens); (rows, 1) for `task_id`."""


@dataclass(frozen=True)
class Bounds:
    """The shapes of one input that a profile takes: `least` to `most`, tuned for `optimal`."""

    least: Shape
    optimal: Shape
    most: Shape


Profile = Mapping[str, Bounds]
"""Bounds by input name; every input of an engine needs them in every profile."""


def profiles_of(deployment: Deployment) -> list[Profile]:
    """One profile a length bucket, shortest first: every length from 1 to the longest bucket is in exactly one.

    Tuned for full batches of rows as long as the bucket, which is what the gateway pads to and the batcher makes.
    """
    buckets = deployment.length_buckets
    least = (1, *(length + 1 for length in buckets[:-1]))
    rows = deployment.max_batch_size
    return [
        _profile(deployment, (1, first), (rows, last), (rows, last)) for first, last in zip(least, buckets, strict=True)
    ]


def spanning_profile(deployment: Deployment) -> Profile:
    """One profile from the shortest row to the longest bucket, for a runtime that runs profile 0 only.

    Tuned for the bucket of 128 tokens, in which a function of code lies on average (85 tokens), or the longest one
    where that is shorter.
    """
    buckets, rows = deployment.length_buckets, deployment.max_batch_size
    typical = min(128, buckets[-1])
    return _profile(deployment, (1, 1), (rows, typical), (rows, buckets[-1]))


def _profile(deployment: Deployment, least: Shape, optimal: Shape, most: Shape) -> Profile:
    tokens = Bounds(least, optimal, most)
    rows = Bounds((least[0], 1), (optimal[0], 1), (most[0], 1))
    return {name: rows if name == "task_id" else tokens for name in deployment.input_names}
