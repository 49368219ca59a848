"""A gateway that is wrongly set up ends at once, with exit code 1 and one line that says what to do."""

import asyncio
import os
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from tls_certificates import Authority

ROOT = Authority.make()
# Nothing answers there: what is refused is refused before anything is asked.
NOWHERE = {
    "DUOVEC_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
    "DUOVEC_TRITON_URL": "127.0.0.1:1",
    "DUOVEC_MODEL_REPOSITORY": "/nonexistent",
}


async def start(environment: dict[str, str]) -> tuple[int | None, str]:
    """Exit code and last line of a gateway."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DUOVEC_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.server"),
        env={**clean, **NOWHERE, **environment},
        stderr=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    _, stderr = await asyncio.wait_for(process.communicate(), 60)
    assert b"Traceback" not in stderr
    [line] = stderr.decode().splitlines()
    return process.returncode, line


@pytest.fixture
def cases(tmp_path: Path) -> dict[str, dict[str, str]]:
    """Settings by what must be in the line."""
    certificate, _ = ROOT.issue().write(tmp_path, "good")
    expired, expired_key = ROOT.issue(end=timedelta(hours=-1)).write(tmp_path, "expired")
    _, other_key = ROOT.issue().write(tmp_path, "other")

    def tls(certificate: Path, key: Path) -> dict[str, str]:
        return {"DUOVEC_TLS_CERTIFICATE": str(certificate), "DUOVEC_TLS_KEY": str(key)}

    refused = "is neither loopback nor a unix socket, and without TLS all could be read on the way; set DUOVEC_TLS_"
    return {
        f"error: DUOVEC_LISTEN: 0.0.0.0:50051 {refused}": {"DUOVEC_LISTEN": "0.0.0.0:50051"},
        f"error: DUOVEC_OWN_LISTEN: [::]:50052 {refused}": {"DUOVEC_OWN_LISTEN": "[::]:50052"},
        "error: TLS is half configured: set DUOVEC_TLS_KEY, too": {"DUOVEC_TLS_CERTIFICATE": str(certificate)},
        f"error: DUOVEC_TLS_CERTIFICATE: the certificate of CN=duovec.test in {expired} expired at": tls(
            expired, expired_key
        ),
        f"error: DUOVEC_TLS_KEY: the key in {other_key} is not that of the first certificate": tls(
            certificate, other_key
        ),
        # Here nothing is wrong but that there are no models, which shows that the address was taken.
        "error: no encoder is published: /nonexistent": {
            "DUOVEC_LISTEN": "0.0.0.0:50051",
            "DUOVEC_ALLOW_INSECURE": "true",
        },
    }


async def test_wrong_settings_end_the_start_with_a_line(cases: dict[str, dict[str, str]]) -> None:
    for complaint, (code, line) in zip(
        cases, await asyncio.gather(*(start(environment) for environment in cases.values())), strict=True
    ):
        assert line.startswith(complaint)
        assert code == 1
