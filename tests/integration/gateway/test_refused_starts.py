"""A gateway that is wrongly set up ends at once, with exit code 1 and one line that says what to do."""

import asyncio
import json
import os
import shutil
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from chunk_streams import index_chunks
from tls_certificates import Authority

from duovec.v1 import index_service_pb2
from gateway.client.client import Client
from gateway.local.stack import Stack

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
        "error: wrong settings: DUOVEC_MAX_STREAM is no setting; the nearest is DUOVEC_MAX_STREAMS": {
            "DUOVEC_MAX_STREAM": "7"
        },
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


async def test_a_gateway_of_another_space_does_not_start_on_the_vectors_of_one(
    stack: Stack, client: Client, published_models: Path, tmp_path: Path
) -> None:
    """Its queries and the stored vectors would be of two kinds. The repository differs by one prompt of one encoder."""
    client.create_codebase("of-one-space")
    chunk = {"path": "a.py", "language": "python", "kind": "text", "start_line": 1, "end_line": 1, "content": "x = 1"}
    chunk |= {"file_sha256": bytes(32), "file_chunk_count": 1}
    request = index_service_pb2.IndexChunksRequest(codebase_id="of-one-space", item_id="1", chunk=chunk)
    assert all(reply.HasField("indexed") for reply in index_chunks(client, iter([request])))
    repository = tmp_path / "models"
    shutil.copytree(published_models, repository, copy_function=os.symlink)
    path = repository / "compact-text" / "1" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["spec"]["prompts"]["query"] = "another prompt: "
    path.unlink()
    path.write_text(json.dumps(manifest))
    environment = stack._gateway_environment | {
        "DUOVEC_MODEL_REPOSITORY": str(repository),
        "DUOVEC_LISTEN": "127.0.0.1:0",
    }
    try:
        code, line = await start(environment)
        assert code == 1
        space = client.search("of-one-space", "x").space
        assert line.startswith(f"error: the vectors of the database are of space {space}: no loaded versions of ")
        assert line.endswith("publish or roll back to them with duovec-export")
    finally:
        client.delete_codebase("of-one-space")
