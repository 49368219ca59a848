"""Duplicates, hard negatives and splits, compared with brute force."""

import re
from pathlib import Path

import numpy as np
import pytest
from mined_sources import copy_packages, unit_of, units_in

from training.data.blanking import words_of
from training.data.drafts import Draft
from training.data.duplicates import NEAR, Duplicates, shingles, similarity
from training.data.negatives import MOST_ALIKE, choose, embedded_pools, lexical_pools
from training.data.queries import Query
from training.data.split import split_packages
from training.errors import TrainingError


def _draft(symbol: str, content: str, query: str = "") -> Draft:
    return Draft(unit_of(content, symbol=symbol), content, [Query(query, "docstring")] if query else [])


def test_near_duplicates_are_those_that_comparing_everything_finds(tmp_path: Path) -> None:
    """The index may miss a few, and must drop nothing that is not alike."""
    units = units_in(copy_packages(tmp_path, ("http", "json")))
    texts = [unit.content for unit in units] + [unit.content.replace("self", "this", 1) for unit in units[::7]]
    kinds = [kind for known in [Duplicates()] for kind in map(known.kind_of, texts)]
    kept: list[frozenset[str]] = []
    expected = []
    for text in texts:
        own = shingles(text)
        is_new = all(similarity(own, other) < NEAR for other in kept)
        expected.append(is_new)
        if is_new:
            kept.append(own)
    found = [kind is None for kind in kinds]
    assert sum(one != other for one, other in zip(found, expected, strict=True)) <= 0.01 * len(texts)
    assert "exact" in kinds or "near" in kinds


def test_space_and_line_ends_do_not_make_code_another() -> None:
    known = Duplicates()
    assert known.kind_of("def f(a):\n    return a + 1") is None
    assert known.kind_of("def f( a ):\n        return a+1") == "exact"


def test_lexical_negatives_are_the_most_alike_by_brute_force(tmp_path: Path) -> None:
    units = units_in(copy_packages(tmp_path, ("email", "http", "json")))
    drafts = [Draft(unit, unit.content) for unit in units if len(unit.content) < 1500]
    identifiers = [re.findall(r"[A-Za-z_$][\w$]*", draft.passage) for draft in drafts]
    bags = [{word for name in names for word in words_of(name)} for names in identifiers]
    counts: dict[str, int] = {}
    for bag in bags:
        for word in bag:
            counts[word] = counts.get(word, 0) + 1
    limit = max(2, 0.05 * len(drafts))
    rare = [{word for word in bag if 2 <= counts[word] <= limit} for bag in bags]
    asked = [(number, "") for number in range(len(drafts))]
    agreed = 0
    for own, pool in enumerate(lexical_pools(drafts, asked)):
        alike = {
            other: len(rare[own] & rare[other]) / len(rare[own] | rare[other])
            for other in range(len(drafts))
            if rare[own] & rare[other]
        }
        best = max((one for one in alike.values() if one < MOST_ALIKE), default=0.0)
        assert all(alike[one] < MOST_ALIKE for one in pool)
        agreed += not pool or alike[pool[0]] == pytest.approx(best)
    assert agreed == len(drafts)


def test_embedded_negatives_stay_below_95_percent_of_the_answer() -> None:
    """The positive-aware rule, against a loop over all pairs."""
    generator = np.random.default_rng(3)
    passages = generator.standard_normal((200, 16)).astype(np.float32)
    passages /= np.linalg.norm(passages, axis=1, keepdims=True)
    positives = generator.integers(0, 200, 600)
    queries = passages[positives] + 0.2 * generator.standard_normal((600, 16)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    for number, pool in enumerate(embedded_pools(queries, passages, positives)):
        own = float(queries[number] @ passages[positives[number]])
        scores = {one: float(queries[number] @ passages[one]) for one in range(200)}
        allowed = [one for one in sorted(scores, key=lambda one: -scores[one]) if 0 < scores[one] < 0.95 * own]
        assert pool[:5] == allowed[:5]


def test_what_may_be_an_answer_is_no_negative() -> None:
    """The same name, a caller, a callee, and another answer to nearly the same question are left out."""
    drafts = [
        _draft("read_file", "def read_file(path):\n    return load_bytes(path)", "read a file from the disk"),
        _draft("Other.read_file", "def read_file(self):\n    return 1", "something else"),
        _draft("load_bytes", "def load_bytes(path):\n    return 2", "load all the bytes"),
        _draft("run", "def run():\n    read_file('x')", "run the program"),
        _draft("slurp", "def slurp(path):\n    return 3", "read a file from disk"),
        _draft("write_file", "def write_file(path):\n    return 4", "store some bytes under a name"),
    ]
    assert choose(0, "read a file from the disk", [0, 1, 2, 3, 4, 5], drafts, count=3) == [5]


def test_packages_keep_their_split_when_others_come() -> None:
    few = {f"package{number}": 10 for number in range(150)}
    many = few | {f"other{number}": 10 for number in range(400)}
    before, after = split_packages(few, seed=1), split_packages(many, seed=1)
    assert {name: after[name] for name in few} == before
    shares = [list(after.values()).count(split) / len(after) for split in ("train", "dev", "test")]
    assert shares == pytest.approx([0.75, 0.10, 0.15], abs=0.05)
    assert split_packages(many, seed=2) != after


@pytest.mark.parametrize("seed", range(20))
def test_a_handful_of_packages_fills_all_three_splits(seed: int) -> None:
    splits = split_packages({"large": 1000, "middle": 150, "small": 100, "tiny": 1}, seed=seed)
    assert set(splits.values()) == {"train", "dev", "test"}


def test_packages_are_held_out_by_name_or_refused() -> None:
    sizes = dict.fromkeys("abcdefghij", 10)
    assert split_packages(sizes, seed=0, held_out=["c"])["c"] == "test"
    with pytest.raises(TrainingError, match="--hold-out z: no package of that name"):
        split_packages(sizes, seed=0, held_out=["z"])
    with pytest.raises(TrainingError, match=r"2 packages with examples \(a, b\), at least 3"):
        split_packages({"a": 5, "b": 5}, seed=0)
