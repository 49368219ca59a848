"""`duovec-train worker`: works on the runs that the gateway queued."""

import asyncio
import os
import socket
from pathlib import Path
from typing import Annotated

import typer

from export.cli.output import remark


def worker(
    database_url: Annotated[
        str,
        typer.Option(envvar="DUOVEC_DATABASE_URL", show_envvar=True, help="The gateway's database, as its owner."),
    ],
    work_dir: Annotated[Path, typer.Option(help="Folder for data sets, checkpoints and logs of the runs.")],
    specs: Annotated[Path | None, typer.Option(help="Folder of specs that recipes may name, *.toml.")] = None,
    base: Annotated[Path | None, typer.Option(help="Checkpoint to start from instead of the spec's source.")] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(
            envvar="DUOVEC_ENDPOINT",
            help="The gateway, to compare with its live space; without it results are compared with what the spec is, "
            "its trained adapters included, or with --base, and none is published. DUOVEC_API_KEY is an "
            "administrator's.",
        ),
    ] = None,
    repository: Annotated[Path | None, typer.Option(help="Model repository that the gateway's Triton serves.")] = None,
    triton_url: Annotated[
        str | None, typer.Option(envvar="DUOVEC_TRITON_URL", help="host:port of that Triton, to publish.")
    ] = None,
    publish_option: Annotated[
        list[str] | None, typer.Option(help="Option of `duovec-train publish`, such as --min-gain=0.01.")
    ] = None,
    keep_runs: Annotated[int, typer.Option(min=1, help="Folders of ended runs that stay, the newest.")] = 10,
    name: Annotated[str | None, typer.Option(help="Shown in the rows; host and process without it.")] = None,
    lease: Annotated[float, typer.Option(min=1, help="How long a claim holds without a sign of life, seconds.")] = 60.0,
    poll: Annotated[float, typer.Option(min=0.1, help="How often queue and schedules are looked at, seconds.")] = 5.0,
    until_empty: Annotated[
        bool, typer.Option("--until-empty", help="End when nothing is queued, or without a database.")
    ] = False,
) -> None:
    """Work on queued runs, one at a time: mine, train, compare, and publish what is better, where that was asked for.

    Any number of workers share a database. A run whose worker died is taken up by another one when its lease is over;
    with the same --work-dir it goes on from its last checkpoint. SIGTERM gives the run back to the queue.

    Examples:

        duovec-train worker --database-url postgresql://... --work-dir runs --endpoint 127.0.0.1:50051
        --repository models --triton-url 127.0.0.1:8001
    """
    if endpoint is not None and repository is None:
        raise typer.BadParameter("--endpoint needs --repository: what the live space was built from stands there")
    from training.worker.stages import WorkerSettings
    from training.worker.worker import Worker

    settings = WorkerSettings(
        database_url,
        work_dir.absolute(),
        specs,
        base,
        repository,
        endpoint,
        triton_url,
        tuple(publish_option or ()),
        keep_runs,
    )
    named = name or f"{socket.gethostname()}:{os.getpid()}"
    asyncio.run(Worker(settings, name=named, lease_s=lease, poll_s=poll, say=remark).run(until_empty=until_empty))
