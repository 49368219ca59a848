"""A set from real packages: what its examples are, how it is split, and that it is the same every time."""

import random
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from mined_sources import copy_packages, mine_units, unit_of, units_in

from training.data.anatomy import dissect
from training.data.blanking import blank_name
from training.data.calls import Definitions, queries_of_tests
from training.data.duplicates import NEAR, shingles, similarity
from training.data.history import history_queries
from training.data.mining import MinedSet
from training.data.parquet import digest_of
from training.data.queries import Query
from training.data.sources import library_package, list_sources, package_in, read_units
from training.data.unit import SPLITS, Example
from training.errors import InsufficientTrainingData, TrainingError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_packages(tmp_path_factory.mktemp("library"))


@pytest.fixture(scope="module")
def mined(folder: Path) -> MinedSet:
    return mine_units(units_in(folder))


def _all(mined: MinedSet) -> list[Example]:
    return [example for split in SPLITS for example in mined.examples[split]]


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def test_every_example_cites_the_lines_that_it_was_made_from(folder: Path, mined: MinedSet) -> None:
    """The words of a docstring or a comment stand in these lines, and nowhere in the answer."""
    checked = 0
    for example in _all(mined):
        path, _, lines = example.rows[0].removeprefix(f"{folder.name}/").rpartition(":")
        first, last = map(int, lines.split("-"))
        source = _words("\n".join((folder / path).read_text().split("\n")[first - 1 : last]))
        assert (example.start_line, example.end_line) == (first, last)
        if example.query_style in {"docstring", "comment"}:
            words = _words(example.query)
            # Markup inside a sentence is dropped from the query, and leaves words in the source.
            if words in source:
                checked += 1
                assert words not in _words(example.positive)
    assert checked > 300


def test_packages_are_whole_in_one_split_and_no_code_is_in_two(mined: MinedSet) -> None:
    packages = [{example.package for example in mined.examples[split]} for split in SPLITS]
    assert all(packages)
    assert sum(map(len, packages)) == len(set.union(*packages))
    held_out, trained = (
        {example.unit: shingles(example.positive_blanked.partition("\n")[2]) for example in mined.examples[split]}
        for split in ("test", "train")
    )
    closest = max(similarity(one, other) for one in held_out.values() for other in trained.values())
    # The index misses few; far above the limit it misses none.
    assert closest < NEAR + 0.1


def test_negatives_are_other_units_of_the_split_and_no_question_has_two_answers(mined: MinedSet) -> None:
    for split in SPLITS:
        examples = mined.examples[split]
        passages = {example.positive_blanked for example in examples}
        answers: dict[str, set[str]] = {}
        for example in examples:
            blanked = {blank_name(one, one.partition("\n")[0]) for one in example.negatives}
            assert blanked <= passages - {example.positive, example.positive_blanked}
            answers.setdefault(example.query.lower(), set()).add(example.unit)
        assert max(map(len, answers.values())) == 1


def test_blanked_answers_lack_the_name_and_symbol_queries_have_nothing_else(mined: MinedSet) -> None:
    for example in _all(mined):
        name = example.symbol.rpartition(".")[2]
        assert re.search(rf"(?<![\w$]){re.escape(name)}(?![\w$])", example.positive_blanked) is None
        if example.query_style == "symbol":
            assert example.positive == example.positive_blanked


def test_the_set_does_not_depend_on_the_order_of_reading(folder: Path, mined: MinedSet) -> None:
    units = units_in(folder)
    random.Random(4).shuffle(units)
    assert digest_of(mine_units(units).examples) == digest_of(mined.examples)
    assert digest_of(mine_units(units, seed=1).examples) != digest_of(mined.examples)


def test_a_package_gives_no_more_than_its_cap_and_keeps_its_styles(folder: Path, mined: MinedSet) -> None:
    capped = mine_units(units_in(folder), package_cap=40)
    assert max(Counter(example.package for example in _all(capped)).values()) == 40
    styles = Counter(example.query_style for example in _all(capped) if example.package.endswith("/email"))
    assert len(styles) >= 3 and max(styles.values()) <= 20


def test_fewer_than_100_examples_to_train_on_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InsufficientTrainingData, match=r"INSUFFICIENT_TRAINING_DATA: .* gives \d+ triplets, at least 100"
    ):
        mine_units(units_in(copy_packages(tmp_path, ("json", "html", "wsgiref"))))
    with pytest.raises(InsufficientTrainingData, match="gives 0 triplets"):
        mine_units([])


def test_a_set_of_copies_is_refused(tmp_path: Path) -> None:
    """The same code a hundred times is one example, and no hundred."""
    for number in range(40):
        copy_packages(tmp_path / f"copy{number}", ("json",))
    with pytest.raises(TrainingError, match="INSUFFICIENT_TRAINING_DATA"):
        mine_units(units_in(tmp_path))


def test_feedback_is_a_query_with_what_was_useless_as_its_first_negative(folder: Path) -> None:
    units = [unit for unit in units_in(folder) if not unit.is_test]
    useful = next(unit for unit in units if unit.symbol == "HTTPConnection.putheader")
    useless = next(unit for unit in units if unit.symbol == "HTTPConnection.endheaders")
    from training.data.mining import MiningSettings, mine
    from training.data.negatives import lexical_pools

    query = Query("how to send a header", "feedback", ("search:1",), (useless.key,))
    mined = mine(
        units,
        MiningSettings(),
        pools=[lexical_pools],
        counts=Counter(),
        report=lambda stage, done, total: None,
        extra={useful.key: [query]},
    )
    [example] = [example for example in _all(mined) if example.query_style == "feedback"]
    assert example.unit == useful.key
    assert example.negatives[0].startswith("HTTPConnection.endheaders\n")
    assert example.rows == (*useful.rows, "search:1")


def test_a_test_is_about_the_called_unit_that_its_name_names() -> None:
    code = [
        unit_of("def parse_header(line):\n    return split_line(line)", symbol="parse_header"),
        unit_of("def split_line(line):\n    return line.split(':')", symbol="split_line"),
    ]
    test = unit_of(
        "def test_parses_empty_header():\n    line = split_line('')\n    assert parse_header(line) == []",
        path="tests/test_mod.py",
        symbol="test_parses_empty_header",
    )
    [(key, query)] = queries_of_tests([test], {test.key: dissect(test)}, Definitions(code))
    assert (key, query.text, query.rows) == (code[0].key, "parses empty header", ("tests/test_mod.py:1-3",))
    unknown = unit_of(
        "def test_all_is_well():\n    parse_header(split_line(''))", path="tests/t.py", symbol="test_all_is_well"
    )
    assert queries_of_tests([unknown], {unknown.key: dissect(unknown)}, Definitions(code)) == []


def test_commits_and_change_logs_speak_of_the_code_that_they_changed(tmp_path: Path) -> None:
    """From a real git history: the subject belongs to the function that has the commit's lines today."""

    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *identity, "-C", str(tmp_path), *arguments], check=True, capture_output=True)

    module = tmp_path / "cookies.py"
    module.write_text("def sign(value):\n    key = load()\n    return digest(key, value)\n")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "feat: Sign cookies with the key of the server (#12)")
    module.write_text(
        module.read_text() + "\n\ndef check(value):\n    name, mac = value.split('.')\n    return mac == sign(name)\n"
    )
    (tmp_path / "CHANGELOG.md").write_text(
        "# 1.0\n\n- The function `check` refuses cookies\n  that have expired.\n- `nothing` is new.\n"
    )
    git("add", ".")
    git("commit", "--quiet", "-m", "Refuse cookies whose signature is wrong")
    [listing] = list_sources([tmp_path], [])
    units = list(read_units(listing, Counter()))
    found = {key.rpartition(":")[2]: queries[0] for key, queries in history_queries(listing, units, Counter()).items()}
    assert {symbol: query.text for symbol, query in found.items()} == {
        "sign": "Sign cookies with the key of the server",
        "check": "Refuse cookies whose signature is wrong",
    }
    assert found["sign"].rows[0].startswith("commit:")
    (tmp_path / ".git").rename(tmp_path / "no-git")
    found = {key.rpartition(":")[2]: queries[0] for key, queries in history_queries(listing, units, Counter()).items()}
    assert [query.text for query in found.values()] == ["The function check refuses cookies that have expired."]
    assert found["check"].rows == (f"{tmp_path.name}/CHANGELOG.md:3-4",)


def test_unreadable_files_and_loops_of_links_are_counted_and_passed_over(tmp_path: Path) -> None:
    copy_packages(tmp_path, ("json",))
    (tmp_path / "json" / "loop").symlink_to(tmp_path)
    (tmp_path / "json" / "latin.py").write_bytes(b"# caf\xe9\n")
    (tmp_path / "json" / "made.py").write_text("# Generated by protoc. DO NOT EDIT.\ndef f():\n    return 1\n")
    (tmp_path / "json" / "data.json").write_text("{}")
    (tmp_path / "json" / "min.js").write_text("var a=1;" * 1000)
    counts = Counter[str]()
    units = units_in(tmp_path, counts)
    assert counts == {
        "files read": 5,
        "files symbolic link": 1,
        "files without a grammar, and stubs": 1,
        "files not UTF-8": 1,
        "files generated or minified": 2,
    }
    assert {unit.package for unit in units} == {f"{tmp_path.name}/json"}


def test_packages_are_found_by_where_code_lies() -> None:
    code = frozenset({"src/one", "src/one/deep", "src/two"})
    assert package_in("src/one/deep/a.py", code, "root") == "root/src/one"
    assert package_in("src/two/a.py", code, "root") == "root/src/two"
    assert package_in("src/one/_vendor/Other_Lib/a.py", code, "root") == "other-lib"
    assert package_in("a.py", frozenset({""}), "root") == "root"
    assert package_in("one/_vendor/_other.py", code, "root") == "other"
    assert package_in("src/one/_vendor/__init__.py", code, "root") == "root/src/one"
    assert library_package("test/test_json/test_decode.py") == library_package("json/decoder.py") == "stdlib/json"
    assert library_package("test/test_textwrap.py") == library_package("textwrap.py") == "stdlib/textwrap"
