"""A publication that was broken off from without, and the gateway's refusals that are none."""

from typing import TYPE_CHECKING

from training.errors import TrainingError

if TYPE_CHECKING:
    from gateway.client.errors import ClientError

UNFINISHED = "UNFINISHED"
# Preconditions that come true by themselves: of a space that is filled, read, or was active until a moment ago.
_PASSING_REASONS = frozenset({"SPACE_IN_USE", "SPACE_MISMATCH", "SPACE_NOT_READY"})


class Unfinished(TrainingError):
    """The gateway or the database was away; nothing is wrong with what is published, and the same command goes on."""

    def __init__(self, message: str) -> None:
        super().__init__(f"{UNFINISHED}: {message}")


def gateway_failure(error: "ClientError") -> TrainingError:
    """What a failed call means for the publication.

    Returns:
        Unfinished where the same call may succeed later. Any other refusal, such as of a key, under the gateway's own
        reason: nobody who repeats it gets another answer.
    """
    reason = error.reason or error.code.name
    if error.may_pass or error.code.name == "DEADLINE_EXCEEDED" or reason in _PASSING_REASONS:
        return Unfinished(f"{error} [{reason}]; the same command goes on where it was")
    return TrainingError(f"{reason}: {error}")
