"""From options to what is built: specs, requests, and the weights with their license."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from export.build import BuildRequest
from export.cli.options import Choice, LoraChoice
from export.cli.output import download_bar, remark
from export.errors import ExportError
from export.serving import Serving, cpu_flags, resolve_precision
from export.source import Checkpoint, open_checkpoint
from export.spec import EncoderSpec, HubSource, builtin_encoders, load_builtin, load_pair, load_spec


def requests_of(choice: Choice) -> list[BuildRequest]:
    """What to build, one request an encoder.

    Raises:
        typer.BadParameter: Options contradict each other.
        ExportError: A spec is invalid, or asks for what the runtime does not do.
    """
    given = [name for name in ("pair", "encoder", "spec") if getattr(choice, name) is not None]
    if len(given) != 1:
        raise typer.BadParameter("give one of --pair, --encoder and --spec: it says what to build")
    if choice.checkpoint is not None and choice.pair is not None:
        raise typer.BadParameter("--checkpoint holds one encoder; name it with --encoder or --spec")
    return [_request(spec, choice) for spec in _specs(choice)]


def _specs(choice: Choice) -> Sequence[EncoderSpec]:
    if choice.pair is not None:
        return load_pair(choice.pair)
    if choice.spec is not None:
        return [load_spec(choice.spec)]
    return [load_builtin(choice.encoder or "")]


def _request(spec: EncoderSpec, choice: Choice) -> BuildRequest:
    if choice.lora is LoraChoice.MERGE and spec.tasks and choice.merge_task is None:
        raise typer.BadParameter(
            f"{spec.name} has an adapter for each of {', '.join(spec.tasks)}: --merge-task says which to merge"
        )
    if choice.lora is LoraChoice.PER_ROW and not spec.tasks:
        raise typer.BadParameter(f"{spec.name} has no tasks to choose row by row: use --lora merge or auto")
    if choice.merge_task is not None and choice.lora is not LoraChoice.MERGE:
        raise typer.BadParameter("--merge-task goes with --lora merge")
    precision = resolve_precision(choice.precision, choice.runtime, spec.precision, cpu_flags())
    # Both encoders of a pair run at once, for every text.
    threads = choice.threads or max(1, len(os.sched_getaffinity(0)) // 2)
    return BuildRequest(
        spec=spec,
        serving=Serving(choice.runtime, precision, threads),
        opset=choice.opset,
        merge_task=choice.merge_task,
        drop_layers=choice.drop_layers,
        ffn_width=choice.ffn_width,
        version_compatible=choice.version_compatible,
    )


def open_weights(spec: EncoderSpec, choice: Choice) -> Checkpoint:
    """Open the checkpoint, downloading it when it is on the hub and not here yet; the license is accepted before.

    Raises:
        ExportError: It cannot be had, does not fit, or its license is not accepted.
    """

    fetches = False

    def confirm(size_bytes: int) -> None:
        nonlocal fetches
        _accept_license(spec, size_bytes, accepted=choice.accept_license)
        fetches = True

    with download_bar(f"{spec.name}: download") as show:
        return open_checkpoint(
            spec,
            choice.checkpoint,
            cache_dir=choice.cache_dir,
            offline=choice.offline,
            on_download=confirm,
            # What lies in the cache is reported too; a bar for it would say that something is downloaded.
            on_progress=lambda done, total: show(done, total) if fetches else None,
        )


def _accept_license(spec: EncoderSpec, size_bytes: int, *, accepted: bool) -> None:
    source, terms = spec.source, spec.license
    assert isinstance(source, HubSource)  # noqa: S101  # nothing else is downloaded
    remark(f"{spec.name}: {source.repository} at {source.revision}, {size_bytes / 1e9:.2f} GB to download")
    forbids = f"forbids {terms.forbids}" if terms.forbids else "asks for attribution"
    remark(f"license {terms.identifier}: {forbids}; {terms.url}")
    if accepted:
        return
    if not sys.stdin.isatty():
        raise ExportError(f"the license of {spec.name} is not accepted; read {terms.url}, then add --accept-license")
    if not typer.confirm("Do you accept it?", err=True):
        raise ExportError(f"the license of {spec.name} was not accepted: nothing is downloaded")


def spec_of(encoder: str, spec_file: Path | None) -> EncoderSpec:
    """The spec of an encoder in the repository: a built-in one, or the file.

    Raises:
        ExportError: There is none, or it is of another encoder.
    """
    if spec_file is None and encoder not in builtin_encoders():
        raise ExportError(f"{encoder} is no built-in encoder; give the spec that it was built from with --spec")
    spec = load_spec(spec_file) if spec_file else load_builtin(encoder)
    if spec.name != encoder:
        raise ExportError(f"{spec_file} is the spec of {spec.name}, not of {encoder}")
    return spec
