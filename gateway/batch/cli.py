"""The `duovec-batch` command."""

import json
import logging
import os
import sys
from typing import Annotated

import typer

from gateway.cli.failures import one_line_failures
from gateway.cli.options import DEFAULT_ENDPOINT

try:
    from gateway.batch.partitions import FILES_PER_PARTITION, Columns, plan
except ImportError as missing:
    sys.exit(f"error: {missing.name} is not installed; run `pip install 'duovec[ray]'`")

app = typer.Typer(name="duovec-batch", pretty_exceptions_show_locals=False)
_COLUMNS = Columns()


@app.command()
@one_line_failures
def index(
    sources: Annotated[list[str], typer.Argument(help="Folders; Parquet files by path or URI (s3://, gs://).")],
    codebase: Annotated[str, typer.Option(help="Id of the codebase, which is created where it is missing.")],
    checkpoint: Annotated[str, typer.Option(help="Folder that all nodes share, or URI, for what is done.")],
    endpoint: Annotated[list[str] | None, typer.Option(help="A gateway; several share the work.")] = None,
    actors: Annotated[int, typer.Option(min=1, help="Streams to the gateways at once, over all nodes.")] = 4,
    path_column: Annotated[str, typer.Option(help="Column of a Parquet file.")] = _COLUMNS.path,
    content_column: Annotated[str, typer.Option(help="Column of a Parquet file.")] = _COLUMNS.content,
    codebase_column: Annotated[
        str | None,
        typer.Option(help="Column of a Parquet file that has the codebase's id; --codebase is of folders then."),
    ] = None,
    files_per_partition: Annotated[int, typer.Option(min=1, help="Of a folder.")] = FILES_PER_PARTITION,
    api_key_file: Annotated[
        str | None, typer.Option(help="File on every node that holds the key; without it, DUOVEC_API_KEY of the node.")
    ] = None,
    patience: Annotated[float, typer.Option(min=0, help="How long to wait for any gateway, seconds.")] = 600.0,
    ray_address: Annotated[
        str | None, typer.Option(envvar="RAY_ADDRESS", help="The cluster; this machine alone without.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, for programs.")] = False,
) -> None:
    """Index sources by a cluster of Ray: read and cut on every node, embed and store through the gateways.

    What is done is noted by partition: run again after anything, it goes on. Files that are gone are not deleted, which
    `duovec index` does. Exits with 1 when a chunk or a file failed.

    Examples:

        duovec-batch s3://code/2026/ --codebase all --codebase-column repo --checkpoint s3://code/done
        --endpoint https://one:50051 --endpoint https://two:50051 --actors 32 --ray-address auto
    """
    partitions = plan(
        sources,
        codebase,
        columns=Columns(path_column, content_column, codebase_column),
        files_per_partition=files_per_partition,
    )
    # Ray tells its makers about every cluster unless it is told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    import ray.data

    from gateway.batch.job import BatchReport, run

    def tell(report: BatchReport) -> None:
        done = report.resumed_count + report.done_count
        typer.echo(
            f"{done} of {report.partition_count} partitions, {report.counts['chunks_embedded']} chunks", err=True
        )

    ray.init(address=ray_address, log_to_driver=False, logging_level=logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        report = run(
            partitions,
            endpoints=endpoint or [DEFAULT_ENDPOINT],
            checkpoint=checkpoint,
            actors=actors,
            api_key_file=api_key_file,
            patience_s=patience,
            on_partition=tell,
        )
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        typer.echo(
            f"error: {str(cause).strip().splitlines()[-1]} (what is done is noted; run again to go on)", err=True
        )
        raise typer.Exit(1) from None
    # Not after an error, which is yet to be told: what still runs of Ray Data may end this process when Ray is gone.
    ray.shutdown()
    typer.echo(json.dumps(report.to_dict()) if as_json else str(report))
    if report.failed_count:
        counts = {"chunks": report.counts["chunks_failed"], "files": report.counts["files_failed"]}
        failed = " and ".join(f"{count} {what}" for what, count in counts.items() if count)
        typer.echo(f"error: {failed} failed, such as {report.failure}", err=True)
        raise typer.Exit(1)
