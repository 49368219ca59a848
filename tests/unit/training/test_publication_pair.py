"""Two encoders that are published together: both, or none."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from duovec.v1 import space_service_pb2 as pb
from export.errors import ExportError
from export.spec import load_pair
from training.errors import TrainingError
from training.publication import publish
from training.publication.ledger import Publication
from training.publication.measure import Candidate
from training.publication.publish import Publisher
from training.publication.request import PublishRequest
from training.publication.unfinished import Unfinished

LIVE = {"compact-code": 1, "compact-text": 1}
ACTIVE = pb.Space(code_encoder={"version": 1}, text_encoder={"version": 1})


class _Ledger:
    """Remembers what is recorded; breaks off where it is told to."""

    def __init__(self) -> None:
        self.recorded: list[tuple[str, Any]] = []
        self.ended: list[tuple[str, str]] = []
        self.lost_at = -1

    def report(self, stage: str, step: int, step_count: int) -> None:
        if step == self.lost_at:
            raise Unfinished("the database is away")

    def record(self, publication: Publication, step: str, found: Any) -> None:
        self.recorded.append((step, found))

    def end(self, publication: Publication, state: str, error: str) -> None:
        self.ended.append((state, error))


class _Site:
    """A repository in memory in place of the one on the disk and its Triton."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.served = dict(LIVE)
        self.ledger = _Ledger()
        self.refusal: dict[str, BaseException] = {}
        self.rolls_back = True
        monkeypatch.setattr(publish, "plan_export", self._plan)
        monkeypatch.setattr(publish, "export_candidate", self._export)
        monkeypatch.setattr(publish, "roll_back_versions", self._roll_back)
        monkeypatch.setattr(Publisher, "__init__", lambda *_: None)
        self._publisher = Publisher.__new__(Publisher)
        specs = zip(("code", "text"), load_pair("compact"), strict=True)
        request = PublishRequest({role: Candidate(spec, Path(role)) for role, spec in specs}, Path(), Path())
        parts = {"request": request, "ledger": self.ledger, "triton": object(), "on_step": print}
        vars(self._publisher).update({f"_{name}": part for name, part in parts.items()})

    def export(self) -> None:
        self._publisher._export(Publication(1, "RUNNING", ""), ACTIVE)

    def _plan(self, repository: Path, candidate: Candidate, live: int) -> SimpleNamespace:
        if (refusal := self.refusal.get(f"plan {candidate.spec.name}")) is not None:
            raise refusal
        return SimpleNamespace(live=live)

    def _export(self, repository: Path, candidate: Candidate, live: int, *_: object, **__: object) -> int:
        if (refusal := self.refusal.get(candidate.spec.name)) is not None:
            raise refusal
        self.served[candidate.spec.name] = live + 1
        return live + 1

    def _roll_back(self, *_: object) -> None:
        if not self.rolls_back:
            raise ExportError("Triton is away")
        self.served = dict(LIVE)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> _Site:
    return _Site(monkeypatch)


def test_both_are_recorded(site: _Site) -> None:
    site.export()
    assert site.served == {"compact-code": 2, "compact-text": 2}
    assert site.ledger.recorded == [("export", {"versions": {"code": 2, "text": 2}})]
    assert site.ledger.ended == []


@pytest.mark.parametrize("where", ["plan compact-text", "compact-text"])
@pytest.mark.parametrize("kind", [TrainingError, ExportError])
def test_what_refuses_the_second_takes_the_first_back(where: str, kind: type[Exception], site: _Site) -> None:
    """Somebody is changing it, or it fails its gate: the row says why, and the next command finds all as it was."""
    site.refusal[where] = kind("version 2 is served: somebody is changing it already")
    with pytest.raises(kind, match="somebody is changing it already$"):
        site.export()
    assert site.served == LIVE
    assert site.ledger.ended == [("REFUSED", "version 2 is served: somebody is changing it already")]
    assert site.ledger.recorded == []


def test_what_is_known_to_refuse_the_second_exports_nothing(site: _Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Minutes of an export, and a version that is served for nothing."""
    exported: list[object] = []
    monkeypatch.setattr(publish, "export_candidate", lambda *given, **_: exported.append(given))
    site.refusal["plan compact-text"] = TrainingError("no")
    with pytest.raises(TrainingError):
        site.export()
    assert exported == []


def test_an_interruption_takes_the_first_back(site: _Site) -> None:
    """The row stays as it is: the same command goes on."""
    site.refusal["compact-text"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        site.export()
    assert site.served == LIVE
    assert site.ledger.ended == []


def test_what_cannot_be_taken_back_is_told(site: _Site) -> None:
    """And stays open, so that a worker or --take-back tries again."""
    site.refusal["compact-text"], site.rolls_back = TrainingError("no"), False
    with pytest.raises(TrainingError, match="^no; and what was published was not rolled back: Triton is away$"):
        site.export()
    assert site.ledger.ended == []


def test_without_the_turn_nothing_is_touched(site: _Site) -> None:
    """Whoever has it now may be publishing the very same."""
    site.ledger.lost_at = 1
    with pytest.raises(Unfinished):
        site.export()
    assert site.served == {"compact-code": 2, "compact-text": 1}
    assert site.ledger.ended == []
