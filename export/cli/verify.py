"""`duovec-export verify`: digests, then the gate."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from export.cli.choosing import open_weights, spec_of
from export.cli.options import (
    DEFAULT_GATE,
    DEFAULT_WAIT_S,
    AsJson,
    Choice,
    GateLongest,
    GatePairs,
    OneEncoder,
    Repository,
    Wait,
)
from export.cli.output import print_json, remark, steps
from export.errors import ExportError
from export.gate.settings import GateSettings
from export.proof import prove, prove_candidate, request_of, require_same_source
from export.repository import EncoderFolder, encoders
from export.version import damaged_files

if TYPE_CHECKING:
    from export.gate.report import GateReport


def verify(
    repository: Repository,
    encoder: OneEncoder = None,
    digests_only: Annotated[bool, typer.Option("--digests-only", help="Compare digests, and run no gate.")] = False,
    spec: Annotated[Path | None, typer.Option(help="The TOML file that an encoder of your own was built from.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="The fine-tuned weights that it was built from.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with the distributions as well.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Download nothing.")] = False,
    cache_dir: Annotated[Path | None, typer.Option(help="Where downloads are kept.")] = None,
    accept_license: Annotated[bool, typer.Option("--accept-license", help="Accept the license of a download.")] = False,
    gate_pairs: GatePairs = DEFAULT_GATE.pairs,
    gate_longest: GateLongest = DEFAULT_GATE.longest_bucket,
    wait: Wait = DEFAULT_WAIT_S,
    as_json: AsJson = False,
) -> None:
    """Compare every version's files with its digests, then run the gate: on the candidate, or else the served version.

    A candidate keeps the report in its manifest, and can be published once it passed. Exits with 1 when a file is
    damaged or the gate fails.

    Examples:

        duovec-export verify --repository models

        duovec-export verify --repository models --encoder compact-text --html report.html
    """
    chosen = _chosen(repository, encoder)
    if len(chosen) > 1 and (spec or checkpoint):
        raise typer.BadParameter("--spec and --checkpoint belong to one encoder: name it with --encoder")
    count = _check_digests(repository, chosen)
    choice = Choice(
        spec=spec, checkpoint=checkpoint, offline=offline, cache_dir=cache_dir, accept_license=accept_license
    )
    reports: list[GateReport] = []
    failure: ExportError | None = None
    if not digests_only:
        from export.gate.gate import GateFailure

        for folder in chosen:
            try:
                reports.append(_run_gate(folder, choice, GateSettings(gate_longest, gate_pairs), wait))
            except GateFailure as exc:
                reports.append(exc.report)
                failure = failure or exc
    if html is not None and reports:
        from export.gate.page import write_page

        write_page(reports, html)
    if as_json:
        document: dict[str, Any] = {"versions": count, "damaged": [], "gates": [one.as_dict() for one in reports]}
        print_json(document)
    else:
        typer.echo(f"{count} versions are whole")
        _show(reports)
    if failure is not None:
        raise failure


def _chosen(repository: Path, encoder: str | None) -> list[EncoderFolder]:
    known = encoders(repository)
    if encoder is not None and encoder not in known:
        raise ExportError(f"{repository} has no encoder {encoder!r}; it has {', '.join(known) or 'none'}")
    if not known:
        raise ExportError(
            f"nothing is published in {repository}; run: duovec-export publish --pair compact --repository {repository}"
        )
    return [EncoderFolder(repository, name) for name in known if encoder in (None, name)]


def _check_digests(repository: Path, folders: list[EncoderFolder]) -> int:
    versions = [version for folder in folders for version in folder.versions()]
    versions += [candidate for folder in folders if (candidate := folder.candidate())]
    if not versions:
        raise ExportError(
            f"nothing is published in {repository}; run: duovec-export publish --pair compact --repository {repository}"
        )
    if damaged := [str(path) for version in versions for path in damaged_files(version)]:
        raise ExportError(f"missing or changed since publishing: {', '.join(damaged)}; publish again")
    return len(versions)


def _run_gate(folder: EncoderFolder, choice: Choice, gate: GateSettings, wait: float) -> "GateReport":
    spec = spec_of(folder.encoder, choice.spec)
    with folder.building(wait_s=wait, on_wait=remark):
        candidate = folder.candidate()
        version = candidate or folder.served()
        if version is None:
            raise ExportError(f"nothing is published in {folder.path}; run: duovec-export publish")
        request = request_of(version, spec)
        checkpoint = open_weights(spec, choice)
        require_same_source(version, checkpoint)
        with steps(f"{folder.encoder}: gate") as on_step:
            if candidate is not None:
                return prove_candidate(folder, request, checkpoint, gate, on_step=on_step)[1]
            return prove(version, request, checkpoint, gate, on_step=on_step)


def _show(reports: "list[GateReport]") -> None:
    if reports:
        from export.gate.table import gate_table

        Console().print(gate_table(reports))
