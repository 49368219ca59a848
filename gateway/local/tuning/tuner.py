"""The order in which settings are measured, and what is made of it."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from gateway.embedding.space import Space
from gateway.errors import StartupError
from gateway.local.claim import claim_data_dir
from gateway.local.tuning.bench import Bench
from gateway.local.tuning.choice import TOKEN_BUDGETS, Choice, Measured, Settings, choose, finalists, layouts, unique
from gateway.local.tuning.scratch import Flavour, ScratchRepository
from gateway.local.tuning.workload import find_passages, tokenize

FINALISTS = 3
"""Settings that are measured again, those in use among them."""
_AGAIN = 2  # times as long
_WORK = "tune-"
BUSY_LOAD = 0.5
"""Load a core above which figures are not to be trusted."""
OnStep = Callable[[str, int, int], None]
"""Told what is measured, the how manieth step it is, and of how many."""


@dataclass(frozen=True)
class TuneRequest:
    """What to measure.

    Attributes:
        data_dir: The data directory, whose service must not run meanwhile.
        repository: The published models.
        encoders: Code encoder and text encoder.
        source: Code to measure with; None for the standard library.
        interactive_ms: Most milliseconds of a short text beside bulk work, at the 95th percentile.
        seconds: How long bulk work of each settings takes, about.
        threads: Threads to try; empty for what the cores suggest.
        token_budgets: Token budgets to try; empty for the usual ones.
        compare_runtimes: Whether to measure other runtimes and precisions as well.
    """

    data_dir: Path
    repository: Path
    encoders: tuple[str, str]
    source: Path | None = None
    interactive_ms: float = 250.0
    seconds: float = 5.0
    threads: tuple[int, ...] = ()
    token_budgets: tuple[int, ...] = ()
    compare_runtimes: bool = True


@dataclass(frozen=True)
class FlavourRow:
    """A runtime and precision, and how fast they are by the chosen settings."""

    flavour: Flavour
    measured: Measured


@dataclass(frozen=True)
class TuneResult:
    """What was measured.

    Attributes:
        cores: Cores that could be used.
        load: Load of the machine over the minute before.
        chunks: Distinct chunks of code.
        tokens_per_chunk: Tokens of both encoders, mean.
        current: The settings in use before.
        rows: What was measured of each settings last.
        choice: What was chosen.
        flavours: The served runtime and precision first, then the others; empty where none were to be compared.
        flavour: The one of them that is recommended; None where the served one is as good.
    """

    cores: int
    load: float
    chunks: int
    tokens_per_chunk: float
    current: Settings
    rows: tuple[Measured, ...]
    choice: Choice
    flavours: tuple[FlavourRow, ...]
    flavour: Flavour | None


async def tune(request: TuneRequest, *, on_step: OnStep = lambda what, done, total: None) -> TuneResult:
    """Measure, and change nothing.

    Raises:
        StartupError: The service runs, the models cannot be had, Triton does not start, or no settings work.
    """
    # A service on it would be measured along.
    with claim_data_dir(request.data_dir), _work_dir(request.data_dir) as work_dir:
        code, text = request.encoders
        space = Space.load(request.repository, code_encoder=code, text_encoder=text)
        scratch = await asyncio.to_thread(ScratchRepository, request.repository, request.encoders, work_dir / "models")
        load = os.getloadavg()[0]
        on_step("chunk and tokenize", 0, 1)
        passages = await asyncio.to_thread(find_passages, request.source)
        workload = await tokenize(space, passages)
        async with Bench(scratch, space, workload, work_dir=work_dir) as bench:
            rows, choice, flavours = await _Course(request, scratch, bench, on_step).run()
    return TuneResult(
        cores=_cores(),
        load=load,
        chunks=len(passages),
        tokens_per_chunk=workload.tokens_per_chunk,
        current=scratch.served_settings,
        rows=tuple(rows),
        choice=choice,
        flavours=tuple(flavours),
        flavour=recommended(flavours, bound_ms=choice.bound_ms),
    )


class _Course:
    """One course of measurements: layouts, token budgets, the best of them again, then runtimes."""

    def __init__(self, request: TuneRequest, scratch: ScratchRepository, bench: Bench, on_step: OnStep) -> None:
        self._request, self._scratch, self._bench, self._on_step = request, scratch, bench, on_step
        self._current = scratch.served_settings
        self._measured: dict[Settings, Measured] = {}
        self._done = 0
        self._total = 1

    async def run(self) -> tuple[list[Measured], Choice, list[FlavourRow]]:
        flavours = self._scratch.flavours[1:] if self._request.compare_runtimes else []
        budgets = self._request.token_budgets or TOKEN_BUDGETS
        first = self._layouts()
        self._total = 1 + len(first) + len(budgets) + FINALISTS + len(flavours)
        self._step("find out how much to measure")
        await self._bench.calibrate(self._current, seconds=self._request.seconds)
        await self._measure_all(first)
        best = self._choose().chosen.settings
        tried = unique([Settings(best.instances, best.num_threads, budget) for budget in budgets])
        await self._measure_all([one for one in tried if one not in self._measured])
        rows = list(self._measured.values())
        again = finalists(rows, self._current, bound_ms=self._request.interactive_ms, count=FINALISTS)
        await self._measure_all(again, times=_AGAIN)
        # Only what was measured as long as the others is compared with them.
        choice = self._choose(again)
        return list(self._measured.values()), choice, await self._flavours(choice.chosen, flavours)

    def _layouts(self) -> list[Settings]:
        budget = self._current.token_budget
        if self._request.threads:
            found = [Settings(1, threads, budget) for threads in self._request.threads]
        else:
            free, weights = psutil.virtual_memory().available, max(1, self._scratch.weights_bytes())
            # Loaded, compiled and running, an encoder takes up to three times what its file does.
            room = max(1, int(free / (3 * weights)))
            found = [Settings(one, threads, budget) for one, threads in layouts(_cores(), room=room)]
        return unique([self._current, *found])

    async def _measure_all(self, some: Sequence[Settings], *, times: int = 1) -> None:
        for settings in some:
            again = " again" if settings in self._measured else ""
            self._step(f"{describe(settings)}{again}")
            self._measured[settings] = await self._bench.measure(settings, times=times)

    async def _flavours(self, chosen: Measured, others: Sequence[Flavour]) -> list[FlavourRow]:
        if not others:
            return []
        rows = [FlavourRow(self._scratch.flavours[0], chosen)]
        for number, flavour in enumerate(others, start=2):
            self._step(f"{flavour.runtime} {flavour.precision}")
            rows.append(FlavourRow(flavour, await self._bench.measure(chosen.settings, number=number)))
        return rows

    def _choose(self, among: Sequence[Settings] | None = None) -> Choice:
        rows = [row for settings, row in self._measured.items() if among is None or settings in among]
        choice = choose(rows, self._current, bound_ms=self._request.interactive_ms)
        if choice is None:
            problem = rows[0].problem or f"vectors move by {rows[0].moved:.1e}, the gate allows {rows[0].may_move:.1e}"
            raise StartupError(f"no settings work: {problem}; check the models: duovec doctor")
        return choice

    def _step(self, what: str) -> None:
        self._on_step(what, self._done, self._total)
        self._done += 1


def describe(settings: Settings) -> str:
    """Settings in words."""
    threads = f"{settings.num_threads} thread{'s' if settings.num_threads > 1 else ''}"
    instances = f"{settings.instances} instances, " if settings.instances > 1 else ""
    return f"{instances}{threads}, {settings.token_budget} tokens"


def recommended(rows: Sequence[FlavourRow], *, bound_ms: float) -> Flavour | None:
    """A runtime and precision worth another space: a tenth faster than the served one, and as quick to answer."""
    sound = [row for row in rows if row.measured.is_sound and row.measured.interactive_ms <= bound_ms]
    if not rows or not sound:
        return None
    best = max(sound, key=lambda row: row.measured.chunks_per_s)
    served = rows[0]
    return best.flavour if best.measured.chunks_per_s > 1.1 * served.measured.chunks_per_s else None


def write(request: TuneRequest, settings: Settings) -> None:
    """Have the exporter write settings into config.pbtxt of both encoders, which is its own.

    Raises:
        StartupError: It refuses; the last line of what it said.
    """
    command = [str(Path(sys.executable).with_name("duovec-export")), "configure"]
    for encoder in request.encoders:
        command += ["--encoder", encoder]
    command += ["--repository", str(request.repository), "--threads", str(settings.num_threads)]
    command += ["--token-budget", str(settings.token_budget), "--instances", str(settings.instances)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError as exc:
        raise StartupError(f"duovec-export does not run ({exc.strerror}): pip install 'duovec[export]'") from exc
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise StartupError(f"the settings were not written: {said}; by hand: {' '.join(command)}")


@contextlib.contextmanager
def _work_dir(data_dir: Path) -> Iterator[Path]:
    for left in data_dir.glob(f"{_WORK}*"):  # by one that was killed
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=_WORK, dir=data_dir) as name:
        yield Path(name)


def _cores() -> int:
    return len(os.sched_getaffinity(0))
