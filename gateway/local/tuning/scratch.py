"""A model repository to try settings in: the published files, linked, under configurations of its own."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import json_format, text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from gateway.errors import StartupError
from gateway.local.tuning.choice import Settings
from gateway.repository import publish_hint, read_served_versions

_SAME_GRAPH = (
    {("openvino", "fp32"), ("openvino", "bf16"), ("onnxruntime", "fp32")},
    {("openvino", "int8"), ("openvino", "int8-bf16"), ("onnxruntime", "int8")},
)
"""Runtimes and precisions that run one and the same ONNX file: OpenVINO makes bf16 of float32 itself."""


@dataclass(frozen=True, order=True)
class Flavour:
    """A runtime and precision that both encoders can be had in.

    Attributes:
        runtime: `openvino` or `onnxruntime`; of both encoders, where the served ones differ.
        precision: `fp32`, `bf16`, `fp16`, `int8` or `int8-bf16`; of both encoders, where the served ones differ.
        is_proven: Whether the gate has passed it for both encoders already, or `publish` has yet to run it.
    """

    runtime: str
    precision: str
    is_proven: bool


@dataclass(frozen=True)
class _Source:
    """A version folder, and the manifest that it is tried with."""

    folder: Path
    manifest: dict[str, Any]
    is_proven: bool


class ScratchRepository:
    """Both encoders' served versions, and what else they can be had as, numbered from 1 in `flavours`."""

    def __init__(self, repository: Path, encoders: Sequence[str], folder: Path) -> None:
        """Link the files.

        Args:
            repository: The published models.
            encoders: Code encoder and text encoder.
            folder: An empty folder for the scratch repository.

        Raises:
            StartupError: A served version does not run on the Python backend, or is unreadable.
        """
        self.folder = folder
        self._encoders = list(encoders)
        self._configs = {name: _read_config(repository, name) for name in encoders}
        served, offered = {}, {}
        for name in encoders:
            number = read_served_versions(repository, name).served
            served[name] = _source(repository / name / str(number), name, repository)
            offered[name] = _offered(repository / name, served[name])
        code, text = (_flavour_of(served[name]) for name in encoders)
        common = {one for one in offered[encoders[0]] if one in offered[encoders[1]] and (one, one) != (code, text)}
        both = [one if one == other else f"{one}, {other}" for one, other in zip(code, text, strict=True)]
        self.flavours = [Flavour(both[0], both[1], is_proven=True)]
        """What the served pair runs as, and after it the others; their places plus one are the version numbers."""
        for key in sorted(common):
            self.flavours.append(Flavour(*key, all(offered[name][key].is_proven for name in encoders)))
        for name in encoders:
            _link(served[name], folder / name / "1", 1)
            for number, key in enumerate(sorted(common), start=2):
                _link(offered[name][key], folder / name / str(number), number)
            (folder / name / "config.pbtxt").write_text(text_format.MessageToString(self.config(name, None, 1)))

    @property
    def served_settings(self) -> Settings:
        """The settings that are published, of the code encoder; `duovec tune` gives both the same."""
        config = self._configs[self._encoders[0]]
        return Settings(
            instances=sum(group.count for group in config.instance_group),
            num_threads=int(config.parameters["num_threads"].string_value),
            token_budget=int(config.parameters["token_budget"].string_value),
        )

    def may_move(self, number: int) -> float:
        """How far the gate lets a vector of either encoder move among other rows, as a cosine distance."""
        limits = []
        for name in self._encoders:
            path = self.folder / name / str(number) / "manifest.json"
            gate = json.loads(path.read_text(encoding="utf-8")).get("gate") or {}
            limits.append(float(gate.get("tolerance", {}).get("max_batch_distance", 0.0)))
        return min(limits)

    def weights_bytes(self) -> int:
        """Bytes of both served graphs."""
        return sum(
            path.stat().st_size for name in self._encoders for path in (self.folder / name / "1").glob("*.onnx*")
        )

    def config(self, encoder: str, settings: Settings | None, number: int) -> ModelConfig:
        """The configuration that runs one version by some settings; by the published ones where None."""
        config = ModelConfig()
        config.CopyFrom(self._configs[encoder])
        config.version_policy.specific.versions[:] = [number]
        config.parameters["served_version"].string_value = str(number)
        if settings is not None:
            config.instance_group[0].count = settings.instances
            config.parameters["num_threads"].string_value = str(settings.num_threads)
            config.parameters["token_budget"].string_value = str(settings.token_budget)
        return config

    def config_json(self, encoder: str, settings: Settings, number: int) -> str:
        """The same, as Triton takes it with a `load` call."""
        return json_format.MessageToJson(self.config(encoder, settings, number), preserving_proto_field_name=True)


def _read_config(repository: Path, encoder: str) -> ModelConfig:
    read_served_versions(repository, encoder)  # says what is wrong with it
    path = repository / encoder / "config.pbtxt"
    config = text_format.Parse(path.read_text(encoding="utf-8"), ModelConfig())
    if config.backend != "python":
        raise StartupError(
            f"{encoder} runs on Triton's own {config.backend} backend; only the Python backend has settings to tune. "
            f"To change it: duovec-export publish --encoder {encoder} --runtime openvino --repository {repository}"
        )
    return config


def _source(folder: Path, encoder: str, repository: Path) -> _Source:
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_bytes())
        gate = manifest.get("gate") or {}
        return _Source(folder, manifest, bool(gate.get("passed")))
    except (OSError, ValueError, AttributeError) as exc:
        raise StartupError(f"{path} is unreadable ({exc!r}); {publish_hint(repository, encoder)}") from exc


def _flavour_of(source: _Source) -> tuple[str, str]:
    return str(source.manifest["runtime"]), str(source.manifest["precision"])


def _offered(folder: Path, served: _Source) -> dict[tuple[str, str], _Source]:
    """What an encoder can be had as: other proven versions of the same weights, and what runs the same graph."""
    offered = {}
    for runtime, precision in next((ways for ways in _SAME_GRAPH if _flavour_of(served) in ways), ()):
        manifest = {**served.manifest, "runtime": runtime, "precision": precision}
        offered[runtime, precision] = _Source(served.folder, manifest, is_proven=False)
    for path in (*sorted(folder.glob("[0-9]*"), key=lambda one: int(one.name)), folder / ".candidate"):
        if not (path / "manifest.json").is_file():
            continue
        other = _source(path, folder.name, folder.parent)
        same_weights = all(other.manifest.get(key) == served.manifest[key] for key in ("source", "spec"))
        if same_weights and other.is_proven and other.manifest.get("serving", {}).get("backend") == "python":
            offered[_flavour_of(other)] = other
    return offered


def _link(source: _Source, folder: Path, number: int) -> None:
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({**source.manifest, "version": number}))
    for name in source.manifest["files"]:
        # Without a canary nothing of what is compiled here is kept.
        if name != "canary.json":
            _link_file((source.folder / name).resolve(), folder / name)


def _link_file(source: Path, target: Path) -> None:
    # A hard link where both are on one disk: runtimes may refuse external data that a symbolic link leads elsewhere.
    try:
        target.hardlink_to(source)
    except OSError:
        target.symlink_to(source)
