"""Reads the model repository's side of config.pbtxt: which version is served, and which are kept loaded beside it."""

from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from gateway.errors import StartupError


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How Triton's Python backend runs an encoder.

    Attributes:
        instances: Processes that each hold the encoder.
        num_threads: Threads of one inference.
        token_budget: Most padded tokens that it runs at a time.
        tuned_for_cores: Cores of the machine that they were measured on; 0 where they are those that came with the
            version.
    """

    instances: int
    num_threads: int
    token_budget: int
    tuned_for_cores: int


@dataclass(frozen=True, slots=True)
class ServedVersions:
    """What Triton loads of one encoder.

    Attributes:
        served: The version that new vectors are made by.
        loaded: All versions that are loaded, the served one among them.
        settings: How they are run, on the Python backend; None on the others.
    """

    served: int
    loaded: tuple[int, ...]
    settings: RunSettings | None = None


def read_served_versions(repository: Path, encoder: str) -> ServedVersions:
    """The versions that the config.pbtxt of an encoder names.

    Raises:
        StartupError: The file is missing or no Triton configuration, or the served version is none of the loaded ones.
    """
    path = repository / encoder / "config.pbtxt"
    fix = publish_hint(repository, encoder)
    try:
        config = text_format.Parse(path.read_text(encoding="utf-8"), ModelConfig())
    except OSError as exc:
        raise StartupError(f"no encoder is published: {path} ({exc.strerror}); {fix}") from exc
    except (text_format.ParseError, UnicodeDecodeError) as exc:
        raise StartupError(f"{path} is not a Triton model configuration: {exc}; {fix}") from exc
    loaded = tuple(int(number) for number in config.version_policy.specific.versions)
    served = config.parameters["served_version"].string_value
    if not served.isdecimal() or int(served) not in loaded:
        raise StartupError(f"{path}: served_version is {served!r}, the loaded versions are {list(loaded)}; {fix}")
    return ServedVersions(int(served), loaded, _settings_of(config, path, fix))


def _settings_of(config: ModelConfig, path: Path, fix: str) -> RunSettings | None:
    if config.backend != "python":
        return None
    instances = sum(group.count for group in config.instance_group)
    values = []
    for name in ("num_threads", "token_budget", "tuned_for_cores"):
        text = config.parameters[name].string_value or "0"
        if not text.isdecimal():
            raise StartupError(f"{path}: {name} is {text!r}, not a number; {fix}")
        values.append(int(text))
    return RunSettings(instances, *values)


def publish_hint(repository: Path, encoder: str) -> str:
    """The command that publishes an encoder, for the end of an error."""
    return f"publish it again: duovec-export publish --encoder {encoder} --repository {repository}"
