"""The scratch repository: what the pair can be had as, by configurations of its own; nothing is written elsewhere."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from gateway.errors import StartupError
from gateway.local.tuning.choice import Settings
from gateway.local.tuning.scratch import Flavour, ScratchRepository

ENCODERS = ("compact-code", "compact-text")


def add_version(repository: Path, encoder: str, name: str, runtime: str, precision: str, **changes: Any) -> None:
    """A version folder with a graph that names it."""
    folder = repository / encoder / name
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_text(f"{encoder} {precision}")
    (folder / "canary.json").write_text("{}")
    manifest = {
        "encoder": encoder,
        "version": int(name) if name.isdecimal() else 0,
        "runtime": runtime,
        "precision": precision,
        "source": {"package": "one"},
        "spec": {"max_tokens": 512},
        "serving": {"backend": "python"},
        "files": {"model.onnx": "", "canary.json": ""},
        "gate": {"passed": True, "tolerance": {"max_batch_distance": 1e-4}},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest | changes))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Both encoders' version 1 served by OpenVINO in bf16."""
    folder = tmp_path / "models"
    for encoder in ENCODERS:
        add_version(folder, encoder, "1", "openvino", "bf16")
        (folder / encoder / "config.pbtxt").write_text(
            f'name: "{encoder}" backend: "python" version_policy {{ specific {{ versions: 1 }} }} '
            "instance_group { count: 1 kind: KIND_CPU } "
            'parameters { key: "served_version" value { string_value: "1" } } '
            'parameters { key: "num_threads" value { string_value: "2" } } '
            'parameters { key: "token_budget" value { string_value: "512" } } '
        )
    return folder


def scratch_of(repository: Path) -> ScratchRepository:
    """Beside the repository."""
    return ScratchRepository(repository, ENCODERS, repository.parent / "scratch")


def test_the_same_graph_runs_in_other_precisions_that_are_not_proven(repository: Path) -> None:
    """OpenVINO makes bf16 of the float32 graph, which onnxruntime runs as it is."""
    before = {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()}
    scratch = scratch_of(repository)
    assert scratch.flavours == [
        Flavour("openvino", "bf16", True),
        Flavour("onnxruntime", "fp32", False),
        Flavour("openvino", "fp32", False),
    ]
    for number, flavour in enumerate(scratch.flavours, start=1):
        for encoder in ENCODERS:
            folder = scratch.folder / encoder / str(number)
            manifest = json.loads((folder / "manifest.json").read_text())
            assert (manifest["runtime"], manifest["precision"]) == (flavour.runtime, flavour.precision)
            assert manifest["version"] == number
            assert (folder / "model.onnx").read_text() == f"{encoder} bf16"
            assert not (folder / "canary.json").exists()
    assert {path: path.read_bytes() for path in before} == before


def test_an_int8_graph_runs_in_other_ways_too(repository: Path) -> None:
    """OpenVINO runs the rest of it in float32 or in bf16."""
    for encoder in ENCODERS:
        shutil.rmtree(repository / encoder / "1")
        add_version(repository, encoder, "1", "openvino", "int8")
    assert scratch_of(repository).flavours == [
        Flavour("openvino", "int8", True),
        Flavour("onnxruntime", "int8", False),
        Flavour("openvino", "int8-bf16", False),
    ]


def test_a_proven_version_of_the_same_weights_is_offered_when_both_have_it(repository: Path) -> None:
    """A candidate, too; one of other weights, one that failed the gate, and one encoder's alone are not."""
    for encoder in ENCODERS:
        add_version(repository, encoder, ".candidate", "openvino", "int8")
        add_version(repository, encoder, "2", "onnxruntime", "fp16", gate={"passed": False})
        add_version(repository, encoder, "3", "openvino", "fp32", source={"package": "other"})
    add_version(repository, "compact-code", "4", "onnxruntime", "int8")
    scratch = scratch_of(repository)
    assert Flavour("openvino", "int8", True) in scratch.flavours
    assert Flavour("openvino", "fp32", False) in scratch.flavours
    assert {flavour.precision for flavour in scratch.flavours} == {"bf16", "fp32", "int8"}
    number = scratch.flavours.index(Flavour("openvino", "int8", True)) + 1
    assert (scratch.folder / "compact-text" / str(number) / "model.onnx").read_text() == "compact-text int8"


def test_a_configuration_is_the_published_one_but_for_the_settings(repository: Path) -> None:
    """And for the one version that it loads."""
    scratch = scratch_of(repository)
    assert scratch.served_settings == Settings(1, 2, 512)
    config = scratch.config("compact-code", Settings(2, 1, 1024), 3)
    assert list(config.version_policy.specific.versions) == [3]
    assert config.instance_group[0].count == 2
    values = {key: value.string_value for key, value in config.parameters.items()}
    assert values == {"served_version": "3", "num_threads": "1", "token_budget": "1024"}
    config.instance_group[0].count = 1
    published = text_format.Parse((repository / "compact-code" / "config.pbtxt").read_text(), ModelConfig())
    for key in ("served_version", "num_threads", "token_budget"):
        config.parameters[key].CopyFrom(published.parameters[key])
    config.version_policy.specific.versions[:] = [1]
    assert config == published
    assert scratch.may_move(1) == 1e-4


def test_an_encoder_on_another_backend_is_refused(repository: Path) -> None:
    """With the command that changes it."""
    path = repository / "compact-text" / "config.pbtxt"
    path.write_text(path.read_text().replace('"python"', '"onnxruntime"'))
    with pytest.raises(
        StartupError, match="compact-text runs on Triton's own onnxruntime backend; .* --runtime openvino"
    ):
        scratch_of(repository)
