"""What is missing of build, gate and publication for a checkpoint, in one step."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from export.build import BuildRequest, build, matching_candidate
from export.gate.settings import GateSettings
from export.locks import DEFAULT_WAIT_S
from export.proof import is_proven_by, prove_candidate
from export.repository import EncoderFolder
from export.source import Checkpoint

if TYPE_CHECKING:
    from export.publish import Served
    from export.triton_control import TritonControl


def publish_checkpoint(
    folder: EncoderFolder,
    request: BuildRequest,
    checkpoint: Checkpoint,
    gate: GateSettings,
    triton: "TritonControl | None",
    *,
    timing_cache: Path | None = None,
    wait_s: float = DEFAULT_WAIT_S,
    on_wait: Callable[[str], None] = lambda holder: None,
    on_step: Callable[[str], None] = lambda step: None,
) -> "Served":
    """Publish a checkpoint as the next version; the caller holds `folder.building`.

    A candidate that was built from the same inputs is taken up where an earlier run stopped.

    Args:
        folder: The encoder's.
        request: What to build.
        checkpoint: The weights.
        gate: How much the gate measures.
        triton: The server that serves this repository; None to publish on the disk only.
        timing_cache: As in `export.build.build`.
        wait_s: How long to wait for whoever publishes in the folder, seconds.
        on_wait: Told who that is.
        on_step: Told about each stage.

    Raises:
        ExportError: Nothing is published; the old version is served as before.
    """
    candidate = matching_candidate(folder, request, checkpoint)
    if candidate is None:
        candidate = build(folder, request, checkpoint, timing_cache=timing_cache, on_step=on_step)
    if not is_proven_by(candidate, gate):
        prove_candidate(folder, request, checkpoint, gate, on_step=on_step)
    from export.publish import publish_candidate

    with folder.publishing(wait_s=wait_s, on_wait=on_wait):
        return publish_candidate(folder, triton, on_step=on_step)
