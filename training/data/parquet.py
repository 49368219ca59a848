"""A data set on the disk: train, dev and test as Parquet, and a card. Written whole or not at all."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from export.disk import FREE_SPACE, is_of_full_disk, sync_folder
from training.data.unit import SPLITS, Example, Split
from training.errors import TrainingError

CARD, README = "card.json", "README.md"
FORMAT = 1

_TEXT, _TEXTS = pa.string(), pa.list_(pa.string())
SCHEMA = pa.schema(
    [
        (one.name, _TEXTS if one.type == tuple[str, ...] else pa.int32() if one.type is int else _TEXT)
        for one in fields(Example)
    ]
)
# Where the negatives come from adds nothing to what a set holds; and sets that were mined without it keep their digest.
_NOT_DIGESTED = "negative_rows"


def digest_of(examples: Mapping[Split, Sequence[Example]]) -> str:
    """SHA-256 of what a set holds, in hexadecimal: of its rows, not of its files, which differ by Parquet's version."""
    return digest_of_rows((split, asdict(example)) for split in SPLITS for example in examples[split])


def digest_of_rows(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> str:
    """The same of rows that were read back: (split, values by column) in the order of the set."""
    digest = hashlib.sha256()
    for split, row in rows:
        held = {name: value for name, value in row.items() if name != _NOT_DIGESTED}
        digest.update(json.dumps([split, held], ensure_ascii=False, sort_keys=True).encode())
        digest.update(b"\n")
    return digest.hexdigest()


def write_set(folder: Path, examples: Mapping[Split, Sequence[Example]], card: Mapping[str, Any], readme: str) -> None:
    """Write a set beside its place, then move it there; an older set in the folder is replaced.

    Args:
        folder: Where, absolute.
        examples: Of every split.
        card: Becomes card.json.
        readme: Becomes README.md.

    Raises:
        TrainingError: The folder holds something that is no data set, or the disk refuses.
    """
    require_replaceable(folder)
    staged, old = folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")
    try:
        if old.exists() and not folder.exists():
            old.replace(folder)  # Killed between the two moves below.
        for leftover in (staged, old):
            shutil.rmtree(leftover, ignore_errors=True)
        staged.mkdir(parents=True)
        for split in SPLITS:
            rows = [asdict(example) for example in examples[split]]
            pq.write_table(pa.Table.from_pylist(rows, SCHEMA), staged / f"{split}.parquet", compression="zstd")
        (staged / CARD).write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        (staged / README).write_text(readme, encoding="utf-8")
        sync_folder(staged)
        if folder.exists():
            folder.replace(old)
        staged.replace(folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as exc:
        shutil.rmtree(staged, ignore_errors=True)
        if old.exists() and not folder.exists():
            old.replace(folder)
        remedy = f"; {FREE_SPACE}" if is_of_full_disk(exc) else ""
        raise TrainingError(
            f"cannot write {exc.filename or folder}: {exc.strerror or exc}; the set that was there is as it was{remedy}"
        ) from exc


def require_replaceable(folder: Path) -> None:
    """Make sure, before the work, that a set may be written to a folder: it is missing, empty, or holds a set.

    Raises:
        TrainingError: It holds something else, or cannot be made.
    """
    above = next(up for up in folder.parents if up.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise TrainingError(f"--output {folder}: nothing can be written in {above}; give another folder")
    if folder.exists() and not (folder / CARD).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise TrainingError(f"--output {folder} holds something that is no data set; give a new folder")
