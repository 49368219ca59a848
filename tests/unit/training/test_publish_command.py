"""`duovec-train publish` where nothing is measured: wrong use, and what a dry run says."""

from pathlib import Path

import grpc
import pytest
from typer.testing import CliRunner

from export.spec import load_builtin
from gateway.client.errors import ClientError
from training.cli.main import app
from training.cli.publish import describe_plan, opponents_of
from training.publication.candidacy import Candidacy

CODE = grpc.StatusCode


def test_a_repository_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """Also where only checkpoints are compared, which asks nothing of it: a typing error would go by unseen."""
    words = ["publish", "--code", str(tmp_path), "--data", str(tmp_path), "--repository", str(tmp_path / "models")]
    refused = CliRunner().invoke(app, [*words, "--baseline", "own", "--dry-run"])
    assert refused.exit_code == 1
    assert f"error: --repository {tmp_path / 'models'} is no folder" in " ".join(refused.stderr.split())


def test_a_dry_run_says_which_versions_and_how_many_chunks() -> None:
    """A line an encoder, and one for the space."""
    export = {"encoder": "compact-code", "live": 3, "version": 5, "runtime": "openvino", "precision": "bf16"}
    plan = {"live_space": "ab" * 32, "chunks": 12345, "steps": []}
    assert describe_plan({**plan, "exports": {"code": {**export, "is_built": False}}}) == [
        "compact-code: version 5 beside version 3, export and prove it for openvino in bf16",
        "a new space beside abababababab: 12,345 chunks would be embedded anew, then verified and activated",
    ]
    assert describe_plan({**plan, "exports": {"code": {**export, "is_built": True}}})[0].endswith("serve it again")
    assert describe_plan({"refused": "a change is under way"}) == ["it would not be published: a change is under way"]
    assert "no gateway was asked" in describe_plan(None)[0]


def test_own_is_the_spec_with_its_trained_adapters() -> None:
    """A gain over an untrained base is no reason to replace a trained encoder; a base of one's own is what it holds."""
    spec, base = load_builtin("compact-text"), Path("base")
    assert opponents_of("own", {"text": spec}, {}) == {"text": (spec, None)}
    assert opponents_of("own", {"text": spec}, {"text": base}) == {"text": (spec.untrained, base)}
    assert opponents_of("other", {"text": spec}, {"text": base}) == {"text": (spec, Path("other"))}


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (ClientError("nobody", code=CODE.UNAVAILABLE), "UNFINISHED: nobody [UNAVAILABLE]"),
        (ClientError("stops", code=CODE.CANCELLED), "UNFINISHED: stops [CANCELLED]"),
        (ClientError("late", code=CODE.DEADLINE_EXCEEDED), "UNFINISHED: late [DEADLINE_EXCEEDED]"),
        (ClientError("full", code=CODE.RESOURCE_EXHAUSTED, retry_delay_s=1.0), "UNFINISHED: full [RESOURCE_EXHAUSTED]"),
        (
            ClientError("3 chunks lack one", code=CODE.FAILED_PRECONDITION, reason="SPACE_NOT_READY"),
            "UNFINISHED: 3 chunks lack one [SPACE_NOT_READY]",
        ),
        (ClientError("who?", code=CODE.UNAUTHENTICATED, reason="API_KEY_INVALID"), "API_KEY_INVALID: who?"),
        (ClientError("not you", code=CODE.PERMISSION_DENIED, reason="ADMIN_REQUIRED"), "ADMIN_REQUIRED: not you"),
        (ClientError("bad", code=CODE.INVALID_ARGUMENT, reason="INVALID_INPUT"), "INVALID_INPUT: bad"),
        (ClientError("none", code=CODE.NOT_FOUND, reason="SPACE_NOT_FOUND"), "SPACE_NOT_FOUND: none"),
        (ClientError("old", code=CODE.UNIMPLEMENTED), "UNIMPLEMENTED: old"),
        (ClientError("its certificate", code=CODE.FAILED_PRECONDITION), "FAILED_PRECONDITION: its certificate"),
        (ClientError("larger than max", code=CODE.RESOURCE_EXHAUSTED), "RESOURCE_EXHAUSTED: larger than max"),
        (ClientError("a fault", code=CODE.INTERNAL, reason="INTERNAL"), "INTERNAL: a fault"),
    ],
    ids=lambda value: value.reason or value.code.name if isinstance(value, ClientError) else "",
)
def test_only_what_may_pass_is_unfinished(
    failure: ClientError, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker repeats what is unfinished a hundred times: of a wrong key it would hear nothing else for 16 hours."""

    def refuse(*_: object) -> None:
        raise failure

    monkeypatch.setattr(Candidacy, "__init__", refuse)
    words = ["publish", "--code", str(tmp_path), "--data", str(tmp_path), "--repository", str(tmp_path), "--dry-run"]
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code == 1
    error = refused.stderr[refused.stderr.index("error: ") :]
    assert error.startswith(f"error: {told}")
    assert error.endswith("goes on where it was\n") == told.startswith("UNFINISHED")
