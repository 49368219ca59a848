"""The license of weights is shown before the first byte of a download, and accepted or nothing is fetched."""

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import Hub, running
from small_checkpoint import SPEC

SHOWN = [
    "small-text: nobody/small-text at main, 0.00 GB to download",
    "license CC-BY-NC-4.0: forbids commercial use; https://creativecommons.org/licenses/by-nc/4.0/",
]
# The weights are fetched and then refused, because they are none: that they were fetched is what these tests look at.
REFUSED = "is not the configuration of a transformer"


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub with weights that are none."""
    files = {"config.json": b"{}", "model.safetensors": b"weights"}
    with running(Hub(files, repository="nobody/small-text")) as hub:
        yield hub


def build(hub: Hub, tmp_path: Path, *options: str, stdin: int = subprocess.DEVNULL) -> list[str]:
    """Run the command on a spec whose weights may not be used commercially; the lines of stderr."""
    spec = tmp_path / "small.toml"
    spec.write_text(
        SPEC.replace("Apache-2.0", "CC-BY-NC-4.0", 1)
        .replace("https://www.apache.org/licenses/LICENSE-2.0", "https://creativecommons.org/licenses/by-nc/4.0/")
        .replace('forbids = ""', 'forbids = "commercial use"')
    )
    command = [str(Path(sys.executable).with_name("duovec-export")), "build", "--spec", str(spec), *options]
    result = subprocess.run(
        [*command, "--repository", str(tmp_path / "models"), "--cache-dir", str(tmp_path / "cache")],
        env={**os.environ, "HF_ENDPOINT": hub.url, "COLUMNS": "200"},
        stdin=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 1
    return result.stderr.splitlines()


def fetched(hub: Hub) -> bool:
    """Whether anything but the list of files was asked for."""
    return any("/api/" not in path for path, _ in hub.requests)


def test_without_a_terminal_it_must_be_accepted_by_option(hub: Hub, tmp_path: Path) -> None:
    """Nobody is there to ask: nothing is fetched."""
    *shown, error = build(hub, tmp_path)
    assert shown == SHOWN
    assert error == (
        "error: the license of small-text is not accepted; read https://creativecommons.org/licenses/by-nc/4.0/, "
        "then add --accept-license"
    )
    assert not fetched(hub)


def test_accepted_by_option_it_is_still_shown(hub: Hub, tmp_path: Path) -> None:
    """And the download goes on."""
    lines = build(hub, tmp_path, "--accept-license")
    assert lines[:2] == SHOWN and REFUSED in lines[-1]
    assert fetched(hub)
    # What lies in the cache was accepted before: it is neither asked nor shown again.
    hub.requests.clear()
    lines = build(hub, tmp_path)
    assert len(lines) == 1 and REFUSED in lines[0]
    assert not fetched(hub)


@pytest.mark.parametrize(("answer", "accepted"), [("y", True), ("n", False), ("", False)])
def test_on_a_terminal_it_is_asked(hub: Hub, tmp_path: Path, answer: str, accepted: bool) -> None:
    """No answer is a no."""
    keyboard, terminal = pty.openpty()
    os.write(keyboard, f"{answer}\n".encode())
    try:
        lines = build(hub, tmp_path, stdin=terminal)
    finally:
        os.close(keyboard)
        os.close(terminal)
    assert lines[:2] == SHOWN and lines[2].startswith("Do you accept it?")
    assert fetched(hub) == accepted
    assert (REFUSED if accepted else "was not accepted: nothing is downloaded") in lines[-1]
