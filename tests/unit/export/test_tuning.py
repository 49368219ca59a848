"""The machine's own settings: they outlive versions, change none, and go when they are told to."""

import json
from pathlib import Path

import pytest
from small_encoder import build_small, commit_small
from typer.testing import CliRunner

from export.cli.main import app
from export.deployment import HOSTED_INSTANCES
from export.errors import ExportError
from export.publish import configure, publish_candidate, roll_back, unload
from export.repository import EncoderFolder, ServingState
from export.smoke import SmokeFailure
from export.tuning import Tuning, tuning_in
from export.version import damaged_files

TUNING = Tuning(num_threads=3, token_budget=1024, instances=2, cores=4)


@pytest.fixture
def folder(tmp_path: Path) -> EncoderFolder:
    """An encoder whose version 1 is served, on one thread as its manifest says."""
    folder = EncoderFolder(tmp_path, "small-code")
    commit_small(folder, seed=1)
    return folder


def settings(folder: EncoderFolder) -> tuple[int, int, int, str]:
    """Threads, token budget, instances and the cores tuned for, as Triton and the gateway read them."""
    config = folder.config()
    assert config is not None
    values = {key: value.string_value for key, value in config.parameters.items()}
    instances = config.instance_group[0].count
    return int(values["num_threads"]), int(values["token_budget"]), instances, values.get("tuned_for_cores", "")


def test_settings_outlive_every_change_of_versions(folder: EncoderFolder) -> None:
    """Published, rolled back, unloaded: the machine stays what it is."""
    assert settings(folder) == (1, 512, HOSTED_INSTANCES, "")
    configure(folder, TUNING, None)
    assert settings(folder) == (3, 1024, 2, "4")
    assert tuning_in(folder.config()) == TUNING
    build_small(folder, seed=2)
    publish_candidate(folder, None)
    assert settings(folder) == (3, 1024, 2, "4")
    roll_back(folder, None)
    assert settings(folder) == (3, 1024, 2, "4")
    unload(folder, [2], None)
    assert folder.state() == ServingState(served=1, loaded=(1,), newest=2)
    assert settings(folder) == (3, 1024, 2, "4")


def test_settings_change_no_version(folder: EncoderFolder) -> None:
    """Neither what was proven nor what is served."""
    commit_small(folder, seed=2)
    before = {path: path.read_bytes() for path in folder.path.glob("[0-9]*/*") if path.is_file()}
    state = folder.state()
    served = configure(folder, TUNING, None)
    assert (served.smoke, served.version.number) == ("host", 2)
    assert served.cosine == pytest.approx(1)
    assert {path: path.read_bytes() for path in before} == before
    assert folder.state() == state
    assert [damaged_files(version) for version in folder.versions()] == [[], []]


def test_reset_gives_a_version_its_own_settings_back(folder: EncoderFolder) -> None:
    """To the byte."""
    before = folder.config_path.read_bytes()
    configure(folder, TUNING, None)
    assert folder.config_path.read_bytes() != before
    configure(folder, None, None)
    assert folder.config_path.read_bytes() == before


def test_another_backend_takes_none_and_forgets_them(folder: EncoderFolder) -> None:
    """What was measured on the Python backend says nothing about Triton's own."""
    configure(folder, TUNING, None)
    native = {"backend": "onnxruntime", "num_threads": 1, "max_batch_size": 64, "length_buckets": [16, 32, 64]}
    build_small(folder, seed=2, changes={"runtime": "onnxruntime-cpu", "serving": native})
    publish_candidate(folder, None)
    assert tuning_in(folder.config()) is None
    with pytest.raises(ExportError, match="runs on Triton's own onnxruntime-cpu backend, which has no such settings"):
        configure(folder, TUNING, None)


def test_nothing_changes_when_the_version_gives_another_vector(folder: EncoderFolder) -> None:
    """It is asked before config.pbtxt is replaced."""
    build_small(folder, seed=2, canary_seed=9)
    version = folder.promote()
    text = folder.config_path.read_text().replace("versions: 1", "versions: 2")
    for name in ("served_version", "newest_version"):
        parameter = f'"{name}"\n  value {{\n    string_value: '
        text = text.replace(f'{parameter}"1"', f'{parameter}"2"')
    folder.config_path.write_text(text)
    assert folder.state() == ServingState(served=version.number, loaded=(2,), newest=2)
    with pytest.raises(SmokeFailure, match="another vector than the gate saw"):
        configure(folder, TUNING, None)
    assert folder.config_path.read_text() == text


@pytest.mark.parametrize("field", ["num_threads", "token_budget", "instances", "cores"])
def test_nonsense_is_refused(field: str) -> None:
    """One line with the limit and the value."""
    values = {"num_threads": 1, "token_budget": 1, "instances": 1, "cores": 1, field: 0}
    with pytest.raises(ExportError, match=f"{field} must be at least 1, not 0"):
        Tuning(**values)


def test_the_command_sets_several_encoders_and_says_what_it_set(folder: EncoderFolder) -> None:
    """And `--reset` takes it back."""
    repository = folder.path.parent
    other = EncoderFolder(repository, "small-text")
    commit_small(other, seed=1)
    names = ["--encoder", "small-code", "--encoder", "small-text", "--repository", str(repository)]
    told = CliRunner().invoke(app, ["configure", *names, "--threads", "2", "--token-budget", "256", "--json"])
    assert told.exit_code == 0, told.output
    rows = json.loads(told.stdout)["encoders"]
    assert [(row["encoder"], row["num_threads"], row["token_budget"], row["instances"]) for row in rows] == [
        ("small-code", 2, 256, HOSTED_INSTANCES),
        ("small-text", 2, 256, HOSTED_INSTANCES),
    ]
    assert settings(folder)[:3] == settings(other)[:3] == (2, 256, HOSTED_INSTANCES)
    back = CliRunner().invoke(app, ["configure", *names, "--reset"])
    assert "small-text: threads 1, token budget 512, instances 2; the versions' own settings" in back.stdout
    assert settings(folder) == settings(other) == (1, 512, HOSTED_INSTANCES, "")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "give --threads and --token-budget, or --reset"),
        (["--threads", "2"], 2, "--threads and --token-budget go together"),
        (["--threads", "2", "--reset"], 2, "give --threads and --token-budget, or --reset"),
    ],
)
def test_wrong_use_of_the_command(folder: EncoderFolder, arguments: list[str], code: int, message: str) -> None:
    """Exit code 2, and nothing changes."""
    before = folder.config_path.read_bytes()
    names = ["--encoder", "small-code", "--repository", str(folder.path.parent)]
    result = CliRunner().invoke(app, ["configure", *names, *arguments], terminal_width=200)
    assert result.exit_code == code
    assert message in " ".join(result.output.replace("│", " ").split())
    assert folder.config_path.read_bytes() == before
