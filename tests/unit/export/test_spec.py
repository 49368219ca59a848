"""Specs are read strictly: what is wrong is named."""

from pathlib import Path

import pytest

from export.errors import ExportError
from export.spec import load_pair, load_spec

TEXT = Path(__file__).parents[3] / "export" / "specs" / "compact-text.toml"


def test_compact_pair_has_the_two_dimensions_of_the_space() -> None:
    """1536 and 1024 make 2560."""
    code, text = load_pair("compact")
    assert (code.role, code.dimension, code.tasks) == ("code", 1536, ())
    assert (text.role, text.dimension, text.tasks) == ("text", 1024, ("query", "passage"))
    assert (text.append_eos, text.max_tokens, text.prompts.query) == (None, 512, "")
    assert text.lora.scale == 2.0


def test_unknown_pair_is_refused_by_name() -> None:
    """The known ones are offered."""
    with pytest.raises(ExportError, match="no pair is named 'full'; known: compact"):
        load_pair("full")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('pooling = "mean"', 'pooling = "last_token"', "pooling must be mean .last_token is not built yet., not 'last"),
        ('pooling = "mean"', 'pooling = "mean"\ncolour = 1', "unknown key colour"),
        ("rank = 8", "rank = 8\nrnak = 4", "unknown key lora.rnak"),
        ("rank = 8", "rank = 0", "lora.rank must be 1 to 256, not 0"),
        ("rank = 8", "rank = true", "lora.rank must be a int, not True"),
        ("dimension = 1024", "dimension = 1000", "dimension must be 1024 for role text, not 1000"),
        ("max_tokens = 512\n", "", "missing key max_tokens"),
        ("normalize = true", "normalize = false", "normalize must be true"),
        ('["query", "passage"]', '["query", "query"]', "tasks must be a list without repetition"),
        ('attention = "bidirectional"', 'attention = "sideways"', "attention must be bidirectional or causal"),
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
