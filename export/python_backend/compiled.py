"""OpenVINO's compiled graphs, kept from one start to the next in a way that cannot change a vector.

Copied beside `host.py` into the version folder, so it imports nothing of duovec.

Measured on OpenVINO 2026.4: it finds its file by the path of the graph, whatever the precision, and runs weights that
were damaged since without a word.
"""

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_DIGESTS = "digests.json"
# A folder that is being written, and belongs to a process that died when it is older.
_STAGING = "."
_ABANDONED_S = 3600.0


class CompiledGraph:
    """The folder in which OpenVINO keeps one compiled graph.

    Its name has everything that decides the content, and beside OpenVINO's file lies that file's SHA-256, which is
    checked before the file is used.
    """

    def __init__(self, parent: Path, decided_by: Mapping[str, Any]) -> None:
        """Name the folder.

        Args:
            parent: Of this version alone; made when missing, and nothing else is kept in it.
            decided_by: The graph's digests and whatever else decides the content.
        """
        name = hashlib.sha256(json.dumps(decided_by, sort_keys=True).encode()).hexdigest()[:32]
        self.folder = parent / name

    def is_whole(self) -> bool:
        """Whether the folder holds the files that were kept, and no others."""
        try:
            kept = json.loads((self.folder / _DIGESTS).read_text(encoding="utf-8"))
            return bool(kept == _digests(self.folder))
        except (OSError, ValueError):
            return False

    @contextmanager
    def staged(self) -> Iterator[Path | None]:
        """An empty folder for OpenVINO to write into, kept at the end; None where the disk refuses.

        What was kept before goes. Keeping it may fail: then the next start compiles again.
        """
        parent = self.folder.parent
        try:
            parent.mkdir(parents=True, exist_ok=True)
            _clear(parent)
            staged = Path(tempfile.mkdtemp(prefix=_STAGING, dir=parent))
        except OSError:  # such as a repository that is mounted read-only
            yield None
            return
        try:
            yield staged
            with suppress(OSError):  # the disk is full, or another instance was faster
                (staged / _DIGESTS).write_text(json.dumps(_digests(staged)), encoding="utf-8")
                staged.rename(self.folder)
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def drop(self) -> None:
        """Remove it; what cannot be removed is found out again at the next start."""
        shutil.rmtree(self.folder, ignore_errors=True)


def graph_folder(parent: Path, graph: Mapping[str, str], precision: str) -> CompiledGraph:
    """Where the compiled graph of a version is kept.

    Args:
        parent: See `CompiledGraph`.
        graph: SHA-256 of the files of its graph by name.
        precision: The version's.
    """
    import openvino

    core = openvino.Core()
    names = ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")
    decided_by = {
        "graph": dict(graph),
        "precision": precision,
        "openvino": openvino.__version__,
        "processor": {name: str(core.get_property("CPU", name)) for name in names},
        # Part of OpenVINO's own key: a repository that was moved would never find its file again.
        "parent": str(parent.absolute()),
    }
    return CompiledGraph(parent, decided_by)


def _digests(folder: Path) -> dict[str, str]:
    found = {}
    for path in folder.iterdir():
        if path.name != _DIGESTS:
            with path.open("rb") as file:
                found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _clear(parent: Path) -> None:
    for path in parent.iterdir():
        if not path.name.startswith(_STAGING) or time.time() - path.stat().st_mtime > _ABANDONED_S:
            shutil.rmtree(path)
