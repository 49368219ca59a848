"""The client needs the packages of its own extra, and none of the server's."""

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from .fake_service import FakeService, serving

ROOT = Path(__file__).parents[3]

PROGRAM = """
import asyncio, importlib.abc, sys
from pathlib import Path

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in REFUSED:
            raise ModuleNotFoundError(f"{name} is not in the extra `client`", name=name)

endpoint, folder, REFUSED = sys.argv[1], sys.argv[2], set(sys.argv[3].split(","))
sys.meta_path.insert(0, Refuse())
try:
    import asyncpg
except ModuleNotFoundError:
    print("refused")

import gateway.client
from gateway.client import *

async def main():
    async with AsyncClient(endpoint, api_key="k") as client:
        print((await client.embed(["a"], "query")).shape, (await index_tree(client, Path(folder), "x")).files_unchanged)

with Client(endpoint, api_key="k") as client:
    print(index_tree(client, Path(folder), "x").chunks_embedded, len(client.search("x", "f").hits))
asyncio.run(main())
"""


def modules_of(distributions: set[str]) -> set[str]:
    """Top-level modules that belong to these alone."""
    return {
        module
        for module, owners in metadata.packages_distributions().items()
        if {canonical(owner) for owner in owners} <= distributions
    }


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_it_works_without_any_other_package(tmp_path: Path) -> None:
    """Whatever else is installed cannot be imported."""
    locked = (ROOT / "requirements" / "client.txt").read_text(encoding="utf-8")
    ours = {canonical(name) for name in re.findall(r"^([\w.-]+)(?:\[[\w,]+\])?==", locked, re.MULTILINE)} | {"duovec"}
    installed = {canonical(found.metadata["Name"]) for found in metadata.distributions()}
    assert {"grpcio", "numpy", "protobuf"} < ours < installed
    refused = modules_of(installed - ours)
    assert {"asyncpg", "pydantic_settings", "starlette", "tokenizers", "torch", "tritonclient"} <= refused
    (tmp_path / "a.py").write_text("def f():\n    return 1\n")
    service = FakeService()
    with serving(service) as endpoint:
        ran = subprocess.run(
            [sys.executable, "-c", PROGRAM, endpoint, str(tmp_path), ",".join(sorted(refused))],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'protos'}"},
        )
    assert (ran.returncode, ran.stdout.splitlines()) == (0, ["refused", "1 1", "(1, 2560) 1"]), ran.stderr
