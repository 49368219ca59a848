"""The command line: quick when there is nothing to do, one line and exit code 1 when it fails, 2 for wrong use."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from small_encoder import build_small, commit_small, entries
from typer.testing import CliRunner

from export.build import BuildRequest, answers, spec_digest
from export.cli.main import app
from export.locks import locked
from export.repository import EncoderFolder
from export.serving import Precision, Runtime, Serving
from export.spec import load_builtin, load_pair
from export.version import seal, write_manifest

runner = CliRunner()
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A repository in which both encoders of the compact pair look published, fp32 on onnxruntime."""
    for spec in load_pair("compact"):
        request = BuildRequest(spec, Serving(Runtime.ONNXRUNTIME, Precision.FP32, 2), 18)
        version = commit_small(EncoderFolder(tmp_path, spec.name), seed=1)
        inputs = {"request": request.digest, "spec": spec_digest(spec), "source": "", "own_checkpoint": False}
        serving = {**version.manifest["serving"], "num_threads": 2}
        manifest = {**version.manifest, "inputs": inputs, "serving": serving}
        write_manifest(version.folder, {**manifest, "gate": {"passed": True, "seal": seal(manifest)}})
    return tmp_path


@pytest.fixture
def small(tmp_path: Path) -> EncoderFolder:
    """Three published versions of the small encoder, the third served, and a candidate."""
    folder = EncoderFolder(tmp_path / "models", "small-code")
    for seed in (1, 2, 3):
        commit_small(folder, seed=seed)
    build_small(folder, seed=4)
    return folder


def run(*arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    result = runner.invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def test_if_missing_does_nothing_and_imports_no_torch(published: Path) -> None:
    """A start of the local stack must not pay for libraries that it does not need."""
    code = (
        "import sys; from export.cli.main import app; "
        "app(sys.argv[1:], standalone_mode=False); sys.exit('torch' in sys.modules)"
    )
    options = ["--pair", "compact", "--repository", str(published), "--runtime", "onnxruntime", "--precision", "fp32"]
    result = subprocess.run(
        [sys.executable, "-c", code, "publish", *options, "--if-missing", "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    encoders = json.loads(result.stdout)["encoders"]
    assert [(one["encoder"], one["version"], one["published"]) for one in encoders] == [
        ("compact-code", 1, False),
        ("compact-text", 1, False),
    ]


@pytest.mark.parametrize(
    "other",
    [
        {"serving": Serving(Runtime.OPENVINO, Precision.FP32, 2)},
        {"serving": Serving(Runtime.ONNXRUNTIME, Precision.FP16, 2)},
        {"serving": Serving(Runtime.ONNXRUNTIME, Precision.FP32, 1)},
        {"opset": 19},
        {"drop_layers": 1},
        {"ffn_width": 64},
        {"spec": dataclasses.replace(load_builtin("compact-code"), max_tokens=128)},
    ],
)
def test_if_missing_sees_what_differs(published: Path, other: dict[str, Any]) -> None:
    """Whatever was asked for and is not what is served is published."""
    served = EncoderFolder(published, "compact-code").served()
    assert served is not None
    request = BuildRequest(load_builtin("compact-code"), Serving(Runtime.ONNXRUNTIME, Precision.FP32, 2), 18)
    assert answers(served, request, None, any_threads=False)
    different = dataclasses.replace(request, **other)
    assert not answers(served, different, None, any_threads=False)
    # Without --threads any number will do: it changes no vector.
    only_threads = different.serving.num_threads == 1
    assert answers(served, different, None, any_threads=True) == only_threads


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_if_missing_sees_that_a_file_is_gone(published: Path, name: str) -> None:
    """What Triton cannot load is not there, whatever its manifest says."""
    served = EncoderFolder(published, "compact-code").served()
    assert served is not None
    request = BuildRequest(load_builtin("compact-code"), Serving(Runtime.ONNXRUNTIME, Precision.FP32, 2), 18)
    (served.folder / name).unlink()
    assert not answers(served, request, None, any_threads=False)


@pytest.mark.parametrize("proven", [True, False])
def test_list_names_every_state(small: EncoderFolder, proven: bool) -> None:
    """Served, published, candidate, and what a crash left; the table shows what the JSON holds."""
    small.promote()
    build_small(small, seed=5, changes={"gate": {"passed": proven}})
    code, stdout, _ = run("list", "--repository", small.path.parent, "--json")
    assert code == 0
    rows = json.loads(stdout)["versions"]
    assert [(row["version"], row["state"], row["serving"]) for row in rows] == [
        (1, "published", False),
        (2, "published", False),
        (3, "served", True),
        (4, "leftover", False),
        (None, "proven" if proven else "candidate", False),
    ]
    assert all(row["size_bytes"] > 1000 for row in rows)
    code, stdout, _ = run("list", "--repository", small.path.parent)
    assert code == 0 and "leftover" in stdout


def test_list_of_nothing_is_empty(tmp_path: Path) -> None:
    """No repository is no error: there is nothing in it."""
    assert json.loads(run("list", "--repository", tmp_path / "none", "--json")[1])["versions"] == []


def test_verify_passes_whole_versions_and_names_damaged_files(small: EncoderFolder) -> None:
    """Exit code 1 and the file's name."""
    arguments = ("verify", "--repository", small.path.parent, "--digests-only")
    assert run(*arguments)[:2] == (0, "4 versions are whole\n")
    (small.path / "2" / "model.onnx").write_bytes(b"damaged")
    code, _, stderr = run(*arguments)
    assert code == 1
    assert stderr.splitlines() == [
        f"error: missing or changed since publishing: {small.path / '2' / 'model.onnx'}; publish again"
    ]


def test_rollback_goes_back_and_says_that_no_triton_was_told(small: EncoderFolder) -> None:
    """The canary ran in the version's own host instead."""
    code, stdout, _ = run("rollback", "--repository", small.path.parent, "--encoder", "small-code")
    assert code == 0
    assert stdout == (
        "small-code version 2 (onnxruntime fp32): served again on the disk, its canary ran in its own host; "
        "no Triton was told (--triton-url)\n"
    )
    code, stdout, _ = run("rollback", "--repository", small.path.parent, "--encoder", "small-code", "--to", 3, "--json")
    row = json.loads(stdout)
    assert (row["version"], row["loaded"], row["smoke"], row["triton"]) == (3, [2, 3], "host", None)


def test_rollback_waits_for_no_build(small: EncoderFolder) -> None:
    """A build of an hour must not stand between a bad version and the good one."""
    with small.building():
        code, _, stderr = run("rollback", "--repository", small.path.parent, "--encoder", "small-code", "--wait", 0)
    assert code == 0, stderr


def test_prune_keeps_the_newest_the_served_and_the_loaded(small: EncoderFolder) -> None:
    """Version 1 is served after two roll-backs and 2 is loaded: of four versions, keeping one removes 3 alone."""
    repository = small.path.parent
    commit_small(small, seed=4)
    for number in (2, 1):
        assert run("rollback", "--repository", repository, "--encoder", "small-code", "--to", number)[0] == 0
    (small.path / ".staging-dead").mkdir()
    code, stdout, stderr = run("prune", "--repository", repository, "--keep", 1)
    assert code == 0
    assert stdout == "small-code: removed 3; still loaded in Triton: 2 (--triton-url unloads)\n"
    assert stderr == f"removed {small.path / '.staging-dead'}, left by an exporter that died\n"
    assert entries(small) == ["1", "2", "4", "config.pbtxt"]
    assert run("prune", "--repository", repository, "--keep", 9)[1] == "small-code: nothing to remove\n"


def test_the_next_exporter_names_the_one_that_it_waits_for(small: EncoderFolder) -> None:
    """One line on stderr, exit code 1 when its time is over, and nothing published."""
    before = entries(small)
    with locked(small.path / ".publish.lock"):
        arguments = ("rollback", "--repository", small.path.parent, "--encoder", "small-code", "--wait", 0.1)
        code, _, stderr = run(*arguments)
    waiting, failed = stderr.splitlines()
    assert code == 1
    assert waiting.startswith("process ") and waiting.endswith(f"holds {small.path}/.publish.lock; waiting up to 0 s")
    assert failed.startswith("error: process ") and failed.endswith("or wait longer with --wait")
    assert entries(small) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["publish", "--encoder", "nobody"], "no built-in encoder is named 'nobody'; known: compact-code"),
        (["build", "--spec", "/no/such.toml"], "cannot read the encoder spec /no/such.toml"),
        (["build", "--encoder", "compact-text", "--opset", "12"], "openvino takes opset 18 to 23, not 12"),
        (
            ["build", "--encoder", "compact-text", "--runtime", "tensorrt", "--precision", "fp16", "--opset", "21"],
            "tensorrt takes opset 18 to 20, not 21",
        ),
        (
            ["build", "--encoder", "compact-text", "--runtime", "onnxruntime", "--precision", "bf16"],
            "onnxruntime does not run bf16; it runs fp32, fp16, int8",
        ),
        (["build", "--encoder", "compact-text", "--checkpoint", "/no/such"], "the checkpoint /no/such is no folder"),
        (["publish", "--encoder", "compact-text", "--triton-url", "nonsense"], "--triton-url must be host:port"),
        (["publish", "--encoder", "compact-text", "--triton-url", "127.0.0.1:1"], "Triton at 127.0.0.1:1 did not say"),
        (["rollback", "--encoder", "nobody"], "has no encoder 'nobody'; it has none"),
        (["prune", "--encoder", "nobody"], "has no encoder 'nobody'; it has none"),
        (["verify"], "nothing is published in"),
        (["verify", "--encoder", "nobody"], "has no encoder 'nobody'; it has none"),
    ],
)
def test_a_failure_is_one_line_and_exit_code_1(tmp_path: Path, arguments: list[str], message: str) -> None:
    """No traceback for what the user can mend, and nothing in the repository."""
    code, _, stderr = run(*arguments, "--repository", tmp_path / "models")
    assert code == 1
    (line,) = stderr.splitlines()
    assert line.startswith("error: ") and message in line
    assert run("list", "--repository", tmp_path / "models", "--json")[1].count("version") == 1


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A file where the repository should be."""
    blocked = tmp_path / "file"
    blocked.write_text("not a folder", encoding="utf-8")
    code, _, stderr = run("publish", "--pair", "compact", "--repository", blocked)
    assert code == 1
    assert stderr.startswith(f"error: cannot write {blocked}/compact-") and len(stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["publish", "--pair", "huge"],
        ["publish"],
        ["publish", "--pair", "compact", "--encoder", "compact-text"],
        ["publish", "--pair", "compact", "--checkpoint", "."],
        ["build", "--encoder", "compact-text", "--lora", "merge"],
        ["build", "--encoder", "compact-code", "--lora", "per-row"],
        ["build", "--encoder", "compact-text", "--merge-task", "query"],
        ["build", "--encoder", "compact-text", "--emit-build-script", "x.sh"],
        ["prune", "--keep", "0"],
        ["rollback"],
    ],
)
def test_wrong_use_is_exit_code_2(tmp_path: Path, arguments: list[str]) -> None:
    """Options that contradict each other, or say too little."""
    assert run(*arguments, "--repository", tmp_path)[0] == 2


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_examples_and_json(name: str) -> None:
    """`--help` shows how it is called, and every command can answer a program."""
    command = COMMANDS[name]
    assert "Examples:" in command.help and f"duovec-export {name} " in command.help
    options = {option for parameter in command.params for option in parameter.opts}
    assert {"--repository", "--json"} <= options


def test_triton_may_be_named_by_the_environment(small: EncoderFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """DUOVEC_TRITON_URL stands in for --triton-url, and an address where nobody listens is an error, not a shrug."""
    monkeypatch.setenv("DUOVEC_TRITON_URL", "127.0.0.1:1")
    code, _, stderr = run("rollback", "--repository", small.path.parent, "--encoder", "small-code")
    assert code == 1 and "Triton at 127.0.0.1:1 did not say that it is live" in stderr
    state = small.state()
    assert state is not None and state.served == 3
