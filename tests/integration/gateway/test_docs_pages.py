"""The documentation's commands and programs, run as they stand there."""

import os
from pathlib import Path

import pytest
from docs_pages import APART, Reader, blocks, pages

from gateway.client.credentials import save_api_key
from gateway.local.process import free_port
from gateway.local.stack import Stack

RUN = [page for page in pages() if page not in APART and any(block.is_run for block in blocks(page))]


@pytest.fixture
def reader(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    """At the machine on which `duovec up` runs."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("DUOVEC_API_KEY", raising=False)
    save_api_key(stack.endpoint, stack.api_key)
    folder = tmp_path / "clone"
    folder.mkdir()
    replaced = {
        "127.0.0.1:50051": stack.endpoint,
        "http://127.0.0.1:8080": stack.http_url,
        "127.0.0.1:8765": f"127.0.0.1:{free_port()}",
    }
    environment = {
        "COLUMNS": "200",
        "DUOVEC_ENDPOINT": stack.endpoint,
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "XDG_CONFIG_HOME": os.environ["XDG_CONFIG_HOME"],
    }
    return Reader(folder, replaced, environment)


def test_there_are_pages_to_run() -> None:
    """An empty list would pass."""
    assert {"start.md", "tutorials/grpc-client.md", "reference/http.md", "operations/observe.md"} <= set(RUN)


@pytest.mark.parametrize("page", RUN)
def test_a_page_does_what_it_says(reader: Reader, page: str) -> None:
    """From its first command to its last, in one shell."""
    reader.follow(page)
