"""A space is what decides the numbers of a vector, no more and no less."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.embedding.space import InputType, Space, passage_of
from gateway.errors import StartupError

from .published import manifest_of, serve_version, write_version

Change = Callable[[dict[str, Any]], object]


def load(repository: Path) -> Space:
    return Space.load(repository, code_encoder="tiny-code", text_encoder="tiny-text")


def refusal(repository: Path) -> str:
    with pytest.raises(StartupError) as caught:
        load(repository)
    return str(caught.value)


def hint(repository: Path, encoder: str = "tiny-text") -> str:
    return f"publish it again: duovec-export publish --encoder {encoder} --repository {repository}"


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
    assert text.task_ids == {InputType.QUERY: 1, InputType.PASSAGE: 2}
    assert (text.max_batch_size, text.length_buckets) == (64, ())
    assert space.code.append_eos == "<eos>"
    assert space.code.task_ids == {}


def test_the_tokenizer_is_that_of_the_version(repository: Path, space: Space) -> None:
    """The path points into the version folder."""
    assert space.text.tokenizer_path == repository / "tiny-text" / "1" / "tokenizer.json"


def test_the_served_version_is_read_and_not_the_newest(repository: Path) -> None:
    """After a rollback the newer version lies there still, and may still be loaded."""
    for version in (9, 10, 11):
        write_version(repository, manifest_of("code") | {"version": version})
    assert load(repository).code.version == 11
    serve_version(repository, "tiny-code", 9, loaded=[9, 10])
    assert load(repository).code.version == 9


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
        pytest.param(lambda m: m["spec"].update(pooling="the other"), id="pooling"),
        pytest.param(lambda m: m["spec"].update(append_eos="[SEP]"), id="append_eos"),
        pytest.param(
            lambda m: m["spec"].update(tasks=[*m["spec"]["tasks"], "extra"], task_ids={"query": 1, "passage": 2}),
            id="tasks",
        ),
        pytest.param(lambda m: m["spec"].update(task_ids={"query": 0, "passage": 0}), id="task ids"),
        pytest.param(lambda m: m["files"].update({"model.plan": "99"}), id="engine"),
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
        pytest.param(lambda m: m["files"].update({"canary.json": "99"}), id="canary"),
        pytest.param(lambda m: m.update(version=2), id="version"),
        pytest.param(lambda m: m.update(gate={"max_abs": 0.5}), id="gate"),
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
    path = tmp_path / "tiny-code" / "config.pbtxt"
    assert refusal(tmp_path) == (
        f"no encoder is published: {path} (No such file or directory); {hint(tmp_path, 'tiny-code')}"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not a config", "is not a Triton model configuration"),
        ("version_policy { specific { versions: 1 } }", "served_version is '', the loaded versions are [1]"),
        (
            "version_policy { specific { versions: 1 } } "
            'parameters { key: "served_version" value { string_value: "2" } }',
            "served_version is '2', the loaded versions are [1]",
        ),
    ],
)
def test_a_config_that_serves_nothing_is_refused(repository: Path, text: str, message: str) -> None:
    """No guess at a version."""
    (repository / "tiny-text" / "config.pbtxt").write_text(text)
    assert message in refusal(repository)


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
        json.dumps(manifest_of("text") | {"spec": manifest_of("text")["spec"] | {"task_ids": {"query": 0}}}),
        without("serving"),
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
