from pathlib import Path

import pytest

from gateway.cli.editor import EditorFailed, editor_command, open_at_line
from gateway.cli.locating import locate, source_folders

FILE = Path("/src/a b.py")


@pytest.mark.parametrize(
    ("editor", "command"),
    [
        ("vim", ["vim", "+7", "/src/a b.py"]),
        ("emacsclient -nw", ["emacsclient", "-nw", "+7", "/src/a b.py"]),
        ("/usr/bin/code --wait", ["/usr/bin/code", "--wait", "--goto", "/src/a b.py:7"]),
        ("hx", ["hx", "/src/a b.py:7"]),
        ("idea", ["idea", "--line", "7", "/src/a b.py"]),
        ("'/opt/my editor/run'", ["/opt/my editor/run", "+7", "/src/a b.py"]),
        ("", ["vi", "+7", "/src/a b.py"]),
    ],
)
def test_each_editor_is_told_the_line_its_way(editor: str, command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", editor)
    assert editor_command(FILE, 7) == command
    monkeypatch.setenv("VISUAL", "nano")
    assert editor_command(FILE, 7)[0] == "nano"


def test_an_editor_that_fails_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VISUAL", raising=False)
    for editor, message in (
        ("no-such-editor", "no-such-editor: No such file"),
        ("false", "false ended with exit code 1"),
        ("'", "No closing"),
    ):
        monkeypatch.setenv("EDITOR", editor)
        with pytest.raises(EditorFailed, match=message):
            open_at_line(FILE, 1)


def test_a_hit_is_located_in_its_folder_and_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path is the service's word: it leads out of the folder neither by dots nor by links."""
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "a.py").write_text("a")
    (tmp_path / "secret").write_text("s")
    (inside / "link").symlink_to("../secret")
    assert locate("a.py", [tmp_path / "none", inside]) == inside / "a.py"
    for path in ("../secret", "link", "/etc/passwd", "gone.py", "."):
        assert locate(path, [inside]) is None
    monkeypatch.chdir(inside)
    assert source_folders(None) == [inside]
    assert source_folders(tmp_path) == [tmp_path]
