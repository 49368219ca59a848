"""A publication that was broken off from without."""

from training.errors import TrainingError

UNFINISHED = "UNFINISHED"


class Unfinished(TrainingError):
    """The gateway or the database was away; nothing is wrong with what is published, and the same command goes on."""

    def __init__(self, message: str) -> None:
        super().__init__(f"{UNFINISHED}: {message}")
