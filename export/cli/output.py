"""What the commands print: results on stdout, progress and remarks on stderr."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from export.version import Version

_stderr = Console(stderr=True)


def print_json(value: object) -> None:
    """One document on stdout."""
    typer.echo(json.dumps(value, indent=2))


def remark(text: str) -> None:
    """A line on stderr that is neither a result nor an error."""
    typer.echo(text, err=True)


@contextmanager
def steps(label: str) -> Iterator[Callable[[str], None]]:
    """Show which step is under way; gives the function that is told about them.

    On a terminal a spinner with the time; elsewhere one line a step, so that a log shows where a long run is. What
    follows a comma counts within a step.
    """
    if not _stderr.is_terminal:
        shown = ""

        def log(step: str) -> None:
            nonlocal shown
            if (name := step.partition(",")[0]) != shown:
                shown = name
                remark(f"{label}: {name}")

        yield log
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=_stderr, transient=True) as progress:
        task = progress.add_task(label, total=None)
        yield lambda step: progress.update(task, description=f"{label}: {step}")


@contextmanager
def download_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """A bar of bytes; gives the function that is told the bytes done and the bytes in all.

    Nothing is shown before it is told something, so that a question may be asked first.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    progress = Progress(*columns, console=_stderr)
    task = progress.add_task(label, total=None)

    def update(done: int, total: int) -> None:
        progress.start()
        progress.update(task, completed=done, total=total)

    try:
        yield update
    finally:
        if progress.live.is_started:
            progress.stop()


def summary(version: Version) -> dict[str, Any]:
    """The fields of a version that every command shows."""
    manifest = version.manifest
    return {
        "encoder": version.encoder,
        "version": version.number or None,
        "runtime": manifest.get("runtime"),
        "precision": manifest.get("precision"),
        "dimension": manifest.get("dimension"),
        "min_cosine": min_cosine(manifest),
        "gate_pairs": _of_gate(manifest, "retrieval", "pairs"),
        "gate_longest": max(_of_gate(manifest, "buckets") or [0]) or None,
        "created": manifest.get("created"),
    }


def _of_gate(manifest: Mapping[str, Any], *keys: str) -> Any:
    """A field of the gate's report; None where the gate has not run."""
    value: Any = manifest.get("gate")
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def gate_extent(row: Mapping[str, Any]) -> str:
    """How much the gate looked at, such as `200 pairs, ≤ 512 tokens`."""
    return f"{row['gate_pairs']} pairs, ≤ {row['gate_longest']} tokens" if row.get("gate_pairs") else ""


def min_cosine(manifest: Mapping[str, Any]) -> float | None:
    """The least cosine to the reference that the gate measured; None where it has not run."""
    gate = manifest.get("gate") or {}
    value = gate.get("min_cosine")
    return None if value is None else float(value)
