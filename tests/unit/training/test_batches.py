"""Batches hold several rows of a package, no definition twice, and are the same for any number of processes."""

import dataclasses
import random
from typing import Any

import pytest
from datasets import Dataset

from training.batches import PackageBatchSampler
from training.dataset import Row
from training.errors import TrainingError


def _rows(count: int = 400, packages: int = 5) -> list[Row]:
    draw = random.Random(3)
    return [
        Row(
            query=f"query {number}",
            positive=f"passage {number} " + "x" * draw.randrange(200),
            negatives=(),
            style="docstring",
            language="python",
            package=f"package {number % packages}",
            symbol="f",
            unit=f"unit {number // 2}",
            origin="",
        )
        for number in range(count)
    ]


def _sampler(rows: list[Row], **arguments: Any) -> PackageBatchSampler:
    columns = {
        "query": [row.query for row in rows],
        "positive": [row.positive for row in rows],
        "row": list(range(len(rows))),
    }
    return PackageBatchSampler(Dataset.from_dict(columns), rows=rows, drop_last=True, seed=7, **arguments)


def test_no_definition_is_its_own_negative() -> None:
    """Two queries of one function in a batch would teach that its passage is wrong."""
    rows = _rows()
    batches = list(_sampler(rows, batch_size=32, run=8))
    assert len(batches) == 12
    for batch in batches:
        assert len({rows[number].unit for number in batch}) == 32
    drawn = [number for batch in batches for number in batch]
    assert len(set(drawn)) >= 350  # of 400 in 384 places: only what clashed at the end comes twice


def test_rows_that_are_all_one_definition_give_an_error() -> None:
    """All duplicates: nothing could be a negative of anything."""
    rows = [dataclasses.replace(row, unit="one") for row in _rows(64)]
    with pytest.raises(TrainingError, match="no batch of 8 without a definition or text twice"):
        list(_sampler(rows, batch_size=8))


def test_rows_of_one_package_come_together() -> None:
    """Negatives of the query's own package are what makes a batch hard."""
    rows = _rows(packages=40)

    def mean_packages(run: int) -> float:
        batches = list(_sampler(rows, batch_size=16, run=run))
        return sum(len({rows[number].package for number in batch}) for batch in batches) / len(batches)

    assert mean_packages(8) < 6 < 11 < mean_packages(1)


def test_lengths_of_a_batch_are_similar() -> None:
    """Padding is work for nothing."""
    rows = _rows(4000)

    def spread(batch: list[int]) -> int:
        lengths = [len(rows[number].positive) for number in batch]
        return max(lengths) - min(lengths)

    spreads = [spread(batch) for batch in _sampler(rows, batch_size=16, run=1)]
    assert sum(spreads) / len(spreads) < 40  # of 200; drawn at random it would be about 176


def test_a_step_holds_the_same_rows_for_one_process_and_for_two() -> None:
    """Else the number of GPUs would change what is learnt."""
    rows = _rows()
    alone = list(_sampler(rows, batch_size=32, run=8))
    dealt = list(_sampler(rows, batch_size=16, run=8, processes=2))
    assert [first + second for first, second in zip(dealt[::2], dealt[1::2], strict=True)] == alone


def test_epochs_differ_and_seeds_repeat() -> None:
    """A run that is taken up must see the batches that it would have seen."""
    rows = _rows()
    first, again = _sampler(rows, batch_size=16), _sampler(rows, batch_size=16)
    assert list(first) == list(again)
    again.set_epoch(1)
    assert list(first) != list(again)


def test_a_negative_is_never_the_answer_of_a_row_whose_name_is_blanked() -> None:
    """Negatives are passages as they were mined: what answers another row of the batch is found under its name, too."""
    rows = [dataclasses.replace(row, unit=f"unit {number}") for number, row in enumerate(_rows(64))]
    columns = {
        "query": [row.query for row in rows],
        "positive": [f"blanked {number}" for number in range(64)],
        "negative_1": [rows[number ^ 1].positive for number in range(64)],  # rows are each other's negatives in pairs
        "row": list(range(64)),
    }
    sampler = PackageBatchSampler(Dataset.from_dict(columns), rows=rows, drop_last=True, seed=7, batch_size=16)
    batches = list(sampler)
    assert len(batches) == 4
    for batch in batches:
        assert len({number // 2 for number in batch}) == 16
