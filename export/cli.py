"""The `duovec-export` command. Heavy imports wait until there is something to export."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from export import repository as repositories
from export.errors import ExportError
from export.precision import cpu_flags, resolve_precision
from export.spec import load_pair

app = typer.Typer(no_args_is_help=True, help="Publish encoders into a Triton model repository.")
_stderr = Console(stderr=True)

RepositoryOption = Annotated[Path, typer.Option("--repository", help="Model repository folder.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]


class Pair(StrEnum):
    """Built-in pairs of encoders."""

    COMPACT = "compact"


class Runtime(StrEnum):
    """What hosts the graph in Triton's Python backend."""

    OPENVINO = "openvino"
    ONNXRUNTIME = "onnxruntime"


class Precision(StrEnum):
    """Precision of the inference; auto is bf16 where the CPU has it."""

    AUTO = "auto"
    BF16 = "bf16"
    F32 = "f32"


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except ExportError as exc:
        _stderr.print(f"error: {exc}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from exc


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2))


@app.command()
def publish(
    repository: RepositoryOption,
    pair: Annotated[Pair, typer.Option(help="Which pair of encoders.")] = Pair.COMPACT,
    precision: Annotated[Precision, typer.Option(help="Precision of the inference.")] = Precision.AUTO,
    runtime: Annotated[Runtime, typer.Option(help="Runtime that hosts the graph.")] = Runtime.OPENVINO,
    threads: Annotated[int, typer.Option(min=0, help="Threads of one inference; 0 for all cores.")] = 0,
    if_missing: Annotated[bool, typer.Option("--if-missing", help="Skip encoders already published.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Export both encoders of a pair, prove them against sentence-transformers, and publish them."""
    with _one_line_errors(), repositories.locked(repository):
        resolved = resolve_precision(precision, runtime, cpu_flags())
        num_threads = threads or len(os.sched_getaffinity(0))
        results = []
        for spec in load_pair(pair):
            current = repositories.current_version(repository, spec.name) if if_missing else None
            # A version proven for another precision is not what was asked for.
            if current and current.manifest["runtime"] == runtime and current.manifest["precision"] == resolved:
                results.append({**_summary(current), "published": False})
                continue
            results.append(_publish_one(spec.name, pair, repository, runtime, resolved, num_threads))
    if as_json:
        _print_json({"repository": str(repository.resolve()), "encoders": results})
    else:
        for result in results:
            verb = f"published in {result['seconds']} s" if result["published"] else "already published"
            typer.echo(
                f"{result['encoder']} version {result['version']} ({result['runtime']} {result['precision']}): {verb}"
            )


def _publish_one(
    name: str, pair: str, repository: Path, runtime: str, precision: str, num_threads: int
) -> dict[str, Any]:
    started = time.monotonic()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=_stderr, transient=True) as progress:
        task = progress.add_task(f"{name}: load libraries", total=None)
        from export.publish import publish_encoder
        from export.triton_config import Serving

        spec = next(spec for spec in load_pair(pair) if spec.name == name)
        version = publish_encoder(
            spec,
            repository,
            Serving(runtime, precision, num_threads),
            on_step=lambda step: progress.update(task, description=f"{name}: {step}"),
        )
    return {**_summary(version), "published": True, "seconds": round(time.monotonic() - started, 1)}


def _summary(version: repositories.PublishedVersion) -> dict[str, Any]:
    manifest = version.manifest
    return {
        "encoder": version.encoder,
        "version": version.version,
        "runtime": manifest["runtime"],
        "precision": manifest["precision"],
        "dimension": manifest["dimension"],
        "min_cosine": min(one["min_cosine"] for one in manifest["parity"]["runtimes"]),
        "created": manifest["created"],
    }


@app.command("list")
def list_versions(repository: RepositoryOption, as_json: JsonOption = False) -> None:
    """Show the published versions, and which of them serves."""
    with _one_line_errors():
        rows = []
        for encoder in repositories.encoders(repository):
            current = repositories.current_version(repository, encoder)
            for version in repositories.published_versions(repository, encoder):
                serving = current is not None and current.version == version.version
                rows.append({**_summary(version), "serving": serving})
    if as_json:
        _print_json({"repository": str(repository.resolve()), "versions": rows})
        return
    table = Table("encoder", "version", "serving", "runtime", "precision", "min cosine")
    for row in rows:
        table.add_row(
            row["encoder"],
            str(row["version"]),
            "yes" if row["serving"] else "",
            row["runtime"],
            row["precision"],
            f"{row['min_cosine']:.6f}",
        )
    Console().print(table)


@app.command()
def verify(repository: RepositoryOption, as_json: JsonOption = False) -> None:
    """Compare the files of every published version with the digests in its manifest."""
    with _one_line_errors():
        versions = [
            version
            for encoder in repositories.encoders(repository)
            for version in repositories.published_versions(repository, encoder)
        ]
        damaged = [str(path) for version in versions for path in repositories.damaged_files(version)]
        if as_json:
            _print_json({"versions": len(versions), "damaged": damaged})
        if not versions:
            raise ExportError(
                f"nothing is published in {repository}; run: duovec-export publish --repository {repository}"
            )
        if damaged:
            raise ExportError(f"missing or changed since publishing: {', '.join(damaged)}; publish again")
    if not as_json:
        typer.echo(f"{len(versions)} versions verified")
