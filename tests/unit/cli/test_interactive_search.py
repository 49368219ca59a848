"""`duovec search -i` as a person has it: in a terminal, by keys, with an editor."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from client.fake_service import FakeService, serving
from terminal_screen import TerminalScreen

from duovec.v1 import search_service_pb2
from gateway.client.client import Client
from gateway.client.indexer import index_tree

DUOVEC = str(Path(sys.executable).with_name("duovec"))
UP, DOWN, ENTER, ESCAPE = "\x1b[A", "\x1b[B", "\r", "\x1b"
FILES = {
    "net/sockets.py": "import socket\n\n\ndef open_socket(host):\n    return socket.create_connection(host)\n",
    "net/closing.py": "def close_socket(one):\n    # \x1b[2J ends it\n    one.close()\n",
    "parse.py": "def parse_json(text):\n    return json.loads(text)\n",
}


@pytest.fixture
def service() -> FakeService:
    service = FakeService()
    service.matching = True
    return service


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for path, content in FILES.items():
        (tmp_path / "src" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "src" / path).write_text(content)
    return tmp_path / "src"


@pytest.fixture
def terminal(service: FakeService, tree: Path, tmp_path: Path) -> Iterator[TerminalScreen]:
    editor = tmp_path / "my editor"
    editor.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{tmp_path}/opened"\n')
    editor.chmod(0o755)
    with serving(service) as endpoint:
        with Client(endpoint) as client:
            index_tree(client, tree, "x")
        environment = {"DUOVEC_ENDPOINT": endpoint, "EDITOR": f"'{editor}'", "VISUAL": ""}
        with TerminalScreen([DUOVEC, "search", "-i"], cwd=tree, environment=environment) as terminal:
            terminal.until(lambda text: text.startswith(">") and "Esc ends" in text)
            yield terminal


def test_hits_come_while_one_types_with_the_code_of_the_chosen_one(
    service: FakeService, terminal: TerminalScreen
) -> None:
    """Of a word that is typed at once there is one search, and it is not in the log."""
    terminal.press("socket")
    text = terminal.until(lambda text: "2 hits of" in text)  # the last line to be drawn
    lines = text.splitlines()
    assert lines[0].startswith("> socket")
    assert "net/closing.py:1 close_socket" in lines[1]
    assert "net/sockets.py:4 open_socket" in lines[2]
    assert "1 def close_socket(one):" in lines[1]
    # What would steer the terminal is shown instead.
    assert "␛[2J ends it" in lines[2]
    assert "2 hits of" in lines[-1]
    assert [(search.query, search.unlogged) for search in service.searches] == [("socket", True)]
    assert terminal.colors_of("def ") == {"magenta", "default"}
    terminal.press(DOWN)
    text = terminal.until(lambda text: "4 def open_socket(host):" in text)
    assert "import socket" not in text
    # Deleting and typing on asks again.
    terminal.press("\x7f" * 6 + "json")
    text = terminal.until(lambda text: "1 hits of" in text and "def parse_json" in text)
    assert "socket" not in text
    terminal.press("\x7f" * 4)
    terminal.until(lambda text: "parse_json" not in text)
    terminal.press(ESCAPE)
    assert terminal.end() == 0


def test_enter_opens_the_editor_at_the_line_and_is_feedback(
    service: FakeService, terminal: TerminalScreen, tree: Path, tmp_path: Path
) -> None:
    """Only now the search is logged; the screen is there again after the editor."""
    terminal.press("socket")
    terminal.until(lambda text: "2 hits of" in text)  # the last line to be drawn
    terminal.press(DOWN)
    terminal.until(lambda text: "4 def open_socket(host):" in text)
    terminal.press(ENTER)
    terminal.until(lambda _: bool(service.feedback))
    assert (tmp_path / "opened").read_text() == f"+4\n{tree}/net/sockets.py\n"
    [feedback] = service.feedback
    assert feedback.items[0].signal == search_service_pb2.FEEDBACK_SIGNAL_OPENED
    assert [search.unlogged for search in service.searches] == [True, False]
    terminal.until(lambda text: "4 def open_socket(host):" in text)
    terminal.press("\x03")
    assert terminal.end() == 0


def test_a_failure_is_told_and_the_screen_stays(service: FakeService, terminal: TerminalScreen, tree: Path) -> None:
    """A file that is not here, and a service that fails."""
    terminal.press("json")
    terminal.until(lambda text: "def parse_json" in text)
    (tree / "parse.py").unlink()
    terminal.press(ENTER)
    terminal.until(lambda text: "parse.py is not below this folder" in text)
    service.refuse_searches = True
    terminal.press("s")
    terminal.until(lambda text: "it is refused" in text)
    service.refuse_searches = False
    terminal.press("\x7f")
    terminal.until(lambda text: "1 hits of" in text)
    terminal.press(ESCAPE)
    assert terminal.end() == 0
