"""What of a mined data set is trained on, and what is refused."""

import dataclasses
from collections import Counter
from pathlib import Path

import pyarrow
import pyarrow.parquet as parquet
import pytest
from mined_data import rows_of, write_data

from training.dataset import Row, columns_of, data_digest, load_rows, training_rows
from training.errors import InsufficientTrainingData, TrainingError
from training.recipe import DataRecipe


def _row(number: int, **changes: object) -> Row:
    row = Row(
        query=f"query {number}",
        positive=f"Shop.buy\ndef buy(self):\n    return self.buy({number})",
        negatives=("own negative",) * (number % 3),
        style="docstring",
        language="python",
        package=f"package {number % 4}",
        symbol="Shop.buy",
        unit="",
        origin=f"shop.py:{number}-{number}",
    )
    return dataclasses.replace(row, **changes)  # type: ignore[arg-type]


def test_rows_are_read_as_they_were_mined(tmp_path: Path) -> None:
    """Every column arrives in its field."""
    rows = load_rows(write_data(tmp_path), "test")
    mined = rows_of("tempfile")[0]
    assert (rows[0].query, rows[0].positive, rows[0].unit) == (mined["query"], mined["positive"], mined["unit"])
    assert rows[0].origin == f"tempfile.py:{mined['start_line']}-{mined['end_line']}"
    assert len(data_digest(tmp_path)) == 64


def test_the_digest_is_of_every_split(tmp_path: Path) -> None:
    """Other test rows are another data set, too."""
    before = data_digest(write_data(tmp_path))
    parquet.write_table(pyarrow.Table.from_pylist(rows_of("textwrap")), tmp_path / "test.parquet")
    assert data_digest(tmp_path) != before


def test_damaged_data_is_named(tmp_path: Path) -> None:
    """No file, no Parquet, no column, no text: each is one clear line."""
    write_data(tmp_path)
    table = rows_of("textwrap")
    parquet.write_table(pyarrow.Table.from_pylist([{**table[0], "query": " "}]), tmp_path / "dev.parquet")
    with pytest.raises(TrainingError, match=r"dev\.parquet: row 0 \(textwrap\.py:.*\) has an empty query"):
        load_rows(tmp_path, "dev")
    without = [{key: value for key, value in row.items() if key != "symbol"} for row in table]
    parquet.write_table(pyarrow.Table.from_pylist(without), tmp_path / "dev.parquet")
    with pytest.raises(TrainingError, match=r"dev\.parquet has no column 'symbol'"):
        load_rows(tmp_path, "dev")
    (tmp_path / "dev.parquet").write_bytes(b"not parquet")
    with pytest.raises(TrainingError, match=r"dev\.parquet is no Parquet file"):
        load_rows(tmp_path, "dev")
    (tmp_path / "dev.parquet").unlink()
    with pytest.raises(TrainingError, match=r"dev\.parquet is missing; `duovec-train mine`"):
        data_digest(tmp_path)


def test_styles_come_at_their_shares(tmp_path: Path) -> None:
    """A rare style gives all that it has; the seed decides which rows of the others."""
    rows = [_row(n, style="docstring" if n < 800 else "comment" if n < 980 else "commit") for n in range(1000)]
    recipe = DataRecipe(shares={"docstring": 2, "comment": 1, "commit": 1}, rows_an_epoch=400)
    chosen = training_rows(rows, recipe, 5, tmp_path)
    assert Counter(row.style for row in chosen) == {"docstring": 200, "comment": 100, "commit": 20}
    assert chosen == training_rows(rows, recipe, 5, tmp_path)
    assert chosen != training_rows(rows, recipe, 6, tmp_path)
    with pytest.raises(TrainingError, match=r"no query of style 'feedback'; it has comment, commit, docstring"):
        training_rows(rows, DataRecipe(shares={"feedback": 1}), 5, tmp_path)


def test_duplicates_do_not_make_a_hundred(tmp_path: Path) -> None:
    """99 distinct rows are too few, however often they come."""
    rows = [_row(n % 99) for n in range(5000)]
    with pytest.raises(
        InsufficientTrainingData, match=r"INSUFFICIENT_TRAINING_DATA: .* gives 99 triplets, at least 100"
    ):
        training_rows(rows, DataRecipe(), 0, tmp_path)


def test_names_are_blanked_in_their_share_of_the_passages() -> None:
    """The name goes from the symbol line and from the code; the rest of the passage stays."""
    rows = [_row(n) for n in range(1000)]
    positives = columns_of(rows, DataRecipe(blank_names=0.5), 1)["positive"]
    blanked = [text for text in positives if "buy" not in text]
    assert 440 < len(blanked) < 560
    assert blanked[0].startswith("Shop._\ndef _(self):")


def test_missing_negatives_come_from_other_packages() -> None:
    """Every row must have as many; a passage of another package is a true negative."""
    rows = [_row(n) for n in range(40)]
    columns = columns_of(rows, DataRecipe(hard_negatives=2), 1)
    for number, row in enumerate(rows):
        given = [columns["negative_1"][number], columns["negative_2"][number]]
        assert given[: len(row.negatives)] == list(row.negatives)
        for text in given[len(row.negatives) :]:
            assert next(one for one in rows if one.positive == text).package != row.package
