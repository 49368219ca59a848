"""Real source code for the miners: packages of the standard library, copied into a folder of their own."""

import shutil
import sysconfig
from collections import Counter
from pathlib import Path

from training.data.mining import MinedSet, MiningSettings, mine
from training.data.negatives import lexical_pools
from training.data.sources import list_sources, read_units
from training.data.unit import Unit

PACKAGES = ("concurrent", "email", "http", "json", "logging", "wsgiref")


def copy_packages(folder: Path, packages: tuple[str, ...] = PACKAGES) -> Path:
    library = Path(sysconfig.get_path("stdlib"))
    for name in packages:
        shutil.copytree(library / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def units_in(folder: Path, counts: Counter[str] | None = None) -> list[Unit]:
    counts = Counter() if counts is None else counts
    return [unit for listing in list_sources([folder], []) for unit in read_units(listing, counts)]


def mine_units(units: list[Unit], **settings: object) -> MinedSet:
    return mine(
        units,
        MiningSettings(**settings),  # type: ignore[arg-type]
        pools=[lexical_pools],
        counts=Counter(),
        report=lambda stage, done, total: None,
    )


def unit_of(content: str, *, path: str = "src/mod.py", symbol: str = "thing", kind: str = "function") -> Unit:
    end = content.count("\n") + 1
    return Unit("src", path, "python", symbol, kind, 1, end, content, (f"{path}:1-{end}",))
