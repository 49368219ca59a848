"""A mined data set, as far as training and evaluation read it: typed rows, its hash, names blanked."""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as parquet

from training.data.blanking import blank_name
from training.data.parquet import digest_of_rows
from training.data.unit import SPLITS, STYLES
from training.errors import MIN_TRIPLETS, InsufficientTrainingData, TrainingError
from training.recipe import DataRecipe
from training.table import shorten

_ROWS_AT_A_TIME = 4096
_TEXT = ("query", "positive", "query_style", "language", "package", "path", "symbol")


@dataclass(frozen=True)
class Row:
    """A query and the passage that answers it.

    Attributes:
        query: As typed, without prompt.
        positive: The passage, as the gateway embeds a chunk: its symbol, a line break, its content.
        negatives: Mined passages that do not answer it.
        style: What kind of text the query is, such as `docstring`.
        language: Of the passage.
        package: Package or codebase; splits go by it.
        symbol: Dotted name of what the passage defines.
        unit: Id of what the passage defines: rows of one unit have the same answer. Empty where nobody knows.
        origin: `path:start-end`, for messages.
    """

    query: str
    positive: str
    negatives: tuple[str, ...]
    style: str
    language: str
    package: str
    symbol: str
    unit: str
    origin: str

    @property
    def blanked(self) -> str:
        """The passage without the name of what it defines."""
        return blank_name(self.positive, self.symbol)


def data_digest(folder: Path) -> str:
    """SHA-256 of the rows of the three splits, as the set's card states it; computed, for a card may be of other files.

    Raises:
        TrainingError: A file is missing or no Parquet file.
    """
    return digest_of_rows((split, row) for split in SPLITS for row in _rows(_reading(folder, split)))


def load_rows(folder: Path, split: str) -> list[Row]:
    """All rows of one split, in the file's order.

    Raises:
        TrainingError: The file is missing, is no Parquet file, lacks a column, or holds an empty text or negatives
            that are no list.
    """
    path = _reading(folder, split)
    try:
        rows = [_row(one) for one in _rows(path)]
    except TypeError as exc:
        raise TrainingError(f"{path}: {exc}; the column must hold lists of texts") from exc
    except KeyError as exc:
        raise TrainingError(f"{path} has no column {exc}; mine the data again with this version") from exc
    for number, row in enumerate(rows):
        if not row.query.strip() or not row.positive.strip():
            raise TrainingError(f"{path}: row {number} ({row.origin}) has an empty query or passage")
    return rows


def training_rows(rows: Sequence[Row], recipe: DataRecipe, seed: int, where: Path) -> list[Row]:
    """The rows of a run: distinct, each style at its share, drawn by the seed.

    A style without rows leaves its share to the others: see `absent_styles`.

    Raises:
        InsufficientTrainingData: Fewer than 100 are left, or than `rows_an_epoch` where that is less.
        TrainingError: No style of the recipe occurs in the data, or one that mining does not know is not there.
    """
    styles: dict[str, list[Row]] = {}
    for row in {(row.query, row.positive): row for row in rows}.values():
        styles.setdefault(row.style, []).append(row)
    if not styles:
        raise InsufficientTrainingData(0, where)
    for style in absent_styles(rows, recipe):
        # Of a style that mining knows there may be none, such as commits without git; any other is a slip of the pen.
        if style not in STYLES or styles.keys().isdisjoint(recipe.shares):
            raise TrainingError(f"{where} has no query of style {style!r}; it has {', '.join(sorted(styles))}")
    shares = {style: share for style, share in recipe.shares.items() if style in styles}
    shares = shares or {style: float(len(found)) for style, found in styles.items()}
    count = sum(len(styles[style]) for style in shares)
    if count < MIN_TRIPLETS:
        raise InsufficientTrainingData(count, where)
    wanted = min(count, recipe.rows_an_epoch or count)
    quotas = {style: wanted * share / sum(shares.values()) for style, share in sorted(shares.items())}
    reached = round(sum(min(quota, len(styles[style])) for style, quota in quotas.items()))
    if reached < min(MIN_TRIPLETS, wanted):
        raise InsufficientTrainingData(reached, f"{where} at the recipe's data.shares (of {count} rows)")
    draw = random.Random(seed)  # noqa: S311
    chosen: list[Row] = []
    for style, quota in quotas.items():
        chosen += draw.sample(styles[style], min(round(quota), len(styles[style])))
    draw.shuffle(chosen)
    return chosen


def absent_styles(rows: Sequence[Row], recipe: DataRecipe) -> list[str]:
    """The styles that the recipe's shares name and no row has, sorted."""
    return sorted(recipe.shares.keys() - {row.style for row in rows})


def columns_of(rows: Sequence[Row], recipe: DataRecipe, seed: int) -> dict[str, list[Any]]:
    """What the trainer reads: query, positive, negative_1 …, and each row's number, by which messages name it."""
    draw = random.Random(seed + 1)  # noqa: S311
    columns: dict[str, list[Any]] = {
        "query": [row.query for row in rows],
        "positive": [row.blanked if draw.random() < recipe.blank_names else row.positive for row in rows],
    }
    for number in range(recipe.hard_negatives):
        columns[f"negative_{number + 1}"] = [_negative(rows, row, number, draw) for row in rows]
    columns["row"] = list(range(len(rows)))
    return columns


def card_of(folder: Path) -> dict[str, Any]:
    """The data set's own card; empty where there is none."""
    path = folder / "card.json"
    if not path.is_file():
        return {}
    try:
        card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as exc:
        raise TrainingError(f"{path} is not JSON: {exc}; mine the data again") from exc
    return card


def _negative(rows: Sequence[Row], row: Row, number: int, draw: random.Random) -> str:
    """The row's own negative of that number, else another row's passage.

    One of another package and the same language, which twenty draws find where they are not rare; else the first that
    is not the row's own.
    """
    if number < len(row.negatives):
        return row.negatives[number]
    other = row
    for _ in range(20):
        other = draw.choice(rows)
        if other.package != row.package and other.language == row.language:
            return other.positive
    return next((one.positive for one in rows if one.positive != row.positive), other.positive)


def _reading(folder: Path, split: str) -> Path:
    path = folder / f"{split}.parquet"
    if not path.is_file():
        raise TrainingError(f"{path} is missing; `duovec-train mine` makes the data set")
    return path


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_ROWS_AT_A_TIME):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as exc:
        raise TrainingError(f"{path} is no Parquet file: {exc}; mine the data again") from exc


def _texts(value: Any) -> tuple[str, ...]:
    """A list's texts; a text alone, which Python would take for a list of letters, is refused."""
    if value is not None and not (isinstance(value, list) and all(isinstance(one, str) for one in value)):
        raise TypeError(f"negatives are {shorten(value)}")
    return tuple(value or ())


def _row(values: dict[str, Any]) -> Row:
    text = {name: str(values[name] or "") for name in _TEXT}
    return Row(
        query=text["query"],
        positive=text["positive"],
        negatives=_texts(values["negatives"]),
        style=text["query_style"],
        language=text["language"],
        package=text["package"],
        symbol=text["symbol"],
        unit=str(values.get("unit") or ""),
        origin=f"{text['path']}:{values['start_line']}-{values['end_line']}",
    )
