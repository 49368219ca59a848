"""The pages of the documentation as a reader follows them: files saved, commands run in order, outputs compared.

Of a page's fenced blocks, `bash` is run as it stands, unless its title says why not (`Not run here: …`). One that is
titled `In a terminal of its own` is started, and must still run when the page ends; where it is `duovec up`, the
service of the tests stands in. A block whose title is the name of a file is saved under it. `text` titled `Output` is
what the block before printed: whole numbers count, decimals and digests may differ, `…` stands for anything.
"""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NOT_RUN = "Not run here: "
OWN_TERMINAL = "In a terminal of its own"
OUTPUT = "Output"
# Run where there is what they need beside a service: a cluster of Ray, and encoders that may change.
APART = ("tutorials/batch-indexer.md", "tutorials/models.md")
# The service of the tests is what these would make.
_STANDS_IN = ("duovec up", "duovec doctor", "duovec-export publish --pair compact")
_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)(?: title=\"(?P<title>[^\"]*)\")?\n(?P<source>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_FILE = re.compile(r"[\w./-]+\.\w+")
_MARK = "@@ block"


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; `line` is that of its fence."""

    page: str
    line: int
    language: str
    title: str
    source: str

    @property
    def is_file(self) -> bool:
        return _FILE.fullmatch(self.title) is not None

    @property
    def is_run(self) -> bool:
        return self.language == "bash" and not self.title

    def commands(self) -> list[list[str]]:
        """Its command lines in words; continued lines are one."""
        lines = self.source.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def pages() -> list[str]:
    """The written pages, by their path below `docs`."""
    return sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, match.start()) + 1,
            match["language"],
            match["title"] or "",
            textwrap.dedent(match["source"]),
        )
        for match in _FENCE.finditer(text)
    ]


def reader_at(endpoint: str, api_key: str, folder: Path, *, replaced: Mapping[str, str], **variables: str) -> "Reader":
    """A reader on the machine on which `duovec up` runs, which keeps its key where the commands find it.

    Args:
        endpoint: The service's.
        api_key: Its administrator's.
        folder: An empty one.
        replaced: More that stands in the pages, and what it is here.
        variables: More of the environment.
    """
    keys, clone = folder / "config" / "duovec" / "keys", folder / "clone"
    keys.mkdir(parents=True)
    (keys / endpoint).write_text(f"{api_key}\n", encoding="ascii")
    clone.mkdir()
    environment = {
        "COLUMNS": "200",
        "DUOVEC_ENDPOINT": endpoint,
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "XDG_CONFIG_HOME": str(folder / "config"),
    }
    return Reader(clone, {"127.0.0.1:50051": endpoint, **replaced}, environment | variables)


@dataclass
class Reader:
    """Follows pages in a folder that looks like a clone, against a service.

    Attributes:
        folder: Where it works; it is empty.
        replaced: What stands in the pages, and what it is here, such as addresses.
        environment: Variables of the commands.
    """

    folder: Path
    replaced: Mapping[str, str]
    environment: Mapping[str, str]

    def follow(self, page: str) -> None:
        """Run a page.

        Raises:
            AssertionError: A command failed, or printed something else.
        """
        for name in ("deploy", "gateway", "protos", "training"):
            (self.folder / name).symlink_to(ROOT / name)
        (self.folder / ".venv").symlink_to(sys.prefix)
        found = blocks(page)
        for block in found:
            if block.is_file:
                path = self.folder / block.title
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(self._here(block.source), encoding="utf-8")
        script = "set -eo pipefail\n"
        for number, block in enumerate(found):
            if block.is_run:
                # On a line of its own, whatever the command before ended its output with.
                script += f"printf '\\n{_MARK} {number}\\n'\n{self._here(block.source)}\n"
            elif block.title == OWN_TERMINAL:
                script += "".join(f"{self._here(line)} & " for line in self._started(block))
                script += "\n"
        # What was started must be alive in the end, when a command that fails has had the time to.
        script += "for job in $(jobs -p); do sleep 1; kill -0 $job; done\n"
        self._run(found, script)

    def _started(self, block: Block) -> list[str]:
        lines = [line for line in block.source.replace("\\\n", " ").splitlines() if line.strip()]
        return [line for line in lines if not line.startswith((*_STANDS_IN, "source "))]

    def _here(self, text: str) -> str:
        for written, here in self.replaced.items():
            text = text.replace(written, here)
        return text

    def _run(self, found: list[Block], script: str) -> None:
        """One shell for the page, so that a variable set in one block is there in the next."""
        printed, told = self.folder / ".stdout", self.folder / ".stderr"
        with printed.open("wb") as stdout, told.open("wb") as stderr:
            shell = subprocess.Popen(
                ["bash", "-c", script],
                cwd=self.folder,
                env={"PATH": f"{Path(sys.executable).parent}:{os.defpath}", **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
            try:
                code = shell.wait(timeout=500)
            finally:
                # What was started for terminals of their own is in the shell's group.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(shell.pid, signal.SIGKILL)
                shell.wait()
        outputs = _by_block(printed.read_text(encoding="utf-8"))
        last = found[max(outputs)] if outputs else found[0]
        where = f"docs/{last.page}:{last.line}"
        assert code == 0, (
            f"{where} ended with {code}: {outputs.get(max(outputs, default=-1))}\n{told.read_text()[-3000:]}"
        )
        for number, block in enumerate(found):
            if block.title == OUTPUT:
                _compare(block, outputs[number - 1])


def _by_block(printed: str) -> dict[int, str]:
    """What each block printed, by its number in the page."""
    parts = re.split(rf"^{_MARK} (\d+)\n", printed, flags=re.MULTILINE)
    return {int(number): text for number, text in zip(parts[1::2], parts[2::2], strict=True)}


def _compare(block: Block, printed: str) -> None:
    """Every documented line was printed, in this order."""
    rest = [" ".join(line.split()) for line in printed.splitlines()]
    for line in block.source.splitlines():
        pattern = re.escape(" ".join(line.split())).replace("…", ".*")
        pattern = re.sub(r"[0-9a-f]{8,}", "[0-9a-f]{8,}", pattern)
        pattern = re.sub(r"\d+\\\.\d+", r"\\d+\\.\\d+", pattern)
        while rest and not re.fullmatch(pattern, rest[0]):
            rest.pop(0)
        assert rest, f"docs/{block.page}:{block.line}: nobody printed {line!r}, but:\n{printed}"
        rest.pop(0)
