"""`duovec-train mine` as it is typed."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from mined_sources import copy_packages
from typer.testing import CliRunner

from training.cli.main import app
from training.data.parquet import SCHEMA, write_set
from training.data.unit import SPLITS
from training.dataset import data_digest
from training.errors import TrainingError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_packages(tmp_path_factory.mktemp("library"), ("concurrent", "http", "json", "logging", "xmlrpc"))


def _run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["mine", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_set_on_the_disk_is_what_the_card_says(folder: Path, tmp_path: Path) -> None:
    """Twice the same command, byte for byte the same card and the same files."""
    code, out, err = _run("--source", folder, "--output", tmp_path / "one", "--json")
    assert code == 0, err
    card = json.loads(out)
    assert _run("--source", folder, "--output", tmp_path / "two")[0] == 0
    for name in ("card.json", "README.md", *(f"{split}.parquet" for split in SPLITS)):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert json.loads((tmp_path / "one" / "card.json").read_text()) == {
        key: value for key, value in card.items() if key != "output"
    }
    for split in SPLITS:
        table = pq.read_table(tmp_path / "one" / f"{split}.parquet")
        assert table.schema.equals(SCHEMA)
        assert table.num_rows == card["examples"][split] > 0
        assert set(table["package"].to_pylist()) == set(card["packages"][split])
    assert data_digest(tmp_path / "one") == card["sha256"]  # what a run's lineage says of the set
    assert card["examples"]["train"] >= 100
    assert card["counts"]["files read"] == 21
    assert card["warnings"] == ["every example is python: nothing is learned or measured for other languages"]


def test_a_set_is_replaced_whole_and_nothing_else_is(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "set"
    output.mkdir()
    (output / "thesis.txt").write_text("mine")
    code, _, err = _run("--source", folder, "--output", output)
    assert (code, _names(output)) == (1, ["thesis.txt"])
    assert "holds something that is no data set; give a new folder" in err
    (output / "thesis.txt").unlink()
    assert _run("--source", folder, "--output", output)[0] == 0
    assert _run("--source", folder, "--output", output, "--seed", 5)[0] == 0
    assert json.loads((output / "card.json").read_text())["settings"]["seed"] == 5
    assert _names(tmp_path) == ["set"]


def test_a_disk_that_refuses_leaves_the_old_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "set"
    empty = {split: [] for split in SPLITS}
    write_set(output, empty, {"old": True}, "")  # type: ignore[arg-type]

    def refuse(*arguments: object, **named: object) -> None:
        raise OSError(28, "No space left on device", "train.parquet")

    monkeypatch.setattr(pq, "write_table", refuse)
    told = "cannot write train.parquet: No space left on device; the set that was there is as it was; free some space"
    with pytest.raises(TrainingError, match=told):
        write_set(output, empty, {"old": False}, "")  # type: ignore[arg-type]
    assert json.loads((output / "card.json").read_text()) == {"old": True}
    assert _names(tmp_path) == ["set"]
    output.rename(tmp_path / ".set.old")  # as a kill between the two moves leaves it
    with pytest.raises(TrainingError, match="No space left"):
        write_set(output, empty, {"old": False}, "")  # type: ignore[arg-type]
    assert json.loads((output / "card.json").read_text()) == {"old": True}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "give --source, --packages or --database-url"),
        (("--source", ".", "--codebase", "x"), 2, "read a database, --source and --packages read files"),
        (("--source", "no-such-folder"), 1, "--source no-such-folder: no such file or folder"),
        (("--packages", "no-such-package"), 1, "--packages no-such-package: no such distribution is installed"),
        (("--packages", "pluggy"), 1, "INSUFFICIENT_TRAINING_DATA|1 packages with examples"),
        (("--database-url", "postgresql://u:secret@127.0.0.1:1/none"), 1, "cannot read postgresql://127.0.0.1:1/none"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    arguments: tuple[str, ...], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DUOVEC_DATABASE_URL", raising=False)
    found, _, err = _run(*arguments, "--output", tmp_path / "set")
    assert found == code
    text = " ".join(err.replace("│", " ").split())
    assert any(one in text for one in message.split("|"))
    assert "secret" not in text and "Traceback" not in text
    assert not (tmp_path / "set").exists()


def test_an_output_that_cannot_be_made_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = _run("--source", "no-such-folder", "--output", tmp_path / "file" / "set")
    assert code == 1
    assert f"nothing can be written in {tmp_path / 'file'}; give another folder" in " ".join(err.split())


def test_an_empty_folder_is_too_little(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, _, err = _run("--source", tmp_path / "empty", "--output", tmp_path / "set")
    assert code == 1
    assert "INSUFFICIENT_TRAINING_DATA: the source gives 0 triplets" in err
