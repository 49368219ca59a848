"""The command line: quick when there is nothing to do, one line and exit code 1 when it fails."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from export import cli
from export import repository as repositories
from export.errors import ExportError
from export.precision import resolve_precision
from export.spec import load_pair
from export.triton_config import Serving, build_config, format_config

runner = CliRunner()


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A repository in which both encoders look published, f32 on onnxruntime."""
    for spec in load_pair("compact"):
        with repositories.staging(tmp_path, spec.name) as folder:
            manifest = {
                "runtime": "onnxruntime",
                "precision": "f32",
                "dimension": spec.dimension,
                "parity": {"runtimes": [{"min_cosine": 0.999999}]},
                "files": {},
            }
            repositories.write_manifest(folder, manifest)
            config = format_config(build_config(spec, 1, Serving("onnxruntime", "f32", 2)))
            repositories.publish(tmp_path, spec.name, folder, 1, config)
    return tmp_path


def test_if_missing_does_nothing_and_imports_no_torch(published: Path) -> None:
    """A start of the local stack must not pay for libraries that it does not need."""
    code = (
        "import sys; from export.cli import app; "
        "app(sys.argv[1:], standalone_mode=False); sys.exit('torch' in sys.modules)"
    )
    arguments = ["publish", "--repository", str(published), "--runtime", "onnxruntime", "--if-missing", "--json"]
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert result.returncode == 0, result.stderr
    encoders = json.loads(result.stdout)["encoders"]
    assert [(one["encoder"], one["version"], one["published"]) for one in encoders] == [
        ("compact-code", 1, False),
        ("compact-text", 1, False),
    ]


def test_list_names_the_serving_version(published: Path) -> None:
    """The machine-readable form holds what the table shows."""
    result = runner.invoke(cli.app, ["list", "--repository", str(published), "--json"])
    assert result.exit_code == 0
    rows = json.loads(result.stdout)["versions"]
    assert [(row["encoder"], row["version"], row["serving"]) for row in rows] == [
        ("compact-code", 1, True),
        ("compact-text", 1, True),
    ]


def test_verify_passes_whole_versions_and_fails_damaged_ones(published: Path) -> None:
    """Exit code 1 and the file's name."""
    assert runner.invoke(cli.app, ["verify", "--repository", str(published)]).stdout == "2 versions verified\n"
    path = published / "compact-text" / "1" / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**manifest, "files": {"model.onnx": "0" * 64}}), encoding="utf-8")
    result = runner.invoke(cli.app, ["verify", "--repository", str(published)])
    assert result.exit_code == 1
    assert "compact-text/1/model.onnx" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_failure_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    """No traceback for what the user can mend."""
    blocked = tmp_path / "file"
    blocked.write_text("not a folder", encoding="utf-8")
    result = runner.invoke(cli.app, ["publish", "--repository", str(blocked)])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: cannot write to the model repository")
    assert len(result.stderr.splitlines()) == 1


def test_wrong_use_is_exit_code_2(tmp_path: Path) -> None:
    """An unknown pair is a usage error."""
    result = runner.invoke(cli.app, ["publish", "--pair", "huge", "--repository", str(tmp_path)])
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("requested", "runtime", "flags", "expected"),
    [
        ("auto", "openvino", {"avx512_bf16"}, "bf16"),
        ("auto", "openvino", {"amx_bf16", "sse4_2"}, "bf16"),
        ("auto", "openvino", {"avx2"}, "f32"),
        ("auto", "onnxruntime", {"amx_bf16"}, "f32"),
        ("f32", "openvino", {"amx_bf16"}, "f32"),
        ("bf16", "openvino", {"amx_bf16"}, "bf16"),
    ],
)
def test_precision_follows_the_cpu(requested: str, runtime: str, flags: set[str], expected: str) -> None:
    """bf16 only where the CPU computes it."""
    assert resolve_precision(requested, runtime, frozenset(flags)) == expected


def test_bf16_that_cannot_be_had_is_refused() -> None:
    """The message says what to use instead."""
    with pytest.raises(ExportError, match="neither avx512_bf16 nor amx_bf16; use --precision f32"):
        resolve_precision("bf16", "openvino", frozenset({"avx2"}))
    with pytest.raises(ExportError, match="onnxruntime runs f32 on CPU"):
        resolve_precision("bf16", "onnxruntime", frozenset({"amx_bf16"}))
