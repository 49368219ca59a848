"""Opens a file in the user's editor, at a line."""

import os
import shlex
import subprocess
from pathlib import Path

# How editors are told the line, where it is not `+LINE FILE`.
_WITH_COLON = frozenset({"hx", "helix", "subl", "zed", "lapce"})
_WITH_GOTO = frozenset({"code", "code-insiders", "codium", "cursor", "windsurf"})
_WITH_LINE = frozenset({"idea", "pycharm", "goland", "clion", "webstorm", "rustrover"})
_FALLBACK = "vi"


class EditorFailed(Exception):
    """There is no such editor, or it ended with a failure."""


def editor_command(path: Path, line: int) -> list[str]:
    """The command that opens a file at a line, by VISUAL, EDITOR, or vi; either variable may hold options, too.

    Raises:
        EditorFailed: The variable cannot be read as a command.
    """
    name = os.environ.get("VISUAL") or os.environ.get("EDITOR") or _FALLBACK
    try:
        command = shlex.split(name)
    except ValueError as error:
        raise EditorFailed(f"$VISUAL or $EDITOR is {name!r}: {error}") from error
    program = Path(command[0]).name
    if program in _WITH_GOTO:
        return [*command, "--goto", f"{path}:{line}"]
    if program in _WITH_COLON:
        return [*command, f"{path}:{line}"]
    if program in _WITH_LINE:
        return [*command, "--line", str(line), str(path)]
    return [*command, f"+{line}", str(path)]


def open_at_line(path: Path, line: int) -> None:
    """Open a file, and wait for the editor's end.

    Args:
        path: Absolute, so that no name passes for an option.
        line: From 1.

    Raises:
        EditorFailed: As `editor_command`, or the editor cannot be started, or failed.
    """
    command = editor_command(path, line)
    try:
        code = subprocess.run(command, check=False).returncode  # noqa: S603 - the user's own command, without shell
    except OSError as error:
        raise EditorFailed(f"{command[0]}: {error.strerror}; set $EDITOR") from error
    if code != 0:
        raise EditorFailed(f"{command[0]} ended with exit code {code}")
