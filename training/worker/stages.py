"""The stages of a run: each a command of duovec-train in the run's folder, which is skipped when its result is there.

RUN/identity.json, RUN/recipe/recipe.toml, RUN/data, RUN/train/result, and logs. A run that another worker began on this
machine goes on where it was; on another machine it begins anew. The folder's name holds a digest of what the run is, so
that a run of another database with the same number never takes it for its own.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any

from export.disk import replace_text, writing
from export.errors import ExportError
from export.source import LINEAGE_FILE, sha256_of
from training.code_version import code_version
from training.dataset import data_digest
from training.errors import TrainingError
from training.recipe import load_recipe
from training.worker.queue import Progress, QueuedRun
from training.worker.recipe_text import effective_recipe


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker was started with.

    Attributes:
        database_url: The account that owns the gateway's tables.
        work_dir: Folder of the runs' folders.
        specs: Folder of specs that recipes may name besides the built-in ones, or None.
        base: Checkpoint to start from instead of the spec's source, or None.
        repository: The gateway's model repository; needed to compare with the live space and to publish.
        endpoint: The gateway; None to compare with what the spec is, its trained adapters included, or with `base`,
            and publish nothing.
        triton_url: The gateway's Triton; needed to publish.
        publish_options: More options of `duovec-train publish`.
        keep_runs: So many folders of runs that have ended stay, the newest; 1 or more.
    """

    database_url: str
    work_dir: Path
    specs: Path | None = None
    base: Path | None = None
    repository: Path | None = None
    endpoint: str | None = None
    triton_url: str | None = None
    publish_options: tuple[str, ...] = ()
    keep_runs: int = 10


IDENTITY_FILE = "identity.json"
TAKE_BACK = "take_back"


@dataclass(frozen=True)
class Stage:
    """One command, and whether its result is there already."""

    name: str
    command: tuple[str, ...]
    done: bool


class RunFolder:
    """A run's files on this machine."""

    def __init__(self, settings: WorkerSettings, run: QueuedRun) -> None:
        self._settings = settings
        self._run = run
        self._identity = _identity(run)
        digest = hashlib.sha256(json.dumps(self._identity, sort_keys=True).encode()).hexdigest()
        self.path = settings.work_dir / f"run-{run.run_id}-{digest[:12]}"
        self.data = self.path / "data"
        self.output = self.path / "train"
        self.result = self.output / "result"
        self.recipe = self.path / "recipe" / "recipe.toml"

    def prepare(self) -> None:
        """Write the recipe, with the specs that it may name beside it.

        Raises:
            TrainingError: RECIPE_INVALID, the recipe is none or its encoder unknown; or WORKER_CANNOT_PUBLISH.
            ExportError, OSError: The disk refuses.
        """
        settings = self._settings
        if self._run.publish and (settings.endpoint is None or settings.triton_url is None):
            raise TrainingError(
                "WORKER_CANNOT_PUBLISH: this worker has no --endpoint, or no --triton-url; start one with both"
            )
        self.recipe.parent.mkdir(parents=True, exist_ok=True)
        with writing(self.path):
            replace_text(self.path / IDENTITY_FILE, json.dumps(self._identity, indent=2) + "\n")
        for path in sorted(settings.specs.glob("*.toml")) if settings.specs else ():
            shutil.copyfile(path, self.recipe.parent / path.name)
        try:
            text = effective_recipe(self._run.recipe, seed=self._run.seed, precision=self._run.precision)
            self.recipe.write_text(text, encoding="utf-8")
            load_recipe(self.recipe)
        except (TrainingError, ExportError) as exc:
            raise TrainingError(f"RECIPE_INVALID: {exc}") from exc

    def stages(self) -> list[Stage]:
        """What is to be done, in order."""
        program = (sys.executable, "-m", "training")
        scope = [part for one in self._run.codebase_ids for part in ("--codebase", one)]
        base = ["--base", str(self._settings.base)] if self._settings.base else []
        mine = (*program, "mine", "--output", str(self.data), *scope)
        train = (*program, "run", str(self.recipe), "--data", str(self.data), "--output", str(self.output))
        return [
            Stage("mine", mine, (self.data / "card.json").is_file()),
            Stage("train", (*train, "--device", self._run.device, *base), self.result.is_dir()),
            Stage("evaluate", (*program, *self._publish()), done=False),
        ]

    def _publish(self, *options: str) -> list[str]:
        settings, run = self._settings, self._run
        _, spec, _ = load_recipe(self.recipe)
        named = self.recipe.parent / run.encoder
        words = ["publish", f"--{spec.role}", str(self.result), f"--{spec.role}-spec"]
        words += [str(named) if named.is_file() else spec.name, "--data", str(self.data), "--json"]
        words += [f"--{spec.role}-base", str(settings.base)] if settings.base else []
        words += ["--repository", str(settings.repository or settings.work_dir), *settings.publish_options]
        if settings.endpoint is None:
            return [*words, "--baseline", "own", "--dry-run", *options]
        words += ["--endpoint", settings.endpoint]
        if not run.publish:
            return [*words, "--dry-run", *options]
        return [*words, "--triton-url", str(settings.triton_url), "--run", f"{run.run_id}:{run.attempt}", *options]

    def take_back(self) -> Stage:
        """What undoes a publication which did not reach its end."""
        return Stage(TAKE_BACK, (sys.executable, "-m", "training", *self._publish("--take-back")), done=False)

    def cited_codebases(self) -> list[str]:
        """The codebases that the data set was mined from; none before it was."""
        card = self.data / "card.json"
        if not card.is_file():
            return []
        try:
            return [one["name"] for one in json.loads(card.read_bytes()).get("sources", [])]
        except (ValueError, AttributeError, KeyError, TypeError) as exc:
            raise _damaged(card, exc, f"delete {self.data}, it is mined again") from exc

    def delete(self) -> None:
        """Begin anew.

        What was made of the data goes before the data, whose card says that it must: where this is broken off, the next
        attempt sees that there is something left to delete.

        Raises:
            OSError: Something cannot be deleted; a folder that is not there need not be.
        """
        for path in (self.output, self.data, self.path):
            if path.exists():
                shutil.rmtree(path)

    def progress(self, stage: str) -> Progress:
        """How far a stage is, by its files; of a publication the command itself tells the row."""
        if stage != "train":
            return Progress(stage=stage if stage == "mine" else None)
        last = last_metrics(self.output / "metrics.jsonl")
        if last is None:
            return Progress(stage="train")
        return Progress("train", last["step"], self._step_count(last), last.get("loss"), last.get("tokens_per_s"))

    def _step_count(self, last: Mapping[str, Any]) -> int:
        optimizer = load_recipe(self.recipe)[0].optimizer
        count = round(last["step"] / last["epoch"] * optimizer.epochs) if last.get("epoch") else 0
        return min(count, optimizer.max_steps) if optimizer.max_steps else count

    def lineage(self) -> dict[str, Any]:
        """Where the result comes from, as far as it is known by now; `unknown` says what cannot be read, and why."""
        known: dict[str, Any] = {"code": code_version()}
        unknown = []
        for name, read in (("recipe_sha256", self._recipe_sha256), ("data_sha256", self._data_sha256)):
            try:
                if (found := read()) is not None:
                    known[name] = found
            except (TrainingError, OSError) as exc:
                unknown.append(f"{name}: {exc}")
        return {**known, "unknown": "; ".join(unknown)} if unknown else known

    def _recipe_sha256(self) -> str | None:
        """Of what it was trained by, not of what lies beside it."""
        trained = self.result / LINEAGE_FILE
        if trained.is_file():
            try:
                return str(json.loads(trained.read_bytes())["recipe_sha256"])
            except (ValueError, KeyError, TypeError) as exc:
                raise _damaged(trained, exc, f"delete {self.result}, it is written again") from exc
        return sha256_of(self.recipe) if self.recipe.is_file() else None

    def _data_sha256(self) -> str | None:
        return data_digest(self.data) if (self.data / "card.json").is_file() else None


def _damaged(path: Path, exc: Exception, remedy: str) -> TrainingError:
    return TrainingError(f"RUN_FOLDER_DAMAGED: {path} is damaged: {exc!r}; {remedy}")


def run_folders(work_dir: Path, database: str) -> dict[int, Path]:
    """The folders of a database's runs, by their numbers."""
    found = {}
    for path in work_dir.glob(f"run-*/{IDENTITY_FILE}"):
        try:
            identity = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # another worker is deleting it
        if identity["database"] == database:
            found[int(identity["run_id"])] = path.parent
    return found


def _identity(run: QueuedRun) -> dict[str, Any]:
    """What a run is, and where: with anything else its folder is not this run's."""
    return {
        "database": run.database,
        "run_id": run.run_id,
        "create_time": run.create_time.astimezone(UTC).isoformat(),
        "recipe_sha256": hashlib.sha256(run.recipe.encode()).hexdigest(),
        "encoder": run.encoder,
        "codebase_ids": list(run.codebase_ids),
        "seed": run.seed,
        "device": run.device,
        "precision": run.precision,
    }


def last_metrics(path: Path) -> dict[str, Any] | None:
    """The last whole line of a metrics file; None where it is damaged, which the training itself says and ends by."""
    try:
        lines = path.read_bytes().splitlines(keepends=True)
        whole = [line for line in lines[-2:] if line.endswith(b"\n")]
        last = json.loads(whole[-1]) if whole else None
    except (OSError, ValueError):
        return None
    return last if isinstance(last, dict) and isinstance(last.get("step"), int) else None
