"""The model repository on disk: versions appear whole or not at all.

`DIR/<encoder>/` holds

- `<N>/`: a version; it never changes once it is there,
- `config.pbtxt`: names the version that is served, those that Triton keeps loaded, and the newest that was ever
  published; replacing it is what publishes a version or rolls back to one,
- `.candidate/`: a version that is built and not yet published,
- `.compiled/<N>/`: what the Python backend keeps of a version's compiled graph; it may go at any time,
- `.staging-*/` and `.trash-*/`: what is being built, and what is being removed; without a living exporter, leftovers,
- `.build.lock` and `.publish.lock`. Whoever makes or moves a candidate holds the first, whoever replaces config.pbtxt
  the second; to publish takes both, in this order. A roll-back needs the second alone and waits for no build.

Triton looks at names that are numbers only. A numbered folder above `newest_version` was never published: its exporter
died between the rename and config.pbtxt.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.disk import replace_text, sync, sync_folder, writing
from export.errors import ExportError
from export.locks import DEFAULT_WAIT_S, locked
from export.version import Version, read_version, reading, write_manifest

if TYPE_CHECKING:
    from tritonclient.grpc.model_config_pb2 import ModelConfig

NEWEST_PARAMETER = "newest_version"
_STAGING, _TRASH = ".staging-", ".trash-"


@dataclass(frozen=True)
class ServingState:
    """What config.pbtxt says: the served version, all that Triton keeps loaded, the newest ever published."""

    served: int
    loaded: tuple[int, ...]
    newest: int


def encoders(repository: Path) -> list[str]:
    """Names of the encoders of which the repository holds anything; locks alone are nothing."""
    if not repository.is_dir():
        return []
    folders = (path for path in repository.iterdir() if path.is_dir() and not path.name.startswith("."))
    return sorted(folder.name for folder in folders if any(path.suffix != ".lock" for path in folder.iterdir()))


class EncoderFolder:
    """One encoder's folder in a model repository."""

    def __init__(self, repository: Path, encoder: str) -> None:
        self.encoder = encoder
        self.path = repository / encoder
        self.config_path = self.path / "config.pbtxt"
        self._candidate_path = self.path / ".candidate"
        self._compiled_path = self.path / ".compiled"

    @contextmanager
    def building(
        self, *, wait_s: float = DEFAULT_WAIT_S, on_wait: Callable[[str], None] = lambda holder: None
    ) -> Iterator[None]:
        """Hold the right to make and move the candidate; see `export.locks.locked`."""
        with locked(self.path / ".build.lock", wait_s=wait_s, on_wait=on_wait):
            yield

    @contextmanager
    def publishing(
        self, *, wait_s: float = DEFAULT_WAIT_S, on_wait: Callable[[str], None] = lambda holder: None
    ) -> Iterator[None]:
        """Hold the right to replace config.pbtxt; see `export.locks.locked`."""
        with locked(self.path / ".publish.lock", wait_s=wait_s, on_wait=on_wait):
            yield

    def config(self) -> "ModelConfig | None":
        """config.pbtxt, or None when there is none.

        Raises:
            ExportError: It cannot be read or parsed.
        """
        # Imported here because tritonclient takes a third of a second, and an empty folder needs none of it.
        from export.triton_config import parse_config

        if not self.config_path.is_file():
            return None
        with reading(self.config_path):
            return parse_config(self.config_path.read_text(encoding="utf-8"), str(self.config_path))

    def state(self) -> ServingState | None:
        """What is served; None when nothing was ever published here.

        Raises:
            ExportError: config.pbtxt cannot be read, or does not say.
        """
        config = self.config()
        if config is None:
            return None
        parameters = {key: value.string_value for key, value in config.parameters.items()}
        if NEWEST_PARAMETER not in parameters and not self._numbered():
            return None  # a configuration from git, whose version folders are nowhere
        loaded = tuple(int(number) for number in config.version_policy.specific.versions)
        try:
            # Before versions were served side by side, the one that was loaded was the served one, and the newest.
            served = int(parameters["served_version"]) if "served_version" in parameters else loaded[-1]
            return ServingState(served, loaded, int(parameters.get(NEWEST_PARAMETER, served)))
        except (ValueError, IndexError) as exc:
            raise ExportError(f"{self.config_path} does not say which version is served; publish again") from exc

    def versions(self) -> list[Version]:
        """The published versions, oldest first.

        Raises:
            ExportError: config.pbtxt or a manifest cannot be read.
        """
        state = self.state()
        newest = state.newest if state else 0
        return [read_version(self.encoder, path, number) for number, path in self._numbered() if number <= newest]

    def served(self) -> Version | None:
        """The served version; None when nothing was ever published here.

        Raises:
            ExportError: config.pbtxt or the manifest cannot be read.
        """
        state = self.state()
        return read_version(self.encoder, self.path / str(state.served), state.served) if state else None

    def candidate(self) -> Version | None:
        """The version that is built and not yet published.

        Raises:
            ExportError: Its manifest cannot be read.
        """
        if not self._candidate_path.is_dir():
            return None
        return read_version(self.encoder, self._candidate_path, 0)

    def unpublished(self) -> list[tuple[int, Path]]:
        """Numbered folders that were never published, with their numbers."""
        state = self.state()
        return [(number, path) for number, path in self._numbered() if number > (state.newest if state else 0)]

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """An empty folder to build a version in, removed at the end unless it became the candidate."""
        with writing(self.path):
            path = Path(tempfile.mkdtemp(prefix=_STAGING, dir=self.path))
            path.chmod(0o755)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def keep_candidate(self, staged: Path) -> Version:
        """Make a staged folder the candidate, in place of the one before.

        Raises:
            ExportError: The disk refuses.
        """
        with writing(staged):
            sync_folder(staged)
            if self._candidate_path.exists():
                self._remove(self._candidate_path)
            staged.rename(self._candidate_path)
            sync(self.path)
        return read_version(self.encoder, self._candidate_path, 0)

    def update_candidate(self, changes: Mapping[str, Any]) -> Version:
        """Set fields of the candidate's manifest.

        Raises:
            ExportError: There is no candidate, or the disk refuses.
        """
        candidate = self.candidate()
        if candidate is None:
            raise ExportError(f"{self.path} holds no candidate; run: duovec-export build --encoder {self.encoder}")
        write_manifest(candidate.folder, {**candidate.manifest, **changes})
        return read_version(self.encoder, candidate.folder, 0)

    def promote(self) -> Version:
        """Give the candidate the next number, by one rename; it is served only once config.pbtxt says so.

        Raises:
            ExportError: There is no candidate, or the disk refuses.
        """
        state = self.state()
        number = max([state.newest if state else 0, *(number for number, _ in self._numbered())]) + 1
        candidate = self.update_candidate({"version": number})
        target = self.path / str(number)
        with writing(target):
            sync_folder(candidate.folder)
            candidate.folder.rename(target)
            sync(self.path)
        return read_version(self.encoder, target, number)

    def take_back(self, version: Version) -> None:
        """Make a promoted version the candidate again.

        Raises:
            ExportError: The disk refuses.
        """
        with writing(version.folder):
            version.folder.rename(self._candidate_path)
            sync(self.path)

    def remove(self, version: Version) -> None:
        """Remove a version folder: it vanishes in one rename, then file by file.

        Raises:
            ExportError: The disk refuses.
        """
        with writing(version.folder):
            self._remove(version.folder)
            shutil.rmtree(self._compiled_path / str(version.number), ignore_errors=True)

    def commit(self, config_text: str) -> None:
        """Replace config.pbtxt: from here on the versions that it names are the published ones.

        Raises:
            ExportError: The disk refuses; the old file is as it was.
        """
        with writing(self.config_path):
            replace_text(self.config_path, config_text)

    def clear_leftovers(self) -> list[str]:
        """Remove what dead exporters left, and take up the version that one of them did not finish publishing.

        The caller holds `building`.

        Returns:
            What was done, a line each.

        Raises:
            ExportError: The disk refuses.
        """
        done = []
        with writing(self.path):
            for path in self.path.glob(".*"):
                if path.name.startswith((_STAGING, _TRASH)):
                    shutil.rmtree(path)
                    done.append(f"removed {path}, left by an exporter that died")
                elif path.name == f".{self.config_path.name}.new":
                    path.unlink()
            (self._candidate_path / ".manifest.json.new").unlink(missing_ok=True)
            for _, path in sorted(self.unpublished(), reverse=True):
                if not self._candidate_path.exists() and (path / "manifest.json").is_file():
                    path.rename(self._candidate_path)
                    done.append(f"{path} was never published; it is the candidate again")
                else:
                    self._remove(path)
                    done.append(f"removed {path}, which was never published")
            for path in self._compiled_path.glob("*"):
                if not (self.path / path.name).is_dir():
                    shutil.rmtree(path)
            sync(self.path)
        return done

    def _remove(self, folder: Path) -> None:
        trash = Path(tempfile.mkdtemp(prefix=_TRASH, dir=self.path))
        folder.rename(trash / folder.name)
        sync(self.path)
        shutil.rmtree(trash)

    def _numbered(self) -> list[tuple[int, Path]]:
        if not self.path.is_dir():
            return []
        return sorted((int(path.name), path) for path in self.path.iterdir() if path.name.isdecimal())
