"""A space is what decides the numbers of a vector, no more and no less."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.embedding.space import InputType, Space, passage_of
from gateway.errors import StartupError

from .published import manifest_of, write_version

Change = Callable[[dict[str, Any]], object]


def load(repository: Path) -> Space:
    return Space.load(repository, code_encoder="tiny-code", text_encoder="tiny-text")


def refusal(repository: Path) -> str:
    with pytest.raises(StartupError) as caught:
        load(repository)
    return str(caught.value)


def hint(repository: Path) -> str:
    return f"publish the pair again: duovec-export publish --pair compact --repository {repository}"


def fingerprint_after(repository: Path, role: str, change: Change) -> str:
    manifest = manifest_of(role)
    change(manifest)
    write_version(repository, manifest)
    return load(repository).fingerprint


def test_an_encoder_is_read_from_its_manifest(space: Space) -> None:
    """Every field is that of the manifest."""
    text = space.text
    assert (text.name, text.version, text.role, text.dimension) == ("tiny-text", 1, "text", 1024)
    assert (text.max_tokens, text.append_eos) == (8, None)
    assert text.prompts == {InputType.QUERY: "query: ", InputType.PASSAGE: ""}
    assert text.task_ids == {InputType.QUERY: 0, InputType.PASSAGE: 1}
    assert space.code.append_eos == "<eos>"
    assert space.code.task_ids == {}


def test_the_tokenizer_is_that_of_the_version(repository: Path, space: Space) -> None:
    """The path points into the version folder."""
    assert space.text.tokenizer_path == repository / "tiny-text" / "1" / "tokenizer.json"


def test_the_newest_version_is_read_by_number(repository: Path) -> None:
    """Version 10 is newer than 9; staging folders and files are no versions."""
    for version in (9, 10):
        write_version(repository, manifest_of("code") | {"version": version})
    (repository / "tiny-code" / ".staging-11").mkdir()
    (repository / "tiny-code" / "config.pbtxt").touch()
    assert load(repository).code.version == 10


def test_the_fingerprint_is_the_same_at_every_start(repository: Path) -> None:
    """Two loads of one repository are one space, named by 64 hex digits."""
    first, second = load(repository).fingerprint, load(repository).fingerprint
    assert first == second
    assert len(bytes.fromhex(first)) == 32


@pytest.mark.parametrize("role", ["code", "text"])
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda m: m["files"].update({"model.onnx": "99"}), id="weights"),
        pytest.param(lambda m: m["files"].update({"model.onnx.data": "99"}), id="external weights"),
        pytest.param(lambda m: m["files"].update({"tokenizer.json": "99"}), id="tokenizer"),
        pytest.param(lambda m: m["spec"]["prompts"].update(query="find: "), id="query prompt"),
        pytest.param(lambda m: m["spec"]["prompts"].update(passage="doc: "), id="passage prompt"),
        pytest.param(lambda m: m["spec"].update(max_tokens=9), id="max_tokens"),
        pytest.param(lambda m: m["spec"].update(append_eos="[SEP]"), id="append_eos"),
        pytest.param(lambda m: m["spec"].update(tasks=["passage", "query"]), id="tasks"),
        pytest.param(lambda m: m.update(precision="bf16"), id="precision"),
    ],
)
def test_what_decides_the_numbers_changes_the_fingerprint(
    repository: Path, space: Space, role: str, change: Change
) -> None:
    """Vectors from before and after the change are never compared."""
    assert fingerprint_after(repository, role, change) != space.fingerprint


@pytest.mark.parametrize("role", ["code", "text"])
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda m: m["files"].update({"model.py": "99"}), id="model.py"),
        pytest.param(lambda m: m["files"].update({"host.py": "99"}), id="host.py"),
        pytest.param(lambda m: m.update(version=2), id="version"),
        pytest.param(lambda m: m.update(parity={"max_abs": 0.5}), id="parity"),
        pytest.param(lambda m: m.update(created="2027-01-01T00:00:00+00:00"), id="created"),
        pytest.param(lambda m: m.update(exporter="duovec 9"), id="exporter"),
    ],
)
def test_what_does_not_decide_the_numbers_keeps_the_fingerprint(
    repository: Path, space: Space, role: str, change: Change
) -> None:
    """The same weights published again are the same space: nothing has to be embedded again."""
    assert fingerprint_after(repository, role, change) == space.fingerprint


def test_a_missing_encoder_names_its_folder(tmp_path: Path) -> None:
    """An empty repository says what to run."""
    assert refusal(tmp_path) == f"no encoder in {tmp_path / 'tiny-code'} (No such file or directory); {hint(tmp_path)}"


def test_an_encoder_without_a_version_names_its_folder(tmp_path: Path) -> None:
    """A folder with nothing published says what to run."""
    (tmp_path / "tiny-code").mkdir()
    assert refusal(tmp_path) == f"no published version in {tmp_path / 'tiny-code'}; {hint(tmp_path)}"


def without(key: str) -> str:
    return json.dumps({name: value for name, value in manifest_of("text").items() if name != key})


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "{",
        "[]",
        "null",
        "\udcff",
        without("files"),
        without("spec"),
        without("precision"),
        json.dumps(manifest_of("text") | {"files": ["model.onnx"]}),
        json.dumps(manifest_of("text") | {"spec": manifest_of("text")["spec"] | {"prompts": {}}}),
        json.dumps(manifest_of("text") | {"spec": manifest_of("text")["spec"] | {"tasks": ["query"]}}),
    ],
)
def test_a_missing_or_corrupt_manifest_is_named(repository: Path, content: str | None) -> None:
    """Whatever is wrong with the file, the message has its path and what to run."""
    path = repository / "tiny-text" / "1" / "manifest.json"
    path.unlink()
    if content is not None:
        path.write_text(content, errors="surrogateescape")
    message = refusal(repository)
    assert message.startswith(f"unreadable manifest {path}: ")
    assert message.endswith(hint(repository))


def test_an_encoder_of_another_role_is_refused(repository: Path) -> None:
    """The code encoder cannot stand in for the text encoder."""
    with pytest.raises(StartupError) as caught:
        Space.load(repository, code_encoder="tiny-text", text_encoder="tiny-text")
    assert str(caught.value) == (
        f"{repository / 'tiny-text' / '1' / 'manifest.json'}: need code encoder tiny-text of dimension 1536, "
        f"found text encoder tiny-text of dimension 1024; {hint(repository)}"
    )


def test_a_manifest_of_another_version_is_refused(repository: Path) -> None:
    """A folder that was copied by hand is not served."""
    path = repository / "tiny-text" / "1" / "manifest.json"
    path.write_text(json.dumps(manifest_of("text") | {"version": 7}))
    assert refusal(repository) == f"{path}: says version 7; {hint(repository)}"


def test_a_passage_begins_with_its_symbol() -> None:
    """The symbol's path stands on a line before the content."""
    assert passage_of("Pool.acquire", "def acquire(self): ...") == "Pool.acquire\ndef acquire(self): ..."


def test_a_passage_without_a_symbol_is_its_content() -> None:
    """Nothing is put before it."""
    assert passage_of("", "text") == "text"
