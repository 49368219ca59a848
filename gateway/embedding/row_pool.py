"""Rows that wait for an encoder, and which of them go next."""

import asyncio
import contextvars
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import count

import numpy as np
from numpy.typing import NDArray

from gateway.embedding.space import Encoder, InputType


@dataclass(eq=False, slots=True)
class Batch:
    """What one caller waits for; whose turn is earliest goes first.

    Attributes:
        rows: Its rows that wait, longest first; also some that do not any more.
    """

    vectors_BD: NDArray[np.float32]
    left: int
    turn: float
    deadline: float
    begun: asyncio.Future[None]
    done: asyncio.Future[None]
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    rows: "list[Row]" = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Row:
    """One row of a batch; it waits until it is taken, or its batch is discarded."""

    ids_T: NDArray[np.int64]
    batch: Batch
    index: int
    waits: bool = True


class RowPool:
    """Rows that wait for one version of an encoder with one task, by length.

    Each time the batch whose turn it is goes on, from its shortest row, and the rows of others that are as long or a
    little longer go with it: neighbours in length make micro-batches with little padding.

    What is taken costs the same whatever else waits: rows of one length are a heap by their turns, and so are the
    batches. Rows that were discarded stay in their heaps until they come up, or are more than those that wait.
    """

    def __init__(self, encoder: Encoder, input_type: InputType) -> None:
        self.encoder = encoder
        self.input_type = input_type
        self._number = count()
        self._batches: list[tuple[float, int, Batch]] = []
        self._by_length: dict[int, list[tuple[float, int, Row]]] = {}
        self._lengths: list[int] = []
        self._waiting_count = 0
        self._discarded_count = 0

    def __len__(self) -> int:
        return self._waiting_count

    @property
    def turn(self) -> float:
        """The earliest of its batches."""
        return self._first().turn

    def add(self, rows: Sequence[NDArray[np.int64]], batch: Batch) -> None:
        """Let the rows of a batch wait."""
        for index, ids_T in enumerate(rows):
            row = Row(ids_T, batch, index)
            length = len(ids_T)
            if length not in self._by_length:
                self._by_length[length] = []
                insort(self._lengths, length)
            heappush(self._by_length[length], (batch.turn, next(self._number), row))
            batch.rows.append(row)
        batch.rows.sort(key=_length, reverse=True)
        heappush(self._batches, (batch.turn, next(self._number), batch))
        self._waiting_count += len(rows)

    def discard(self, batch: Batch) -> None:
        """Forget what still waits of a batch."""
        for row in batch.rows:
            if row.waits:
                row.waits = False
                self._waiting_count -= 1
                self._discarded_count += 1
        batch.rows.clear()
        if self._discarded_count > self._waiting_count:
            self._sweep()

    def take(self, budgets: int) -> list[Row]:
        """Take the rows of so many micro-batches, cut as the backend cuts them: what is over would make a small one."""
        taken: list[Row] = []
        in_group = 0
        at = bisect_left(self._lengths, _length(self._first().rows[-1]))
        while at < len(self._lengths) and len(taken) < self.encoder.max_batch_size:
            length = self._lengths[at]
            alike = self._by_length[length]
            row = alike[0][2]
            if row.waits:
                if in_group and (in_group + 1) * length > self.encoder.token_budget:
                    budgets -= 1
                    in_group = 0
                    if not budgets:
                        break
                in_group += 1
                row.waits = False
                self._waiting_count -= 1
                taken.append(row)
            else:
                self._discarded_count -= 1
            heappop(alike)
            if not alike:
                del self._by_length[length], self._lengths[at]
        return taken

    def _first(self) -> Batch:
        """The batch whose turn it is; the last of its `rows` waits."""
        while True:
            batch = self._batches[0][2]
            while batch.rows and not batch.rows[-1].waits:
                batch.rows.pop()
            if batch.rows:
                return batch
            heappop(self._batches)

    def _sweep(self) -> None:
        waiting = {length: [entry for entry in alike if entry[2].waits] for length, alike in self._by_length.items()}
        self._by_length = {length: alike for length, alike in waiting.items() if alike}
        for alike in self._by_length.values():
            heapify(alike)
        self._lengths = sorted(self._by_length)
        self._batches = [entry for entry in self._batches if entry[2].rows]
        heapify(self._batches)
        self._discarded_count = 0


def _length(row: Row) -> int:
    return len(row.ids_T)
