"""Reads source code from folders and installed packages into units."""

import importlib.metadata
import platform
import re
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from gateway.client.chunking import chunk_file
from gateway.client.files import FileTree, SkippedFile, find_files, read_source
from gateway.client.languages import grammar_of
from training.data.unit import Unit, is_test_path
from training.errors import TrainingError

STANDARD_LIBRARY, ALL_INSTALLED = "stdlib", "all"

# A definition is read whole: what is cut off of a long one is cut after its docstring is out.
_UNIT_CHARS = 20_000
_VENDOR = frozenset({"_vendor", "_vendored", "vendor", "vendored", "third_party", "externals", "extern", "_extern"})
_NO_LIBRARY = frozenset({"site-packages", "lib-dynload", "idlelib", "lib2to3", "turtledemo", "pydoc_data", "ensurepip"})
_GENERATED = re.compile(
    r"auto[- ]?(?:matically )?generated|@generated|generated (?:by|from|file|code)|do not edit|machine[- ]generated",
    re.IGNORECASE,
)
_HEAD_CHARS = 1000
_LONG_LINE_CHARS, _MINIFIED_MEAN_CHARS = 2000, 150


@dataclass(frozen=True, slots=True)
class Origin:
    """Where units came from, for the card.

    Attributes:
        name: Of the folder, distribution, or codebase.
        version: Of the distribution or of Python; "" where there is none.
    """

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Listing:
    """Files of one origin, and how its paths become packages."""

    origin: Origin
    tree: FileTree
    package_of: Callable[[str], str]


def list_sources(folders: Sequence[Path], packages: Sequence[str]) -> list[Listing]:
    """Find what there is to read.

    Args:
        folders: Source trees. Each folder in one that holds code directly, and no folder above it does, is a package.
        packages: Installed distributions by name; "stdlib" is Python's own library, each top module of it a package;
            "all" every distribution of this environment that is no editable install.

    Raises:
        TrainingError: A folder is missing, two have the same name, or a distribution is not installed.
    """
    listings = [_folder(folder) for folder in folders]
    names = Counter(listing.origin.name for listing in listings)
    for name, count in names.items():
        if count > 1:
            raise TrainingError(f"--source: {count} folders are called {name!r}; mine them from the folder above both")
    wanted = set(packages)
    if STANDARD_LIBRARY in wanted or ALL_INSTALLED in wanted:
        wanted.discard(STANDARD_LIBRARY)
        listings.append(_standard_library())
    if ALL_INSTALLED in wanted:
        wanted.discard(ALL_INSTALLED)
        wanted |= {one.name for one in importlib.metadata.distributions() if not _is_editable(one)}
    for name in sorted(wanted, key=str.lower):
        try:
            listings.append(_distribution(importlib.metadata.distribution(name)))
        except importlib.metadata.PackageNotFoundError:
            raise TrainingError(f"--packages {name}: no such distribution is installed; run: pip list") from None
    return listings


def read_units(listing: Listing, counts: Counter[str]) -> Iterator[Unit]:
    """Read the units of one origin.

    Args:
        listing: One of those that `list_sources` gave.
        counts: Is told the files read, and those left out by reason.
    """
    counts.update(f"files {one.reason}" for one in listing.tree.skipped)
    for path in listing.tree.paths:
        if grammar_of(path, "") is None or path.endswith(".pyi"):
            counts["files without a grammar, and stubs"] += 1
            continue
        data = read_source(listing.tree, path)
        if isinstance(data, SkippedFile):
            counts[f"files {data.reason}"] += 1
            continue
        text = data.decode("utf-8-sig")
        if is_generated(text):
            counts["files generated or minified"] += 1
            continue
        counts["files read"] += 1
        package = listing.package_of(path)
        for chunk in chunk_file(path, data, max_chars=_UNIT_CHARS):
            if chunk.symbol and chunk.kind != "text":
                yield Unit(
                    package=package,
                    path=f"{listing.origin.name}/{path}",
                    language=chunk.language,
                    symbol=chunk.symbol,
                    kind=chunk.kind,
                    start_line=chunk.start_line,
                    end_line=chunk.end_line,
                    content=chunk.content,
                    rows=(f"{listing.origin.name}/{path}:{chunk.start_line}-{chunk.end_line}",),
                )


def is_generated(text: str) -> bool:
    """Whether a file was written by a program: it says so near its top, or its lines are those of a minifier."""
    lines = text.count("\n") + 1
    return (
        _GENERATED.search(text[:_HEAD_CHARS]) is not None
        or len(text) > _MINIFIED_MEAN_CHARS * lines
        or max(map(len, text.split("\n"))) > _LONG_LINE_CHARS
    )


def package_in(path: str, code_folders: frozenset[str], root: str) -> str:
    """Name the package of a file in a source tree.

    Args:
        path: Below the tree, with `/`.
        code_folders: Folders that hold code directly, "" the tree itself.
        root: Name of the tree.

    Returns:
        `root` where the tree itself holds code, else `root/package`; what is vendored is a package of its own name.
    """
    if vendored := _vendored(path):
        return vendored
    for parent in reversed(PurePosixPath(path).parents):
        folder = "" if str(parent) == "." else str(parent)
        if folder in code_folders:
            return f"{root}/{folder}" if folder else root
    return root


def _folder(folder: Path) -> Listing:
    try:
        tree = find_files(folder)
    except FileNotFoundError:
        raise TrainingError(f"--source {folder}: no such file or folder") from None
    except (OSError, RuntimeError) as exc:  # RuntimeError: a loop of symbolic links
        raise TrainingError(f"--source {folder}: cannot be read: {exc}") from exc
    name = folder.resolve().name
    holding = (str(PurePosixPath(path).parent) for path in tree.paths if grammar_of(path, "") is not None)
    code_folders = frozenset("" if one == "." else one for one in holding if not is_test_path(f"{one}/x"))
    return Listing(Origin(name, ""), tree, lambda path: package_in(path, code_folders, name))


def _standard_library() -> Listing:
    tree = find_files(Path(sysconfig.get_path("stdlib")))
    tree.paths = [path for path in tree.paths if path.partition("/")[0] not in _NO_LIBRARY]
    return Listing(Origin(STANDARD_LIBRARY, platform.python_version()), tree, library_package)


def library_package(path: str) -> str:
    """The top module of a file of the standard library; a test belongs to the module that it tests."""
    parts = path.split("/")
    if parts[0] == "test" and len(parts) > 1:
        parts = [part for part in parts[1:] if part.startswith("test_")] or parts[1:]
    name = parts[0].partition(".")[0].removeprefix("test_").strip("_")
    return f"{STANDARD_LIBRARY}/{name}"


def _distribution(distribution: importlib.metadata.Distribution) -> Listing:
    root = Path(str(distribution.locate_file("")))
    tree = FileTree(root)
    for file in distribution.files or ():
        path = file.as_posix()
        if ".." not in file.parts and not (root / path).is_symlink():
            tree.paths.append(path)
    tree.paths.sort()
    name = distribution.name.lower().replace("_", "-")
    return Listing(Origin(name, distribution.version), tree, lambda path: _vendored(path) or name)


def _vendored(path: str) -> str:
    """The name of the package that a file was copied from; empty where it was not."""
    parts = path.split("/")
    for number, part in enumerate(parts[:-1]):
        if part.lower() in _VENDOR:
            name = parts[number + 1].partition(".")[0].strip("_").lower().replace("_", "-")
            return "" if name == "init" else name
    return ""


def _is_editable(distribution: importlib.metadata.Distribution) -> bool:
    return '"editable": true' in (distribution.read_text("direct_url.json") or "")
