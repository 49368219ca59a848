"""TypeScript made from the protos: README.md's snippet and a longer program are type-checked, and run as they stand."""

import base64
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from npm_packages import installed, run

from gateway.client.client import Client
from gateway.client.indexer import index_tree
from gateway.local.stack import Stack

ROOT = Path(__file__).parents[3]
SOURCES = Path(__file__).with_name("typescript")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages of the lock file, and the code made from the protos."""
    folder = tmp_path_factory.mktemp("typescript")
    for source in SOURCES.iterdir():
        shutil.copy(source, folder)
    (folder / "node_modules").symlink_to(installed(SOURCES) / "node_modules")
    (folder / "search.ts").write_text(readme_block("typescript", ""), encoding="utf-8")
    (folder / "protos").symlink_to(ROOT / "protos")
    install, make = readme_block("bash", "npm install ").split("\n", maxsplit=1)
    asked = set(install.split()[2:])
    assert asked <= json.loads((SOURCES / "package.json").read_text())["dependencies"].keys()
    run("bash", "-euc", make, folder=folder)
    return folder


def readme_block(language: str, start: str) -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(rf"^```{language}\n({start}.*?)^```", text, re.MULTILINE | re.DOTALL)
    return str(block)


def test_the_programs_are_sound_to_the_compiler(project: Path) -> None:
    """And it does look: one line is there to be refused."""
    run("node_modules/.bin/tsc", folder=project)


def test_the_snippet_of_the_readme_finds_what_python_finds(
    project: Path, stack: Stack, client: Client, tmp_path: Path
) -> None:
    (tmp_path / "cookies.py").write_text(
        "import hmac\n\n\ndef sign_cookie(value, key):\n    return hmac.new(key, value, 'sha256').hexdigest()\n\n\n"
        "def listen(port):\n    return socket.create_server(('', port))\n"
    )
    index_tree(client, tmp_path, "mine")
    program = project / "search-here.ts"
    program.write_text((project / "search.ts").read_text().replace("127.0.0.1:50051", stack.endpoint))
    printed = run("node", program.name, folder=project, DUOVEC_API_KEY=stack.api_key).splitlines()
    hits = client.search("mine", "where are cookies signed", limit=3).hits
    assert printed == [f"{hit.score:.3f} {hit.chunk.path}:{hit.chunk.start_line} {hit.chunk.symbol}" for hit in hits]
    assert "sign_cookie" in printed[0]
    client.delete_codebase("mine")


def test_vectors_streams_and_errors_are_those_of_python(project: Path, stack: Stack, client: Client) -> None:
    printed = run(
        *("node", "client.ts", f"http://{stack.endpoint}", "typed"), folder=project, DUOVEC_API_KEY=stack.api_key
    )
    said = json.loads(printed)
    vector = np.frombuffer(base64.b64decode(said["vector"]), dtype="<f4")
    np.testing.assert_array_equal(vector, client.embed(["open a socket"], "query")[0])
    assert said["indexed"] == {str(number): "EMBEDDED" for number in range(40)}
    assert {file.path for file in client.list_files("typed")} == {f"f{number}.py" for number in range(40)}
    assert said["refused"] == {"code": "InvalidArgument", "reason": "INVALID_INPUT", "fields": ["texts[1]"]}
    client.delete_codebase("typed")
