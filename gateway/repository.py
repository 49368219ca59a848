"""Reads the model repository's side of config.pbtxt: which version is served, and which are kept loaded beside it."""

from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from gateway.errors import StartupError


@dataclass(frozen=True, slots=True)
class ServedVersions:
    """What Triton loads of one encoder.

    Attributes:
        served: The version that new vectors are made by.
        loaded: All versions that are loaded, the served one among them.
        token_budget: Most padded tokens that the backend runs at a time, for one that says so; 0 for the others.
    """

    served: int
    loaded: tuple[int, ...]
    token_budget: int = 0


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
    token_budget = config.parameters["token_budget"].string_value or "0"
    if not token_budget.isdecimal():
        raise StartupError(f"{path}: token_budget is {token_budget!r}, not a number; {fix}")
    return ServedVersions(int(served), loaded, int(token_budget))


def publish_hint(repository: Path, encoder: str) -> str:
    """The command that publishes an encoder, for the end of an error."""
    return f"publish it again: duovec-export publish --encoder {encoder} --repository {repository}"
