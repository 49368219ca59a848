"""Whose turn it is goes on, with its neighbours in length, however many wait."""

import asyncio
import random
import sys
from typing import Any

import numpy as np
import pytest

from gateway.embedding.row_pool import Batch, RowPool
from gateway.embedding.space import InputType

from .test_lane import ENCODER


def batch_of(turn: float) -> Batch:
    loop = asyncio.get_running_loop()
    return Batch(np.empty((0, 2), dtype=np.float32), 0, turn, 0.0, loop.create_future(), loop.create_future())


def add(pool: RowPool, turn: float, *lengths: int) -> Batch:
    batch = batch_of(turn)
    pool.add([np.zeros(length, dtype=np.int64) for length in lengths], batch)
    return batch


class Reference:
    """The same by one sorted list, which is looked through every time."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, float, int, int]] = []

    def add(self, turn: float, number: int, lengths: list[int]) -> None:
        self.rows += [(length, turn, number, index) for index, length in enumerate(lengths)]
        self.rows.sort()

    def discard(self, number: int) -> None:
        self.rows = [row for row in self.rows if row[2] != number]

    def take(self, budgets: int) -> list[tuple[int, int]]:
        start = min(range(len(self.rows)), key=lambda index: self.rows[index][1:3])
        end, in_group = start, 0
        while end < len(self.rows) and end - start < ENCODER.max_batch_size:
            if in_group and (in_group + 1) * self.rows[end][0] > ENCODER.token_budget:
                budgets -= 1
                in_group = 0
                if not budgets:
                    break
            in_group += 1
            end += 1
        taken, self.rows[start:end] = self.rows[start:end], []
        return [(number, index) for _, _, number, index in taken]


@pytest.mark.parametrize("seed", range(20))
async def test_rows_are_taken_in_the_order_of_turns_and_lengths(seed: int) -> None:
    """Whatever comes, goes and is taken meanwhile."""
    generator = random.Random(seed)
    pool, reference = RowPool(ENCODER, InputType.PASSAGE), Reference()
    numbers: dict[Batch, int] = {}
    for number in range(400):
        choice = generator.random()
        if choice < 0.4:
            # Some turns are equal, and not all later than those of who came before.
            lengths = [generator.randrange(1, 13) for _ in range(generator.randrange(1, 12))]
            turn = number + generator.randrange(0, 40)
            reference.add(turn, number, lengths)
            numbers[add(pool, turn, *lengths)] = number
        elif choice < 0.5 and numbers:
            batch = generator.choice(list(numbers))
            pool.discard(batch)
            reference.discard(numbers.pop(batch))
        elif pool:
            budgets = generator.randrange(1, 4)
            assert pool.turn == min(turn for _, turn, *_ in reference.rows)
            assert [(numbers[row.batch], row.index) for row in pool.take(budgets)] == reference.take(budgets)
        assert len(pool) == len(reference.rows)


async def test_what_is_taken_costs_the_same_however_many_wait() -> None:
    """It happens on the event loop, for every request: at 30,000 rows it took 6 ms."""

    async def steps(batch_count: int) -> int:
        pool = RowPool(ENCODER, InputType.PASSAGE)
        for turn in range(batch_count):
            add(pool, turn, *(1 + index % 12 for index in range(64)))
        taken = 0

        def count(*_: Any) -> None:
            nonlocal taken
            taken += 1

        sys.setprofile(count)
        for _ in range(20):
            assert pool.turn >= 0
            pool.take(2)
        sys.setprofile(None)
        return taken

    assert await steps(400) < 2 * await steps(40)


async def test_what_was_discarded_is_not_kept() -> None:
    """Callers may come and go for as long as one long row waits."""
    pool = RowPool(ENCODER, InputType.PASSAGE)
    add(pool, 0, 12)
    for turn in range(1, 100):
        pool.discard(add(pool, turn, *range(1, 12)))
    assert sum(len(alike) for alike in pool._by_length.values()) <= 13
    assert len(pool._batches) <= 2
    assert len(pool) == 1
