"""`duovec-train evaluate` as a user calls it: a table, a document, a page, from encoders that differ."""

import json
from pathlib import Path

import numpy as np
import pytest
from mined_data import write_data
from small_checkpoint import write_checkpoint, write_spec
from typer.testing import CliRunner

from export.spec import load_spec
from training.cli.main import app
from training.evaluation.encoding import TextEncoder, join
from training.evaluation.questions import CONDITIONS


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two small encoders as a pair, a third as the base of both."""
    root = tmp_path_factory.mktemp("evaluating")
    spec = str(write_spec(root / "small.toml"))
    folders = []
    for seed in (1, 2, 3):
        folder = root / str(seed)
        folder.mkdir()
        folders.append(str(write_checkpoint(folder, seed=seed)))
    code, text, base = folders
    data = str(write_data(root / "mined"))
    specs = ["--code-spec", spec, "--text-spec", spec]
    return [
        "evaluate",
        "--data",
        data,
        *specs,
        "--code",
        code,
        "--text",
        text,
        "--code-base",
        base,
        "--text-base",
        base,
    ]


def test_every_system_is_in_the_document_and_on_the_page(arguments: list[str], tmp_path: Path) -> None:
    """The pair, its halves, the base and BM25, by style and language, with intervals; the page fetches nothing."""
    page, metrics = tmp_path / "report.html", tmp_path / "run" / "metrics.jsonl"
    metrics.parent.mkdir()
    metrics.write_text("".join(json.dumps({"step": n, "loss": 2.0 / n, "grad_norm": 1.0}) + "\n" for n in range(1, 9)))
    run = CliRunner().invoke(app, [*arguments, "--json", "--html", str(page), "--metrics", str(metrics)])
    assert run.exit_code == 0, run.output
    result = json.loads(run.stdout)
    assert list(result["systems"]) == ["pair", "code encoder", "text encoder", "untrained base", "BM25"]
    for condition in CONDITIONS:
        slices = result["systems"]["pair"][condition]
        assert set(slices) == {"all", "style docstring", "style comment", "language python"}
        assert slices["all"]["queries"] == sum(
            slices[f"style {style}"]["queries"] for style in ("docstring", "comment")
        )
    # Random encoders know nothing, words do: a table where BM25 does not lead would be wrong.
    leaders = {name: values["blanked"]["all"]["mrr@10"] for name, values in result["systems"].items()}
    assert max(leaders, key=lambda name: leaders[name]) == "BM25"
    assert {one["against"] for one in result["comparisons"]} == set(result["systems"]) - {"pair"}
    assert all(one["low"] <= one["difference"] <= one["high"] for one in result["comparisons"])
    text = page.read_text(encoding="utf-8")
    assert text.count("<svg") == 4 and "Training loss" in text
    assert "<script" not in text and "http" not in text


def test_texts_have_one_vector_whatever_their_batch_mates(arguments: list[str]) -> None:
    """Sorted by length and padded in groups, or alone: the order and the vectors stay."""
    spec = load_spec(Path(arguments[arguments.index("--code-spec") + 1]))
    encoder = TextEncoder(spec, Path(arguments[arguments.index("--code") + 1]))
    texts = ["x = 1\n" * count for count in (30, 1, 12, 500, 3)]
    together = encoder.encode(texts, spec.passage)
    alone = np.concatenate([encoder.encode([text], spec.passage) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(join(together, alone), axis=1), 1.0, atol=1e-6)
    assert np.abs(encoder.encode(texts[:1], spec.query) - together[:1]).max() > 1e-3


def test_wrong_use_is_exit_code_2_and_missing_data_1(arguments: list[str], tmp_path: Path) -> None:
    """A script tells a typing error from a failure."""
    assert CliRunner().invoke(app, [*arguments, "--split", "train"]).exit_code == 2
    for options, told in (
        (["--html", str(tmp_path / "none" / "report.html")], "is no folder that can be written in"),
        (["--html", str(tmp_path)], "is a directory"),
        (["--html", str(tmp_path / "report.html"), "--metrics", str(tmp_path / "none.jsonl")], "does not exist"),
        (["--metrics", __file__], "give --html"),
    ):
        refused = CliRunner().invoke(app, [*arguments, *options])
        # Typer draws a box around it, which may break lines.
        assert refused.exit_code == 2 and told in " ".join(refused.stderr.replace("│", " ").split()), refused.stderr
    missing = CliRunner().invoke(app, ["evaluate", "--data", str(tmp_path)])
    assert missing.exit_code == 1 and "test.parquet is missing" in missing.stderr
    elsewhere = CliRunner().invoke(app, [*arguments, "--device", "cuda:99"])
    assert elsewhere.exit_code == 1 and "device is cuda:99" in elsewhere.stderr
