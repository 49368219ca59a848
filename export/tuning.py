"""How one machine runs an encoder on the Python backend: it decides how fast, and no number of a vector.

Stands in config.pbtxt beside what is served, and is carried into every config.pbtxt that follows: versions come and go,
the machine stays.
"""

from dataclasses import dataclass

from tritonclient.grpc.model_config_pb2 import ModelConfig

from export.errors import ExportError

CORES_PARAMETER = "tuned_for_cores"
"""Says that the settings are the machine's, and how many cores it had; absent where they are the version's."""


@dataclass(frozen=True)
class Tuning:
    """Settings of one machine.

    Attributes:
        num_threads: Threads of one inference.
        token_budget: Most padded tokens of a micro-batch.
        instances: Processes that each hold the encoder.
        cores: Cores of the machine that they were measured on.
    """

    num_threads: int
    token_budget: int
    instances: int
    cores: int

    def __post_init__(self) -> None:
        for name in ("num_threads", "token_budget", "instances", "cores"):
            if getattr(self, name) < 1:
                raise ExportError(f"{name} must be at least 1, not {getattr(self, name)}")


def tuning_in(config: ModelConfig | None) -> Tuning | None:
    """The machine's settings in a config.pbtxt; None where it has the version's own.

    Raises:
        ExportError: They are there, and are no numbers.
    """
    if config is None or CORES_PARAMETER not in config.parameters:
        return None
    parameters = {key: value.string_value for key, value in config.parameters.items()}
    try:
        return Tuning(
            num_threads=int(parameters["num_threads"]),
            token_budget=int(parameters["token_budget"]),
            instances=sum(group.count for group in config.instance_group),
            cores=int(parameters[CORES_PARAMETER]),
        )
    except (KeyError, ValueError) as exc:
        raise ExportError(
            f"config.pbtxt of {config.name} has unreadable settings of this machine ({exc!r}); "
            f"run: duovec-export configure --encoder {config.name} --reset"
        ) from exc
