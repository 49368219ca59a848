"""What of a mined data set is trained on, and what is refused."""

import dataclasses
from collections import Counter
from pathlib import Path

import pyarrow
import pyarrow.parquet as parquet
import pytest
from mined_data import rows_of, write_data

from training.dataset import Row, absent_styles, columns_of, data_digest, load_rows, training_rows
from training.errors import InsufficientTrainingData, TrainingError
from training.recipe import DataRecipe, load_recipe

RECIPES = sorted((Path(__file__).parents[3] / "training" / "recipes").glob("*.toml"))


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
    rows = load_rows(write_data(tmp_path), "dev")
    mined = rows_of("textwrap")[0]
    assert (rows[0].query, rows[0].positive, rows[0].unit) == (mined["query"], mined["positive"], mined["unit"])
    assert rows[0].origin == f"textwrap.py:{mined['start_line']}-{mined['end_line']}"
    assert len(data_digest(tmp_path)) == 64


def test_the_digest_is_of_every_split(tmp_path: Path) -> None:
    """Other test rows are another data set, too."""
    before = data_digest(write_data(tmp_path))
    parquet.write_table(pyarrow.Table.from_pylist(rows_of("textwrap")), tmp_path / "test.parquet")
    assert data_digest(tmp_path) != before


def test_the_digest_is_of_the_rows_and_not_of_the_files(tmp_path: Path) -> None:
    """Another version or setting of Parquet's writer gives other bytes and the same set."""
    before = data_digest(write_data(tmp_path))
    path = tmp_path / "train.parquet"
    content = path.read_bytes()
    parquet.write_table(parquet.read_table(path), path, compression="gzip", row_group_size=7)
    assert path.read_bytes() != content
    assert data_digest(tmp_path) == before


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
    for negatives in ("one text", [1, 2]):
        parquet.write_table(pyarrow.Table.from_pylist([{**table[0], "negatives": negatives}]), tmp_path / "dev.parquet")
        with pytest.raises(TrainingError, match=r"dev\.parquet: negatives are .*; the column must hold lists of texts"):
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


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_styles_that_the_data_lacks_leave_their_shares_to_the_others(path: Path, tmp_path: Path) -> None:
    """Code without tests and git history is ordinary, and every committed recipe names their styles."""
    recipe = load_recipe(path)[0].data
    rows = [_row(n, style="docstring" if n % 2 else "comment") for n in range(1000)]
    chosen = Counter(row.style for row in training_rows(rows, recipe, 5, tmp_path))
    assert chosen["docstring"] == 500  # the larger share: all that there is
    assert chosen["comment"] == round(
        1000 * recipe.shares["comment"] / (recipe.shares["docstring"] + recipe.shares["comment"])
    )
    assert {"symbol", "commit"} <= set(absent_styles(rows, recipe)) == recipe.shares.keys() - {"docstring", "comment"}


def test_a_recipe_without_any_style_of_the_data_is_an_error(tmp_path: Path) -> None:
    """So is a name that mining does not know: it is a slip, which would train on other shares than were meant."""
    rows = [_row(n) for n in range(1000)]
    with pytest.raises(TrainingError, match=r"no query of style 'commit'; it has docstring"):
        training_rows(rows, DataRecipe(shares={"feedback": 1, "commit": 2}), 5, tmp_path)
    with pytest.raises(TrainingError, match=r"no query of style 'docstrings'; it has docstring"):
        training_rows(rows, DataRecipe(shares={"docstring": 1, "docstrings": 1}), 5, tmp_path)


def test_shares_that_leave_less_than_a_hundred_rows_are_refused(tmp_path: Path) -> None:
    """570 rows are enough, but not at 99 commits for each docstring where there are 5 commits."""
    rows = [_row(n, style="commit" if n < 5 else "docstring") for n in range(570)]
    shares = {"docstring": 1.0, "commit": 99.0}
    with pytest.raises(InsufficientTrainingData, match=r"data\.shares \(of 570 rows\) gives 11 triplets, at least 100"):
        training_rows(rows, DataRecipe(shares=shares), 0, tmp_path)
    assert len(training_rows(rows, DataRecipe(rows_an_epoch=40), 0, tmp_path)) == 40  # as was asked
    with pytest.raises(InsufficientTrainingData, match="gives 5 triplets"):
        training_rows(rows, DataRecipe(shares=shares, rows_an_epoch=40), 0, tmp_path)


def test_shares_that_round_down_do_not_refuse_a_hundred_rows(tmp_path: Path) -> None:
    """A third of 100 each is 99 rows."""
    rows = [_row(n, style=("docstring", "comment", "symbol")[n % 3]) for n in range(105)]
    recipe = DataRecipe(shares={"docstring": 1, "comment": 1, "symbol": 1}, rows_an_epoch=100)
    assert len(training_rows(rows, recipe, 0, tmp_path)) == 99


def test_an_empty_set_is_too_little(tmp_path: Path) -> None:
    """Not a style that is missing: there is nothing."""
    with pytest.raises(InsufficientTrainingData, match="gives 0 triplets"):
        training_rows([], DataRecipe(shares={"docstring": 1}), 0, tmp_path)


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
