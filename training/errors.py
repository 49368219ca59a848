"""The errors of the training package."""

MIN_TRIPLETS = 100


class TrainingError(Exception):
    """A run that cannot go on; the command ends with exit code 1 and this one line.

    The message names the file or the setting at fault, the limit and the value, and what to do about it.
    """


class InsufficientTrainingData(TrainingError):
    """Fewer real triplets than a model may be trained on."""

    def __init__(self, found: int, where: object) -> None:
        super().__init__(
            f"INSUFFICIENT_TRAINING_DATA: {where} gives {found} triplets, at least {MIN_TRIPLETS} are needed; "
            "mine more code, or loosen the filters"
        )
