import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import typer
from client.fake_service import FakeService, serving
from terminal_screen import TerminalScreen
from typer.testing import CliRunner

from duovec.v1 import chunk_pb2
from gateway.cli.embed import embed
from gateway.cli.index import index, slug_of
from gateway.cli.search import search
from gateway.cli.status import status

runner = CliRunner()
app = typer.Typer()
for command in (index, search, embed, status):
    app.command()(command)


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture(autouse=True)
def endpoint(service: FakeService, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("COLUMNS", "200")
    with serving(service) as endpoint:
        monkeypatch.setenv("DUOVEC_ENDPOINT", endpoint)
        yield endpoint


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "My Project"
    root.mkdir()
    (root / "a.py").write_text("class A:\n    def go(self):\n" + "".join(f"        step({n})\n" for n in range(9)))
    (root / "latin.py").write_bytes(b"# caf\xe9\n")
    return root


def test_index_names_the_codebase_after_the_folder_and_prints_one_json_document(
    service: FakeService, tree: Path
) -> None:
    result = runner.invoke(app, ["index", str(tree), "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["codebase_id"], report["chunks_embedded"]) == ("my-project", 2)
    assert report["skipped"] == {"not UTF-8": 1}
    assert list(service.stored) == ["my-project"]


def test_index_prints_a_table_with_what_was_skipped(tree: Path) -> None:
    result = runner.invoke(app, ["index", str(tree), "--codebase", "x"])
    assert result.exit_code == 0, result.output
    assert "x (created)" in result.stdout
    assert "skipped, not UTF-8: 1 (latin.py)" in result.stdout


def test_index_exits_with_1_when_a_chunk_failed(service: FakeService, tree: Path) -> None:
    service.fail_items = {"def go": 13}
    result = runner.invoke(app, ["index", str(tree)])
    assert result.exit_code == 1
    assert "failed: a.py:2: the chunk is bad [INTERNAL]" in result.stderr


def test_index_says_in_a_terminal_why_it_waits(service: FakeService, tree: Path, endpoint: str) -> None:
    """For a place among the streams, say, which may take minutes."""
    service.full = 6  # the last pause is of 3.2 s at least
    command = [str(Path(sys.executable).with_name("duovec")), "index", str(tree), "--codebase", "x"]
    with TerminalScreen(command, cwd=tree, environment={"DUOVEC_ENDPOINT": endpoint}) as terminal:
        terminal.until(lambda text: "waiting: OVERLOADED" in text)
        text = terminal.until(lambda text: "x (created)" in text)
    assert "waiting" not in text


def test_search_takes_the_only_codebase(tree: Path) -> None:
    runner.invoke(app, ["index", str(tree)])
    result = runner.invoke(app, ["search", "steps"])
    assert result.exit_code == 0, result.output
    assert "0.900  a.py:1-1  A" in result.stdout
    assert "0.800  a.py:2-11  A.go" in result.stdout
    assert "step(4)" in result.stdout
    assert "step(8)" not in result.stdout
    assert "4 more lines" in result.stdout
    assert "step(8)" in runner.invoke(app, ["search", "steps", "--full"]).stdout


def test_search_prints_one_json_document(tree: Path) -> None:
    runner.invoke(app, ["index", str(tree)])
    found = json.loads(runner.invoke(app, ["search", "steps", "--json", "--limit", "1"]).stdout)
    [hit] = found["hits"]
    assert (hit["path"], hit["start_line"], hit["symbol"], hit["score"]) == ("a.py", 1, "A", 0.9)


def test_search_sends_what_it_was_told(service: FakeService, tree: Path) -> None:
    runner.invoke(app, ["index", str(tree)])
    result = runner.invoke(
        app,
        [
            *(
                "search",
                "steps",
                "--codebase",
                "my-project",
                "--codebase",
                "other",
                "--path",
                "src/**",
                "--path",
                "*.py",
            ),
            *("--language", "go", "--kind", "class", "--min-score", "0.5", "--blend", "0.25", "--lexical", "0.75"),
            *("--allow-degraded", "--truncate", "--limit", "3"),
        ],
    )
    assert result.exit_code == 0, result.output
    request = service.searches[0]
    assert list(request.codebase_ids) == ["my-project", "other"]
    assert (request.query, request.page_size) == ("steps", 3)
    assert list(request.filter.path_globs) == ["src/**", "*.py"]
    assert (list(request.filter.languages), list(request.filter.kinds)) == (["go"], ["class"])
    assert (request.min_score, request.blend, request.lexical_weight) == (0.5, 0.25, 0.75)
    assert (request.allow_degraded, request.truncate) == (True, True)


def test_search_sends_nothing_that_it_was_not_told(service: FakeService, tree: Path) -> None:
    """The service has its own defaults."""
    runner.invoke(app, ["index", str(tree)])
    runner.invoke(app, ["search", "steps"])
    [request] = service.searches
    assert [field.name for field, _ in request.ListFields()] == ["codebase_ids", "query", "page_size", "filter"]


def test_search_by_code_by_chunk_and_without_words(service: FakeService, tree: Path) -> None:
    runner.invoke(app, ["index", str(tree)])
    assert runner.invoke(app, ["search", "-", "--code"], input="x = 1\n").exit_code == 0
    assert runner.invoke(app, ["search", "--like", "4711"]).exit_code == 0
    assert runner.invoke(app, ["search", "steps", "--no-hybrid"]).exit_code == 0
    code, like, plain = service.searches
    assert (code.WhichOneof("input"), code.code) == ("code", "x = 1\n")
    assert (like.WhichOneof("input"), like.like_chunk_id) == ("like_chunk_id", 4711)
    assert plain.HasField("lexical_weight")
    assert plain.lexical_weight == 0


def test_search_goes_from_page_to_page(service: FakeService, tree: Path) -> None:
    runner.invoke(app, ["index", str(tree)])
    found = json.loads(runner.invoke(app, ["search", "steps", "--json", "--page-size", "1"]).stdout)
    assert [hit["chunk_id"] for hit in found["hits"]] == [0, 1]
    assert [(request.page_size, request.page_token) for request in service.searches] == [(1, ""), (1, "1")]
    assert (found["method"], found["partial_reasons"], found["more"]) == ("exact", ["pending_chunks"], False)


@pytest.mark.parametrize(
    "arguments", [[], ["x", "--like", "5"], ["x", "--no-hybrid", "--lexical", "0.5"], ["x", "--blend", "2"]]
)
def test_a_search_that_makes_no_sense_is_wrong_use(service: FakeService, arguments: list[str]) -> None:
    assert runner.invoke(app, ["search", *arguments]).exit_code == 2
    assert service.searches == []


def test_search_says_what_is_missing(service: FakeService, tree: Path) -> None:
    runner.invoke(app, ["index", str(tree)])
    service.missing_encoder = "tiny-code"
    result = runner.invoke(app, ["search", "steps"])
    assert "note: 7 chunks have no vector yet" in result.stderr
    assert "note: encoder tiny-code is down" in result.stderr


def test_search_shows_no_control_characters_of_the_code(service: FakeService) -> None:
    """Indexed text must not steer the terminal: ESC and its one-character form, a bell, overwriting, reordering."""
    chunk = chunk_pb2.Chunk(
        path="a\x1b[2J.py",
        symbol="s\x9b31m",
        content="x = '\x1b]0;t\x07\x9b31m\u202e'\r\ny\rz",
        language="python",
        start_line=1,
    )
    service.stored = {"one": {("a", b"", 0): chunk}}
    result = runner.invoke(app, ["search", "x"])
    assert result.exit_code == 0, result.output
    assert not set("\x1b\x07\x9b\u202e\r") & set(result.stdout)
    assert "a␛[2J.py" in result.stdout
    assert "'␛]0;t␇�31m�'" in result.stdout


def test_index_shows_no_control_characters_of_a_name(service: FakeService, tmp_path: Path) -> None:
    (tmp_path / "a\x1b[2J.py").write_text("x = compute(1)")
    result = runner.invoke(app, ["index", str(tmp_path), "--codebase", "x"])
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.output
    assert "backslash: 1 (a␛[2J.py)" in result.output


@pytest.mark.parametrize("arguments", [["embed", "\udcff"], ["search", "\udcff", "--codebase", "x"], ["embed", "-"]])
def test_what_is_not_utf_8_is_one_line_on_stderr(arguments: list[str]) -> None:
    """Python gives such arguments as lone surrogates, which no message can carry."""
    result = runner.invoke(app, arguments, input=b"caf\xe9")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert re.match(r"error: (a text, a name or stdin|texts\[0\]) is not UTF-8: 'utf-8' codec can't", result.stderr)
    assert result.stderr.count("\n") == 1


def test_search_lists_the_codebases_when_there_are_several(service: FakeService) -> None:
    service.stored = {"one": {}, "two": {}}
    result = runner.invoke(app, ["search", "steps"])
    assert result.exit_code == 1
    assert "choose one with --codebase: one, two" in result.stderr


def test_embed_writes_vectors_and_reads_stdin(tmp_path: Path) -> None:
    file = tmp_path / "vectors"
    result = runner.invoke(app, ["embed", "a", "-", "--output", str(file), "--json"], input="from stdin")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert len(document["embeddings"][1]["vector"]) == 2560
    assert np.load(io.BytesIO(file.read_bytes())).shape == (2, 2560)


def test_embed_writes_half_precision(tmp_path: Path) -> None:
    file = tmp_path / "vectors.npy"
    result = runner.invoke(app, ["embed", "a", "b", "--precision", "float16", "--output", str(file)])
    assert result.exit_code == 0, result.output
    vectors_BD = np.load(file)
    assert (vectors_BD.shape, vectors_BD.dtype) == ((2, 2560), np.float16)
    assert vectors_BD.argmax(axis=1).tolist() == [0, 1]


def test_embed_shows_the_field_that_was_refused() -> None:
    result = runner.invoke(app, ["embed", "a", " "])
    assert result.exit_code == 1
    assert result.stderr == "error: it is blank (texts[1]: it is blank) [INVALID_INPUT]\n"


def test_embed_prints_a_table() -> None:
    result = runner.invoke(app, ["embed", "[bold]x"])
    assert result.exit_code == 0, result.output
    assert "[bold]x" in result.stdout
    assert "+1.0000 +0.0000" in result.stdout


def test_status_shows_health_and_codebases(service: FakeService, endpoint: str) -> None:
    service.stored = {"one": {}}
    result = runner.invoke(app, ["status"])
    assert result.exit_code == 0, result.output
    assert f"{endpoint}: SERVING" in result.stdout
    document = json.loads(runner.invoke(app, ["status", "--json"]).stdout)
    assert (document["health"], document["codebases"][0]["codebase_id"]) == ("SERVING", "one")


def test_an_unreachable_service_is_one_line_on_stderr() -> None:
    result = runner.invoke(app, ["status", "--endpoint", "127.0.0.1:1"])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "is `duovec up` running?" in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_index_run_that_fails_is_one_line_on_stderr(tree: Path) -> None:
    result = runner.invoke(app, ["index", str(tree), "--endpoint", "127.0.0.1:1", "--json"])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: nothing answers")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["index", "search", "embed", "status"])
def test_help_has_examples(command: str) -> None:
    result = runner.invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert f"duovec {command}" in result.stdout


@pytest.mark.parametrize(
    ("name", "slug"),
    [("My Project", "my-project"), ("a_b.c", "a-b-c"), ("-x-", "x"), ("日本", ""), ("a" * 99, "a" * 63)],
)
def test_a_codebase_id_is_made_of_a_folder_name(name: str, slug: str) -> None:
    assert slug_of(name) == slug
