"""`duovec-export list`: what the repository holds."""

from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from export.cli.options import AsJson, Repository
from export.cli.output import print_json, summary
from export.disk import size_bytes
from export.repository import EncoderFolder, encoders
from export.version import is_proven


def list_versions(repository: Repository, as_json: AsJson = False) -> None:
    """Show what there is of every encoder, and in which state.

    Served; loaded in Triton beside it; published; candidate, and proven once the gate passed it; leftover of a crash.
    Under `gate`: the pairs that were searched, and the longest rows that were compared, tokens.

    Examples:

        duovec-export list --repository models

        duovec-export list --repository models --json
    """
    rows = [row for encoder in encoders(repository) for row in _rows(EncoderFolder(repository, encoder))]
    if as_json:
        print_json({"repository": str(repository.resolve()), "versions": rows})
        return
    table = Table("encoder", "version", "state", "runs on", "cosine", "gate", "MB", box=SIMPLE_HEAD, pad_edge=False)
    for column in table.columns:
        column.no_wrap = column.header != "runs on"
    for row in rows:
        cosine = row["min_cosine"]
        table.add_row(
            row["encoder"],
            str(row["version"] or "–"),
            row["state"],
            f"{row['runtime'] or '?'} {row['precision'] or ''}",
            "" if cosine is None else f"{cosine:.5f}",
            f"{row['gate_pairs']} ≤{row['gate_longest']}" if row["gate_pairs"] else "",
            f"{row['size_bytes'] / 1e6:,.0f}",
        )
    Console().print(table)


def _rows(folder: EncoderFolder) -> list[dict[str, Any]]:
    state = folder.state()
    rows = []
    for version in folder.versions():
        if state and version.number == state.served:
            word = "served"
        else:
            word = "loaded" if state and version.number in state.loaded else "published"
        rows.append(_row(summary(version), word, version.folder))
    for number, path in folder.unpublished():
        left = {"encoder": folder.encoder, "version": number, "runtime": None, "precision": None, "dimension": None}
        unproven = {"min_cosine": None, "gate_pairs": None, "gate_longest": None, "created": None}
        rows.append(_row({**left, **unproven}, "leftover", path))
    if candidate := folder.candidate():
        word = "proven" if is_proven(candidate) else "candidate"
        rows.append(_row(summary(candidate), word, candidate.folder))
    return rows


def _row(fields: dict[str, Any], state: str, folder: Path) -> dict[str, Any]:
    return {**fields, "state": state, "serving": state == "served", "size_bytes": size_bytes(folder)}
