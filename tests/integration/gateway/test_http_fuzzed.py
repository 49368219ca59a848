"""The OpenAPI document, taken at its word by schemathesis."""

import re
import subprocess
import sys
from pathlib import Path

from soak_run import SoakRun

from gateway.local.stack import Stack


def test_what_the_document_says_holds(stack: Stack, soak: SoakRun, tmp_path: Path) -> None:
    """Requests made from it, right and wrong: no 500, no status or body that it does not name, no way in without a key.

    Left out is that whatever fits the schema is accepted: a text of spaces fits it, and is refused.
    """
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{stack.http_url}/openapi.json"),
        *("--header", f"Authorization: Bearer {stack.api_key}", "--exclude-checks", "positive_data_acceptance"),
        *("--seed", str(soak.seed), "--max-examples", "2000" if soak.is_long else "10"),
        *("--no-color", "--generation-database", "none", "--suppress-health-check", "all"),
    ]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    assert re.search(r"Operations: +4 selected / 4 total", run.stdout), run.stdout[-2000:]
