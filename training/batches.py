"""Batches of rows that make each other hard: several of one package, of similar length, and nothing twice.

In-batch negatives from the package of the query are what a search confuses; similar lengths save some padding; a
definition that stands twice in a batch would be its own negative.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from sentence_transformers.base.sampler import DefaultBatchSampler

from training.dataset import Row
from training.errors import TrainingError

_WINDOW = 16  # batches whose rows are sorted together: enough to save padding, few enough to keep batches mixed


class PackageBatchSampler(DefaultBatchSampler):
    """Draws batches by seed and epoch.

    Args:
        dataset: Columns of texts, and `row`.
        rows: The rows, in the order of the data set.
        run: How many rows of one package come together; 1 mixes all.
        processes: How many share a step. Batches are formed for all of them and then dealt out, so that a step sees
            the same rows whether one process takes them or several.
        arguments: Those of DefaultBatchSampler; `batch_size` is that of one process.
    """

    def __init__(
        self, dataset: Any, *, rows: Sequence[Row], run: int = 1, processes: int = 1, **arguments: Any
    ) -> None:
        super().__init__(dataset, **arguments)
        names = [name for name in dataset.column_names if name not in ("row", "query", "positive")]
        own = zip((row.unit for row in rows), dataset["query"], dataset["positive"], strict=True)
        self._own = [frozenset(hash(text) for text in texts if text) for texts in own]
        self._wrong = [frozenset(map(hash, texts)) for texts in zip(*(dataset[name] for name in names), strict=True)]
        self._wrong = self._wrong or [frozenset()] * len(self._own)
        # Negatives are passages as they were mined, also of a row whose own passage loses its name.
        self._answers = [own | {hash(row.positive)} for own, row in zip(self._own, rows, strict=True)]
        self._lengths = [len(text) for text in dataset["positive"]]
        self._packages = [row.package for row in rows]
        self._run = run
        self._processes = processes

    def __len__(self) -> int:
        return len(self._own) // (self.batch_size * self._processes) * self._processes

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        step, wanted = self.batch_size * self._processes, len(self) // self._processes
        batches: list[list[int]] = []
        while len(batches) < wanted:  # rows that clash with all others are left over: a few come twice instead
            before = len(batches)
            self._pass(generator, step, batches)
            if len(batches) == before:
                raise TrainingError(
                    f"the {len(self._own)} rows give no batch of {step} without a definition or text twice; "
                    "mine more code, or lower optimizer.batch"
                )
        del batches[wanted:]
        for number in torch.randperm(len(batches), generator=generator).tolist():
            for start in range(0, step, self.batch_size):
                yield batches[number][start : start + self.batch_size]

    def _pass(self, generator: torch.Generator, step: int, batches: list[list[int]]) -> None:
        """Once through the rows, in windows of runs; what a window leaves over goes into the next."""
        runs = self._runs(generator)
        order = torch.randperm(len(runs), generator=generator).tolist()
        window = max(1, step * _WINDOW // self._run)
        left: list[int] = []
        for start in range(0, len(order), window):
            chosen = [runs[number] for number in order[start : start + window]] + [[row] for row in left]
            chosen.sort(key=lambda run: sum(self._lengths[row] for row in run) / len(run))
            left = self._fill([row for run in chosen for row in run], step, batches)

    def _runs(self, generator: torch.Generator) -> list[list[int]]:
        """Rows of one package and similar length; those that fill no run are runs of one."""
        packages: dict[str, list[int]] = {}
        for row in torch.randperm(len(self._own), generator=generator).tolist():
            packages.setdefault(self._packages[row], []).append(row)
        runs = []
        for rows in packages.values():
            whole = len(rows) // self._run * self._run
            runs += [[row] for row in rows[whole:]]
            span = self._run * _WINDOW
            for start in range(0, whole, span):
                near = sorted(rows[start : min(start + span, whole)], key=lambda row: self._lengths[row])
                runs += [near[place : place + self._run] for place in range(0, len(near), self._run)]
        return runs

    def _fill(self, rows: list[int], step: int, batches: list[list[int]]) -> list[int]:
        """Cut a window into whole batches; gives the rows that are left over."""
        while len(rows) >= step:
            batch: list[int] = []
            waiting: list[int] = []
            seen: set[int] = set()
            answers: set[int] = set()
            wrong: set[int] = set()
            for place, row in enumerate(rows):
                if len(batch) == step:
                    waiting += rows[place:]
                    break
                # Negatives may be shared; one that is another row's answer would be wrong for that row.
                fits = self._answers[row].isdisjoint(wrong) and self._wrong[row].isdisjoint(answers)
                if fits and self._own[row].isdisjoint(seen):
                    batch.append(row)
                    seen |= self._own[row]
                    answers |= self._answers[row]
                    wrong |= self._wrong[row]
                else:
                    waiting.append(row)
            if len(batch) < step:
                break
            batches.append(batch)
            rows = waiting
        return rows
