"""The documentation's commands and programs, run as they stand there."""

from pathlib import Path

import pytest
from docs_pages import APART, blocks, pages, reader_at

from gateway.local.process import free_port
from gateway.local.stack import Stack

RUN = [page for page in pages() if page not in APART and any(block.is_run for block in blocks(page))]


def test_there_are_pages_to_run() -> None:
    """An empty list would pass."""
    assert {"start.md", "tutorials/grpc-client.md", "reference/http.md", "operations/observe.md"} <= set(RUN)


@pytest.mark.parametrize("page", RUN)
def test_a_page_does_what_it_says(stack: Stack, tmp_path: Path, page: str) -> None:
    """From its first command to its last, in one shell."""
    replaced = {"http://127.0.0.1:8080": stack.http_url, "127.0.0.1:8765": f"127.0.0.1:{free_port()}"}
    reader_at(stack.endpoint, stack.api_key, tmp_path, replaced=replaced).follow(page)
