"""Whether a checkpoint is of the base that the live space's encoder is of, by what both say of themselves."""

from pathlib import Path
from typing import Any

import pytest

from export.version import Version
from training.errors import TrainingError
from training.publication.lineage import require_same_base

PACKAGE = {"package": "base", "version": "1", "files": {"model.safetensors": "a" * 64, "config.json": "c" * 64}}


def folder(digest: str, **more: object) -> dict[str, Any]:
    return {"folder": "result", "files": {"model.safetensors": digest, "adapter_model.safetensors": "f" * 64}, **more}


def check(*, trained: object, live: object, origin: object = None) -> None:
    facts = {"encoder": "compact-code", "trained": {"base": trained} if trained else {}, "origin": origin or {}}
    require_same_base(facts, Version("compact-code", 1, Path(), {"source": live}))


@pytest.mark.parametrize(
    ("trained", "live"),
    [
        (PACKAGE, {**PACKAGE, "adapters": {"files": {"adapters.safetensors": "b" * 64}}}),
        (folder("a" * 64), folder("a" * 64)),
        (folder("a" * 64), PACKAGE),
        # All weights were trained, of both or of the live one: they are another's, and come from the same base.
        (PACKAGE, folder("d" * 64, trained_from=PACKAGE)),
        (folder("e" * 64, trained_from=folder("d" * 64, trained_from=PACKAGE)), PACKAGE),
    ],
)
def test_the_same_weights_pass(trained: object, live: object) -> None:
    check(trained=trained, live=live)


@pytest.mark.parametrize("live", [PACKAGE, folder("a" * 64)])
def test_other_weights_are_refused_wherever_they_lie(live: object) -> None:
    """Also in a folder, which has neither a name of a package nor a version."""
    with pytest.raises(
        TrainingError, match=r"is result \(model.safetensors bbbbbbbbbbbb…\), that of the live space is"
    ):
        check(trained=folder("b" * 64), live=live)


def test_a_checkpoint_of_another_make_is_what_it_is() -> None:
    """It says nothing of a base: its own weights are compared."""
    check(trained=None, origin=folder("a" * 64), live=PACKAGE)
    with pytest.raises(TrainingError, match="train from the space's base"):
        check(trained=None, origin=folder("b" * 64), live=PACKAGE)


def test_what_nobody_knows_is_refused() -> None:
    with pytest.raises(TrainingError, match="nobody knows from which base the checkpoint"):
        check(trained={"package": "base", "version": "1"}, live=PACKAGE)
    with pytest.raises(TrainingError, match="nobody knows from which base the live space"):
        check(trained=PACKAGE, live={"package": "base", "version": "1"})
