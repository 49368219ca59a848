"""Specs are read strictly: what is wrong is named."""

from pathlib import Path

import pytest

from export.errors import ExportError
from export.spec import HubSource, builtin_encoders, load_builtin, load_pair, load_spec

TEXT = Path(__file__).parents[3] / "export" / "specs" / "compact-text.toml"


def test_compact_pair_has_the_two_dimensions_of_the_space() -> None:
    """1536 and 1024 make 2560."""
    code, text = load_pair("compact")
    assert (code.role, code.dimension, code.tasks) == ("code", 1536, ())
    assert (text.role, text.dimension, text.tasks) == ("text", 1024, ("query", "passage"))
    assert (text.append_eos, text.max_tokens, text.query.prompt) == (None, 512, "")
    assert text.lora is not None
    assert text.lora.scale == 2.0


def test_unknown_pair_is_refused_by_name() -> None:
    """The known ones are offered."""
    with pytest.raises(ExportError, match="no pair is named 'huge'; known: compact, full"):
        load_pair("huge")
    with pytest.raises(ExportError, match="no built-in encoder is named 'bert'; known: compact-code, "):
        load_builtin("bert")


def test_full_pair_is_what_the_model_cards_say() -> None:
    """Prompts, pooling, tasks and terms of Qodo and Jina; a user sees what the license forbids."""
    code, text = load_pair("full")
    assert (code.name, code.architecture, code.pooling, code.dimension) == (
        "qodo-embed-1-1.5b",
        "qwen2",
        "last_token",
        1536,
    )
    assert (code.query.prompt, code.passage.prompt, code.tasks, code.head, code.lora) == ("", "", (), None, None)
    assert (text.architecture, text.pooling, text.max_tokens) == ("jina_embeddings_v3", "mean", 2048)
    assert text.query.prompt == "Represent the query for retrieving evidence documents: "
    assert text.passage.prompt == "Represent the document for retrieval: "
    assert text.task_ids == {"query": 0, "passage": 1}
    assert len(text.tasks) == 5
    assert text.lora is not None
    assert text.lora.scale == 0.25
    assert (text.license.identifier, text.license.forbids) == ("CC-BY-NC-4.0", "commercial use")
    assert all(isinstance(one.source, HubSource) for one in (code, text))


@pytest.mark.parametrize("name", builtin_encoders())
def test_every_spec_states_its_terms(name: str) -> None:
    """License and address stand in each file; the file is named after its encoder."""
    spec = load_builtin(name)
    assert spec.name == name
    assert spec.license.identifier
    assert spec.license.url.startswith("https://")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('pooling = "mean"', 'pooling = "max"', "pooling must be mean or last_token, not 'max'"),
        ('pooling = "mean"', 'pooling = "mean"\ncolour = 1', "unknown key colour"),
        ("rank = 8", "rank = 8\nrnak = 4", "unknown key lora.rnak"),
        ("rank = 8", "rank = 0", "lora.rank must be 1 to 256, not 0"),
        ("rank = 8", "rank = true", "lora.rank must be a int, not True"),
        ("dimension = 1024", "dimension = 1000", "dimension must be 1024 for role text, not 1000"),
        ("base_dimension = 384", "base_dimension = 2000", "base_dimension must be in 1 to dimension, not 2000"),
        ("max_tokens = 512\n", "", "missing key max_tokens"),
        ("[head]", "[words]\nshare = 1\nseed = 2\n[head]", "words.share must be above 0 and below 1, not 1"),
        (
            '[head]\nkind = "isometric"\nseed = 1024\n',
            "[words]\nshare = 0.5\nseed = 2\n",
            "base_dimension must be 1024",
        ),
        (
            'precision = "bf16"',
            'precision = "fp64"',
            "precision must be fp32 or fp16 or bf16 or int8 or int8-bf16, not 'fp64'",
        ),
        ('architecture = "bert"', 'architecture = "gpt"', "architecture must be bert or jina_embeddings_v3 or qwen2"),
        ('["query", "passage"]', '["query", "query"]', "tasks must be a list without repetition"),
        ('["query", "passage"]', "[]", "query.task must be absent where there are no tasks, not 'query'"),
        ('task = "query"', 'task = "search"', r"query.task must be one of the tasks \(query, passage\), not 'search'"),
        ('attention = "bidirectional"', 'attention = "sideways"', "attention must be bidirectional or causal"),
        ('url = "https:', 'url = "ftp:', "license.url must be an https address"),
        ('"vocab.txt" = "07', '"vocab.txt" = "XX', "source.files.vocab.txt must be a SHA-256"),
        ("[head]", "[head", "is not valid TOML"),
    ],
)
def test_invalid_spec_is_refused_by_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    """Every error names the file and the key."""
    path = tmp_path / "broken.toml"
    source = TEXT.read_text(encoding="utf-8")
    assert old in source
    path.write_text(source.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ExportError, match=message) as caught:
        load_spec(path)
    assert "broken.toml" in str(caught.value)


def test_missing_spec_file_is_named(tmp_path: Path) -> None:
    """No traceback for a wrong path."""
    with pytest.raises(ExportError, match=r"cannot read the encoder spec .*none\.toml"):
        load_spec(tmp_path / "none.toml")
