"""`duovec-train publish` where nothing is measured: wrong use, and what a dry run says."""

from pathlib import Path

from typer.testing import CliRunner

from export.spec import load_builtin
from training.cli.main import app
from training.cli.publish import describe_plan, opponents_of


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
