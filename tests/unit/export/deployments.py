"""Deployments for tests: the built-in encoders on any runtime, and a small one."""

from export.deployment import Deployment, plan_deployment
from export.serving import PRECISIONS, Runtime, Serving
from export.spec import load_builtin


def deployed(encoder: str, runtime: Runtime, *, num_threads: int = 2) -> Deployment:
    """A built-in encoder in the first precision that a runtime has."""
    return plan_deployment(load_builtin(encoder), Serving(runtime, PRECISIONS[runtime][0], num_threads))


SMALL = Deployment(
    encoder="tiny",
    runtime=Runtime.TENSORRT,
    dimension=1024,
    takes_task=True,
    max_tokens=48,
    num_threads=1,
    max_batch_size=8,
    length_buckets=(16, 32, 48),
    names_rows=False,
)
"""Three profiles, with `task_id`."""
