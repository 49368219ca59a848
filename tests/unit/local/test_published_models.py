"""A model that is not the one that was published is never served."""

import hashlib
import json
from pathlib import Path

import pytest

from export import spec
from gateway.errors import StartupError
from gateway.local.models import PAIRS, describe_settings, verify_repository
from gateway.repository import read_served_versions

ENCODERS = ("compact-code", "compact-text")
FILES = {"model.onnx": b"graph", "tokenizer.json": b"{}", "model.py": b"pass"}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for encoder in ENCODERS:
        version = tmp_path / encoder / "1"
        version.mkdir(parents=True)
        (version.parent / "config.pbtxt").write_text(
            f'name: "{encoder}" version_policy {{ specific {{ versions: 1 }} }} '
            'parameters { key: "served_version" value { string_value: "1" } }'
        )
        for name, content in FILES.items():
            (version / name).write_bytes(content)
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
        manifest = {"encoder": encoder, "version": 1, "files": digests}
        (version / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path


def test_an_intact_repository_lists_its_versions(repository: Path) -> None:
    assert verify_repository(repository, ENCODERS) == ["compact-code/1", "compact-text/1"]


def test_a_changed_byte_names_the_file_and_the_command_that_mends_it(repository: Path) -> None:
    path = repository / "compact-text" / "1" / "model.onnx"
    path.write_bytes(b"grapH")
    with pytest.raises(StartupError) as caught:
        verify_repository(repository, ENCODERS)
    assert str(caught.value) == (
        f"{path} is corrupt: its SHA-256 is not that of its manifest; "
        f"publish it again: duovec-export publish --encoder compact-text --repository {repository}"
    )


@pytest.mark.parametrize("missing", ["1/manifest.json", "1/model.onnx", "1/tokenizer.json", "1/model.py"])
def test_a_missing_file_is_named(repository: Path, missing: str) -> None:
    path = repository / "compact-code" / missing
    path.unlink()
    with pytest.raises(StartupError, match="is missing; publish it again") as caught:
        verify_repository(repository, ENCODERS)
    assert str(path) in str(caught.value)


def test_an_encoder_that_was_never_published_is_named(repository: Path) -> None:
    (repository / "compact-code" / "config.pbtxt").unlink()
    with pytest.raises(StartupError, match=r"no encoder is published: .*compact-code/config\.pbtxt"):
        verify_repository(repository, ENCODERS)


def test_versions_that_are_not_loaded_are_not_read(repository: Path) -> None:
    """Old versions of some gigabytes each must not delay the start."""
    (repository / "compact-code" / "2").mkdir()
    assert verify_repository(repository, ENCODERS) == ["compact-code/1", "compact-text/1"]


def test_the_pairs_are_those_of_the_exporter() -> None:
    """`duovec up --pair X` serves what `duovec-export publish --pair X` publishes."""
    assert dict(PAIRS) == dict(spec.PAIRS)


@pytest.mark.parametrize("manifest", ["{", "[]", "{}", '{"files": [1], "encoder": "x", "version": 1}'])
def test_an_unreadable_manifest_is_named(repository: Path, manifest: str) -> None:
    (repository / "compact-code" / "1" / "manifest.json").write_text(manifest)
    with pytest.raises(StartupError, match=r"compact-code/1/manifest\.json is unreadable"):
        verify_repository(repository, ENCODERS)


def test_a_version_copied_from_another_encoder_is_refused(repository: Path) -> None:
    source = repository / "compact-text" / "1" / "manifest.json"
    (repository / "compact-code" / "1" / "manifest.json").write_bytes(source.read_bytes())
    with pytest.raises(StartupError, match="belongs to compact-text/1"):
        verify_repository(repository, ENCODERS)


def _run_by(repository: Path, encoder: str, **settings: int) -> None:
    """Write a config.pbtxt as the exporter does for the Python backend."""
    parameters = {"served_version": 1, "num_threads": 2, "token_budget": 512} | settings
    instances = parameters.pop("instances", 1)
    (repository / encoder / "config.pbtxt").write_text(
        f'name: "{encoder}" backend: "python" version_policy {{ specific {{ versions: 1 }} }} '
        f"instance_group {{ count: {instances} kind: KIND_CPU }} "
        + " ".join(
            f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}' for key, value in parameters.items()
        )
    )


def test_how_the_encoders_are_run_is_said_in_words(repository: Path) -> None:
    """As `duovec up` shows it; settings of another machine are called so."""
    assert describe_settings(repository, ENCODERS, cores=2) == "run by Triton's own backend"
    for encoder in ENCODERS:
        _run_by(repository, encoder)
    assert describe_settings(repository, ENCODERS, cores=2) == "threads 2, token budget 512, not tuned"
    tuned = {"num_threads": 1, "token_budget": 1024, "instances": 2, "tuned_for_cores": 2}
    _run_by(repository, "compact-code", **tuned)
    assert describe_settings(repository, ENCODERS, cores=2) == (
        "compact-code: 2 instances, threads 1, token budget 1024, tuned, "
        "compact-text: threads 2, token budget 512, not tuned"
    )
    _run_by(repository, "compact-text", **tuned)
    assert describe_settings(repository, ENCODERS, cores=8) == (
        "2 instances, threads 1, token budget 1024, tuned for 2 cores and this machine has 8: run duovec tune"
    )
    settings = read_served_versions(repository, "compact-code").settings
    assert settings is not None
    assert (settings.token_budget, settings.instances) == (1024, 2)


def test_settings_that_are_no_numbers_are_named(repository: Path) -> None:
    path = repository / "compact-code" / "config.pbtxt"
    _run_by(repository, "compact-code")
    path.write_text(path.read_text().replace('"512"', '"many"'))
    with pytest.raises(StartupError, match=r"config.pbtxt: token_budget is 'many', not a number; publish it again"):
        describe_settings(repository, ENCODERS, cores=2)
