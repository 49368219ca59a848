"""`duovec-export configure`: how this machine runs the encoders that are published."""

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from export.cli.options import (
    DEFAULT_TRITON_TIMEOUT_S,
    DEFAULT_WAIT_S,
    AsJson,
    Repository,
    TritonTimeout,
    TritonUrl,
    Wait,
)
from export.cli.output import print_json, remark, steps
from export.cli.publish import connect
from export.cli.rollback import require_encoder
from export.errors import ExportError
from export.repository import EncoderFolder

if TYPE_CHECKING:
    from export.publish import Served
    from export.tuning import Tuning


def configure(
    repository: Repository,
    encoder: Annotated[list[str], typer.Option("--encoder", help="Folder in the repository; may be given again.")],
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of one inference.")] = None,
    token_budget: Annotated[int | None, typer.Option(min=1, help="Most padded tokens of a micro-batch.")] = None,
    instances: Annotated[
        int | None, typer.Option(min=1, help="Processes that each hold the encoder, and its weights; 2 unless given.")
    ] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Back to the settings of the versions themselves.")] = False,
    triton_url: TritonUrl = None,
    triton_timeout: TritonTimeout = DEFAULT_TRITON_TIMEOUT_S,
    wait: Wait = DEFAULT_WAIT_S,
    as_json: AsJson = False,
) -> None:
    """Set how this machine runs encoders on Triton's Python backend; `duovec tune` measures what is best.

    No version changes, and no vector. The settings stay when other versions are published or rolled back to. A gateway
    reads the token budget when it starts.

    Examples:

        duovec-export configure --encoder compact-code --encoder compact-text --threads 2 --token-budget 1024
        --repository models

        duovec-export configure --encoder compact-code --reset --repository models --triton-url 127.0.0.1:8001
    """
    if reset == (threads is not None or token_budget is not None):
        raise typer.BadParameter("give --threads and --token-budget, or --reset")
    tuning = None if reset else _tuning(threads, token_budget, instances)
    with ExitStack() as stack:
        triton = connect(stack, triton_url, triton_timeout)
        rows = []
        for name in encoder:
            folder = EncoderFolder(repository, name)
            require_encoder(folder)
            from export.publish import configure as configure_folder

            with folder.publishing(wait_s=wait, on_wait=remark), steps(name) as on_step:
                rows.append(_row(configure_folder(folder, tuning, triton, on_step=on_step), folder))
    if as_json:
        print_json({"repository": str(repository.resolve()), "triton": triton_url, "encoders": rows})
        return
    for row in rows:
        whose = "this machine's" if row["tuned"] else "the versions' own"
        typer.echo(
            f"{row['encoder']}: threads {row['num_threads']}, token budget {row['token_budget']}, "
            f"instances {row['instances']}; {whose} settings"
        )


def _tuning(threads: int | None, token_budget: int | None, instances: int | None) -> "Tuning":
    from export.deployment import HOSTED_INSTANCES
    from export.tuning import Tuning

    if threads is None or token_budget is None:
        raise typer.BadParameter("--threads and --token-budget go together")
    return Tuning(threads, token_budget, instances or HOSTED_INSTANCES, cores=len(os.sched_getaffinity(0)))


def _row(served: "Served", folder: EncoderFolder) -> dict[str, Any]:
    """What config.pbtxt says now."""
    from export.tuning import tuning_in

    config = folder.config()
    if config is None:
        raise ExportError(f"{folder.config_path} was removed meanwhile; publish again")
    parameters = {key: value.string_value for key, value in config.parameters.items()}
    return {
        "encoder": folder.encoder,
        "version": served.version.number,
        "tuned": tuning_in(config) is not None,
        "num_threads": int(parameters.get("num_threads") or 0) or None,
        "token_budget": int(parameters.get("token_budget") or 0) or None,
        "instances": sum(group.count for group in config.instance_group),
        "smoke": served.smoke,
        "smoke_cosine": served.cosine,
    }
