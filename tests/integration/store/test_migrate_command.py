"""`python -m gateway.migrate`, as a deployment runs it before its gateways."""

import asyncio
import os
import sys

from gateway.store.migrations import load_migrations, migrate


async def run(url: str) -> tuple[int, str]:
    """Exit code and what was printed, with the settings of a gateway that need not be reachable."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DUOVEC_")} | {
        "DUOVEC_DATABASE_URL": url,
        "DUOVEC_TRITON_URL": "triton.invalid:8001",
        "DUOVEC_MODEL_REPOSITORY": "/models",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.migrate"),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def test_the_schema_is_there_when_it_ends(empty_url: str) -> None:
    """A gateway that starts then has nothing left to do; a second run finds it so, too."""
    code, output = await run(empty_url)
    assert code == 0, output
    assert output.rstrip().endswith(", ".join(str(migration.version) for migration in load_migrations()))
    assert await migrate(empty_url) == []
    code, output = await run(empty_url)
    assert (code, "none, the schema is of this version" in output) == (0, True)


async def test_a_database_that_is_away_is_one_line() -> None:
    """And exit code 1, so that the job is tried again."""
    code, output = await run("postgresql://localhost:1/duovec")
    assert code == 1
    assert output.startswith("error: ")
    assert output.count("\n") == 1
