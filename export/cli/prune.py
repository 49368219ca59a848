"""`duovec-export prune`: removes old versions and leftovers."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from export.cli.options import (
    DEFAULT_TRITON_TIMEOUT_S,
    DEFAULT_WAIT_S,
    AsJson,
    OneEncoder,
    Repository,
    TritonTimeout,
    TritonUrl,
    Wait,
)
from export.cli.output import print_json, remark
from export.cli.publish import connect
from export.cli.rollback import require_encoder
from export.repository import EncoderFolder, encoders

if TYPE_CHECKING:
    from export.triton_control import TritonControl


def prune(
    repository: Repository,
    encoder: OneEncoder = None,
    keep: Annotated[int, typer.Option(min=1, help="Keep as many of the newest versions.")] = 2,
    triton_url: TritonUrl = None,
    triton_timeout: TritonTimeout = DEFAULT_TRITON_TIMEOUT_S,
    wait: Wait = DEFAULT_WAIT_S,
    as_json: AsJson = False,
) -> None:
    """Remove versions beyond the newest few, and what crashes left.

    Never the served version. One that Triton keeps loaded goes only with `--triton-url`: Triton unloads it first.

    Examples:

        duovec-export prune --repository models --keep 3

        duovec-export prune --repository models --encoder compact-code --keep 1 --triton-url 127.0.0.1:8001
    """
    names = encoders(repository) if encoder is None else [encoder]
    with ExitStack() as stack:
        triton = connect(stack, triton_url, triton_timeout)
        rows = [_prune_one(repository, name, keep, triton, wait) for name in names]
    if as_json:
        print_json({"repository": str(repository.resolve()), "encoders": rows})
        return
    for row in rows:
        removed = f"removed {', '.join(map(str, row['removed']))}" if row["removed"] else "nothing to remove"
        loaded = f"; still loaded in Triton: {', '.join(map(str, row['still_loaded']))} (--triton-url unloads)"
        typer.echo(f"{row['encoder']}: {removed}{loaded if row['still_loaded'] else ''}")


def _prune_one(repository: Path, name: str, keep: int, triton: "TritonControl | None", wait: float) -> dict[str, Any]:
    from export.publish import unload

    folder = EncoderFolder(repository, name)
    require_encoder(folder)
    with folder.building(wait_s=wait, on_wait=remark), folder.publishing(wait_s=wait, on_wait=remark):
        leftovers = folder.clear_leftovers()
        for line in leftovers:
            remark(line)
        state = folder.state()
        versions = folder.versions()
        old = [one for one in versions[: max(0, len(versions) - keep)] if state and one.number != state.served]
        if triton is not None and state and any(one.number in state.loaded for one in old):
            unload(folder, [one.number for one in old], triton)
            state = folder.state()
        loaded = state.loaded if state else ()
        removable = [one for one in old if one.number not in loaded]
        for version in removable:
            folder.remove(version)
    return {
        "encoder": name,
        "removed": [one.number for one in removable],
        "still_loaded": [one.number for one in old if one.number in loaded],
        "leftovers": leftovers,
    }
