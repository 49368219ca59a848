"""The page and the table of an evaluation, of figures that are known."""

from pathlib import Path

import numpy as np

from training.cli.evaluate import table_of
from training.dataset import Row
from training.evaluation.evaluate import BASE, BM25, CODE, PAIR, TEXT, Evaluation
from training.evaluation.metrics import rank_scores
from training.evaluation.page import write_page
from training.evaluation.questions import CONDITIONS, ask

SYSTEMS = (PAIR, CODE, TEXT, BASE, BM25)
_QUERIES = ("read the file", "<script>alert(1)</script>", "close & wait", "open the door")


def _evaluation() -> Evaluation:
    """Four queries whose passages come first, fourth, second and third."""
    rows = [
        Row(
            query=query,
            positive=f"f{number}\ndef f{number}(): return {number}",
            negatives=(),
            style="docstring",
            language="python",
            package=f"p{number}",
            symbol=f"f{number}",
            unit=f"unit {number}",
            origin=f"f.py:{number}",
        )
        for number, query in enumerate(_QUERIES)
    ]
    questions = {condition: ask(rows, condition) for condition in CONDITIONS}
    scores_QP = np.array([[9, 1, 2, 3], [9, 1, 8, 7], [9, 2, 8, 3], [9, 1, 8, 7]], np.float32)
    rankings = {
        condition: {system: rank_scores(scores_QP, questions[condition].right_Q) for system in SYSTEMS}
        for condition in CONDITIONS
    }
    facts = {
        "encoders": ["one", "other"],
        "data_sha256": "0" * 64,
        "split": "test",
        "precision": "fp32",
        "packages": 4,
        "queries": dict.fromkeys(CONDITIONS, 4),
        "passages": dict.fromkeys(CONDITIONS, 4),
    }
    spread = {SYSTEMS[0]: {"alignment": 1.234, "uniformity": -2.345, "triplet_accuracy": 0.456}}
    return Evaluation(facts, rankings, questions, spread)


def test_the_worst_queries_come_first_with_what_was_found_instead(tmp_path: Path) -> None:
    """And what somebody wrote into a docstring stays text."""
    evaluation = _evaluation()
    assert [(one["rank"], one["query"], one["right"], one["found"]) for one in evaluation.worst()] == [
        (4.0, _QUERIES[1], "p1 f1", "f0"),
        (3.0, _QUERIES[3], "p3 f3", "f0"),
        (2.0, _QUERIES[2], "p2 f2", "f0"),
        (1.0, _QUERIES[0], "p0 f0", "f3"),
    ]
    write_page(evaluation, [], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    shown = ("&lt;script&gt;alert(1)&lt;/script&gt;", "open the door", "close &amp; wait", "read the file")
    rows = page[page.index("The worst queries of the pair") :].split("<tr>")[2:]
    for row, query, rank in zip(rows, shown, (4, 3, 2, 1), strict=True):
        assert query in row and f'<td class="number">{rank}</td>' in row
    assert "<script" not in page


def test_alignment_uniformity_and_triplet_accuracy_are_on_the_page(tmp_path: Path) -> None:
    """Of each system that has vectors: BM25 has none."""
    write_page(_evaluation(), [], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    table = page[page.index("Vectors, names as they are") :].partition("</table>")[0]
    assert [row.partition("</td>")[0] for row in table.split("<tr><td>")[1:]] == [SYSTEMS[0]]
    for name, value in (("alignment", "1.234"), ("uniformity", "-2.345"), ("triplet accuracy", "0.456")):
        assert f'<th class="number">{name}</th>' in table and f'<td class="number">{value}</td>' in table


def test_the_table_has_every_system_and_what_its_vectors_are_like() -> None:
    """Mean of 1/1, 1/4, 1/2 and 1/3; what has no vectors stands in two of the three parts."""
    lines = [" ".join(line.split()) for line in table_of(_evaluation().as_dict())]
    assert lines[0] == "names named: 4 queries"
    assert lines[1].startswith(f"{SYSTEMS[0]} mrr@10 0.521 ndcg@10 ")
    assert len(lines) == 2 * (1 + len(SYSTEMS)) + 2
    assert lines[-1] == f"{SYSTEMS[0]} alignment 1.234 uniformity -2.345 triplet accuracy 0.456"
