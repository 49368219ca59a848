"""Sentences about changes: subjects of git's commits, and lines of a change log, for the code that they changed."""

import re
import shutil
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from gateway.client.files import SkippedFile, read_source
from training.data.prose import clean, fault_of, shorten
from training.data.queries import Query
from training.data.sources import Listing
from training.data.unit import Unit

# A commit that made more units than this is about none of them in particular.
_MOST_UNITS, _LEAST_LINES = 5, 3
_BLAME_TIMEOUT_S = 60.0
_PREFIX = re.compile(r"^(?:\[[\w-]+\]|\w+(?:\([^)]*\))?!?:|(?:bpo|gh|issue)-?#?\d+:?|#\d+:?)\s+", re.IGNORECASE)
_SUFFIX = re.compile(r"\s*\(#\d+\)$")
_CHANGE_LOG = re.compile(r"(?:changelog|changes|history|news|releases?)(?:\.(?:md|rst|txt))?", re.IGNORECASE)
_BULLET = re.compile(r"^(?P<indent>\s*)[-*+]\s+(?P<text>.*)")
_NAMED = re.compile(r"`{1,2}([\w.]+)(?:\(\))?`{1,2}")


def history_queries(listing: Listing, units: Sequence[Unit], counts: Counter[str]) -> dict[str, list[Query]]:
    """What the history of a source says of its units.

    Args:
        listing: The source.
        units: Those that were read from it.
        counts: Is told what was left out.

    Returns:
        At most one query a unit, by its key; none where there is neither a git history nor a change log.
    """
    own = [unit for unit in units if not unit.is_test]
    found = dict(_changes(listing, own, counts))
    # A commit says more exactly what it changed than a line that names it.
    found.update(_commits(listing, own, counts))
    return {key: [query] for key, query in found.items()}


def _commits(listing: Listing, units: Sequence[Unit], counts: Counter[str]) -> Iterator[tuple[str, Query]]:
    """For each commit the unit that has most of its lines today, by `git blame`; for each unit the commit with most."""
    folder = listing.tree.folder
    git = shutil.which("git")
    if git is None or not any((up / ".git").exists() for up in (folder, *folder.parents)):
        return
    by_path: dict[str, list[Unit]] = defaultdict(list)
    for unit in units:
        by_path[unit.path.removeprefix(f"{listing.origin.name}/")].append(unit)
    subjects: dict[str, str] = {}
    lines: dict[str, Counter[str]] = defaultdict(Counter)
    for path, own in by_path.items():
        commits = _blame(git, folder, path, subjects)
        for unit in own:
            for commit in commits[unit.start_line - 1 : unit.end_line]:
                lines[commit][unit.key] += 1
    best: dict[str, tuple[int, str]] = {}
    for commit, changed in sorted(lines.items()):
        key, count = min(changed.items(), key=lambda one: (-one[1], one[0]))
        if len(changed) <= _MOST_UNITS and count >= _LEAST_LINES and count > best.get(key, (0, ""))[0]:
            best[key] = count, commit
    for key, (_, commit) in sorted(best.items()):
        text = _SUFFIX.sub("", _PREFIX.sub("", clean(subjects[commit])))
        if (fault := fault_of(text)) is not None:
            counts[f"commit {fault}"] += 1
        else:
            yield key, Query(text, "commit", (f"commit:{commit}",))


def _blame(git: str, folder: Path, path: str, subjects: dict[str, str]) -> list[str]:
    """The commit of every line of a file as it is on the disk, and its subject; none for one that git does not know."""
    # Nothing that the repository's own configuration names is run.
    safe = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
    command = (git, *safe, "-C", str(folder), "blame", "--porcelain", "--no-textconv", "--", path)
    try:
        done = subprocess.run(command, capture_output=True, check=True, timeout=_BLAME_TIMEOUT_S)  # noqa: S603
    except (subprocess.SubprocessError, OSError):
        return []
    commits, commit = [], ""
    for line in done.stdout.decode("utf-8", "replace").split("\n"):
        if line.startswith("\t"):
            commits.append(commit)
        elif match := re.match(r"([0-9a-f]{40}) \d+ \d+", line):
            commit = match[1]
        elif line.startswith("summary "):
            # Lines that are not committed yet have the hash of zeros, and no sentence.
            subjects[commit] = "" if set(commit) == {"0"} else line.removeprefix("summary ")
    return commits


def _changes(listing: Listing, units: Sequence[Unit], counts: Counter[str]) -> Iterator[tuple[str, Query]]:
    """For each line of a change log that names one unit in code signs, that unit; the first line counts."""
    by_name: dict[str, list[Unit]] = defaultdict(list)
    for unit in units:
        by_name[unit.name].append(unit)
    for path in listing.tree.paths:
        if not _CHANGE_LOG.fullmatch(PurePosixPath(path).name):
            continue
        data = read_source(listing.tree, path)
        if isinstance(data, SkippedFile):
            continue
        for first, last, text in _bullets(data.decode("utf-8-sig").splitlines()):
            named = {unit.key for name in _NAMED.findall(text) for unit in _named(name, by_name)}
            query = clean(text)
            if len(named) != 1:
                continue
            if (fault := fault_of(shorten(query) or query)) is not None:
                counts[f"commit {fault}"] += 1
                continue
            row = f"{listing.origin.name}/{path}:{first}-{last}"
            yield named.pop(), Query(shorten(query), "commit", (row,))


def _named(name: str, by_name: dict[str, list[Unit]]) -> list[Unit]:
    """The unit that a dotted name means, if there is one such only."""
    found = [unit for unit in by_name.get(name.rpartition(".")[2], []) if f".{unit.symbol}".endswith(f".{name}")]
    return found if len(found) == 1 else []


def _bullets(lines: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """(first line, last line, text) of each point of a list, lines counted from 1."""
    number = 0
    while number < len(lines):
        match = _BULLET.match(lines[number])
        number += 1
        if match is None:
            continue
        first, parts = number, [match["text"]]
        while number < len(lines) and lines[number].startswith(match["indent"] + "  ") and lines[number].strip():
            if _BULLET.match(lines[number]):
                break
            parts.append(lines[number].strip())
            number += 1
        yield first, number, " ".join(parts)
