"""Folders of queued runs, where a worker looks for them."""

from pathlib import Path

import asyncpg

from training.worker.queue import QueuedRun
from training.worker.stages import RunFolder, WorkerSettings


async def run_folder(url: str, work_dir: Path, run_id: int) -> RunFolder:
    """The folder of a run in which a worker's stages will find what lies there."""
    connection = await asyncpg.connect(url)
    try:
        row = await connection.fetchrow(
            "SELECT training_runs.*, (SELECT system_identifier FROM pg_control_system()) || '/' || d.oid AS database"
            " FROM training_runs, pg_database d WHERE run_id = $1 AND d.datname = current_database()",
            run_id,
        )
    finally:
        await connection.close()
    assert row is not None
    values = {name: row[name] for name in QueuedRun.__dataclass_fields__}
    settings = WorkerSettings(url, work_dir, endpoint="", triton_url="")
    return RunFolder(settings, QueuedRun(**{**values, "codebase_ids": tuple(row["codebase_ids"])}))
