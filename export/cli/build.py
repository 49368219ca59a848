"""`duovec-export build`: from checkpoint to candidate."""

from pathlib import Path
from typing import Annotated, Any

import typer

from export.build import BuildRequest
from export.cli.choosing import open_weights, requests_of
from export.cli.options import DEFAULT_WAIT_S, AsJson, Choice, Repository, Wait, takes_choice
from export.cli.output import print_json, remark, steps, summary
from export.repository import EncoderFolder
from export.serving import Runtime


@takes_choice
def build(
    repository: Repository,
    choice: Choice,
    emit_build_script: Annotated[
        Path | None,
        typer.Option(help="With --runtime tensorrt: write the script that builds the engine in the NGC container."),
    ] = None,
    wait: Wait = DEFAULT_WAIT_S,
    as_json: AsJson = False,
) -> None:
    """Build a candidate: export the encoder, and publish nothing.

    It replaces an older candidate. `verify` proves it, `publish` makes it the served version.

    Examples:

        duovec-export build --encoder compact-code --repository models

        duovec-export build --encoder qodo-embed-1-1.5b --checkpoint runs/7/result --precision fp32 --repository models

        duovec-export build --encoder jina-embeddings-v3 --runtime tensorrt --emit-build-script build.sh --repository m
    """
    requests = requests_of(choice)
    if emit_build_script is not None and (choice.runtime is not Runtime.TENSORRT or len(requests) > 1):
        raise typer.BadParameter("--emit-build-script is for one encoder with --runtime tensorrt")
    rows = [_build_one(repository, request, choice, emit_build_script, wait) for request in requests]
    if as_json:
        print_json({"repository": str(repository.resolve()), "encoders": rows})
        return
    for row in rows:
        typer.echo(f"{row['encoder']} ({row['runtime']} {row['precision']}): candidate built, not proven yet")


def _build_one(
    repository: Path, request: BuildRequest, choice: Choice, script: Path | None, wait: float
) -> dict[str, Any]:
    from export.build import build as build_candidate

    folder = EncoderFolder(repository, request.spec.name)
    with folder.building(wait_s=wait, on_wait=remark):
        for line in folder.clear_leftovers():
            remark(line)
        checkpoint = open_weights(request.spec, choice)
        with steps(request.spec.name) as on_step:
            candidate = build_candidate(
                folder, request, checkpoint, timing_cache=choice.timing_cache, script=script, on_step=on_step
            )
    return summary(candidate)
