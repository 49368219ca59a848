"""Waits until a new space has a vector for every chunk, and its verification has spoken."""

import time
from collections.abc import Callable
from typing import Any

from duovec.v1 import space_service_pb2 as pb
from gateway.client.client import Client
from training.errors import TrainingError

_POLL_S = 0.5


class Unfit(Exception):
    """The verification found faults: the space must not be activated."""


def fill_space(
    client: Client,
    fingerprint: str,
    *,
    rate: float,
    wait_s: float,
    report: Callable[[int, int], None],
    on_step: Callable[[str], None],
) -> dict[str, Any]:
    """Have every chunk embedded in a space, unless that was done.

    Args:
        client: Of the gateway, as an administrator.
        fingerprint: The space.
        rate: Chunks a second at most; 0 for as many as go.
        wait_s: How long to wait, seconds.
        report: Told the chunks done, and all; raises to stop waiting.
        on_step: Told the same in words.

    Returns:
        What is recorded of it.

    Raises:
        Unfit: The verification found faults.
        TrainingError: Somebody stopped it, or it takes longer; it can be waited for again.
        ClientError: The gateway refuses.
    """
    space = client.spaces.get(fingerprint)
    if space.state == pb.SPACE_STATE_BUILDING and not space.HasField("verification"):
        space = client.spaces.reembed(fingerprint, max_chunks_per_second=rate)
    until = time.monotonic() + wait_s
    while space.state == pb.SPACE_STATE_BUILDING and not space.HasField("verification"):
        done = space.chunk_count - space.pending_chunk_count
        report(done, space.chunk_count)
        trouble = f": {space.error}" if space.error else ""
        on_step(f"embed again, {done} of {space.chunk_count} chunks{trouble}")
        if not space.reembedding:
            raise TrainingError(f"somebody stopped the filling of space {fingerprint[:12]}; run this again to go on")
        if time.monotonic() > until:
            raise TrainingError(
                f"space {fingerprint[:12]} has {done} of {space.chunk_count} vectors after {wait_s:g} s{trouble}; "
                "it goes on, and so does this command when run again"
            )
        time.sleep(_POLL_S)
        space = client.spaces.get(fingerprint)
    found = space.verification
    if space.state == pb.SPACE_STATE_BUILDING and not found.passed:
        raise Unfit(f"VERIFICATION_FAILED: space {fingerprint[:12]}: {'; '.join(found.faults)}")
    return {
        "chunk_count": space.chunk_count,
        "mrr": found.mrr,
        "live_mrr": found.active_mrr,
        "min_cosine": found.min_cosine,
    }
