"""`duovec demo`, the first thing that a newcomer runs, with the real PostgreSQL, Triton and gateway."""

import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from polling import until

DUOVEC = Path(sys.executable).with_name("duovec")


def demo(code: Path, data_dir: Path, repository: Path) -> str:
    """What it prints; it must end well, and leave no process."""
    command = [DUOVEC, "demo", code, "--query", "open a socket", "--data-dir", data_dir, "--repository", repository]
    result = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert result.returncode == 0, result.stderr
    # What was killed last is seen a moment longer.
    assert until(lambda: processes_of(data_dir), lambda found: not found) == []
    return result.stdout


def processes_of(data_dir: Path) -> list[psutil.Process]:
    return [process for process in psutil.process_iter(["cmdline"]) if str(data_dir) in str(process.info["cmdline"])]


def test_it_indexes_searches_and_stops_and_goes_on_from_there(
    tmp_path: Path, data_dir: Path, published_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second time nothing is embedded any more."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("DUOVEC_API_KEY", raising=False)
    code = tmp_path / "code"
    code.mkdir()
    (code / "sockets.py").write_text("def open_socket(address):\n    return socket.create_connection(address)\n")
    (code / "sums.py").write_text("def add(first, second):\n    return first + second\n")
    first, second = (demo(code, data_dir, published_models) for _ in range(2))
    assert re.search(r"embedded\W+2\b", first) and re.search(r"unchanged\W+2\b", second)
    assert "embedded" not in second
    for printed in (first, second):
        assert re.search(r"^ 1 .* sockets\.py:1-2 ", printed.split("search: open a socket")[1], re.MULTILINE)
