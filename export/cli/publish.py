"""`duovec-export publish`: what is missing of build, verify and publish, in one step."""

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from export.build import BuildRequest, answers
from export.cli.choosing import open_weights, requests_of
from export.cli.options import (
    DEFAULT_GATE,
    DEFAULT_TRITON_TIMEOUT_S,
    DEFAULT_WAIT_S,
    AsJson,
    Choice,
    GateLongest,
    GatePairs,
    Repository,
    TritonTimeout,
    TritonUrl,
    Wait,
    takes_choice,
)
from export.cli.output import gate_extent, print_json, remark, steps, summary
from export.gate.settings import GateSettings
from export.pipeline import publish_checkpoint
from export.repository import EncoderFolder

if TYPE_CHECKING:
    from export.triton_control import TritonControl


@takes_choice
def publish(
    repository: Repository,
    choice: Choice,
    if_missing: Annotated[
        bool, typer.Option("--if-missing", help="Leave encoders alone whose served version is what is asked for.")
    ] = False,
    gate_pairs: GatePairs = DEFAULT_GATE.pairs,
    gate_longest: GateLongest = DEFAULT_GATE.longest_bucket,
    triton_url: TritonUrl = None,
    triton_timeout: TritonTimeout = DEFAULT_TRITON_TIMEOUT_S,
    wait: Wait = DEFAULT_WAIT_S,
    as_json: AsJson = False,
) -> None:
    """Export, prove and publish: the next version of an encoder, or of both of a pair.

    A candidate that was built from the same inputs is taken up where an earlier run stopped. The version that is served
    goes on serving until the new one has been loaded and has given the right vector; if anything fails it stays.

    Examples:

        duovec-export publish --pair compact --repository models --if-missing

        duovec-export publish --checkpoint runs/7/result --encoder qodo-embed-1-1.5b --precision bf16
        --repository models --triton-url 127.0.0.1:8001
    """
    requests = requests_of(choice)
    gate = GateSettings(gate_longest, gate_pairs)
    with ExitStack() as stack:
        triton = connect(stack, triton_url, triton_timeout)
        rows = [_publish_one(repository, request, choice, gate, triton, if_missing, wait) for request in requests]
    if as_json:
        print_json({"repository": str(repository.resolve()), "triton": triton_url, "encoders": rows})
        return
    for row in rows:
        typer.echo(describe(row, "published" if row["published"] else "already published"))


def connect(stack: ExitStack, url: str | None, timeout_s: float) -> "TritonControl | None":
    """The Triton at an address, which must answer now rather than after a long build; None without an address.

    Raises:
        ExportError: No Triton answers.
    """
    if url is None:
        return None
    from export.triton_control import TritonControl

    triton = stack.enter_context(TritonControl(url, load_timeout_s=timeout_s))
    triton.require_live()
    return triton


def describe(row: dict[str, Any], verb: str) -> str:
    """One line about a version that is served."""
    proven = f", proven on {gate_extent(row)}" if gate_extent(row) else ""
    line = f"{row['encoder']} version {row['version']} ({row['runtime']} {row['precision']}{proven}): {verb}"
    match row.get("smoke"):
        case "host":
            return f"{line} on the disk, its canary ran in its own host; no Triton was told (--triton-url)"
        case "none":
            return f"{line} on the disk, its canary does not run here; no Triton was told (--triton-url)"
    return line


def _publish_one(
    repository: Path,
    request: BuildRequest,
    choice: Choice,
    gate: GateSettings,
    triton: "TritonControl | None",
    if_missing: bool,
    wait: float,
) -> dict[str, Any]:
    started = time.monotonic()
    folder = EncoderFolder(repository, request.spec.name)
    with folder.building(wait_s=wait, on_wait=remark):
        checkpoint = open_weights(request.spec, choice) if choice.checkpoint else None
        served = folder.served() if if_missing else None
        if served is not None and answers(served, request, checkpoint, any_threads=choice.threads == 0):
            return {**summary(served), "published": False}
        for line in folder.clear_leftovers():
            remark(line)
        if checkpoint is None:
            checkpoint = open_weights(request.spec, choice)
        with steps(request.spec.name) as on_step:
            result = publish_checkpoint(
                folder,
                request,
                checkpoint,
                gate,
                triton,
                timing_cache=choice.timing_cache,
                wait_s=wait,
                on_wait=remark,
                on_step=on_step,
            )
    return {
        **summary(result.version),
        "published": True,
        "loaded": list(result.loaded),
        "smoke": result.smoke,
        "smoke_cosine": result.cosine,
        "seconds": round(time.monotonic() - started, 1),
    }
