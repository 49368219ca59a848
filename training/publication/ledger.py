"""What a publication has done so far, in PostgreSQL: it is asked before every step and told after it."""

import asyncio
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import asyncpg

from training.database import CONNECT_TIMEOUT_S, DatabaseAway, load_queries, translate_failures
from training.errors import TrainingError
from training.publication.unfinished import Unfinished

STEPS = ("evaluate", "export", "build_space", "reembed", "activate")
_TIMEOUT_S, _POLL_S = 30.0, 0.5

_QUERIES = load_queries("training.publication", "ledger.sql")


@dataclass(frozen=True)
class RunClaim:
    """The queued run that is published for; its number is refused once another worker has claimed it."""

    run_id: int
    attempt: int


@dataclass
class Publication:
    """A row of training_publications; `steps` holds what each finished step found."""

    publication_id: int
    state: str
    error: str
    steps: dict[str, Any] = field(default_factory=dict)


class Ledger:
    """A connection of its own that holds the turn: while it lives no other publication goes on.

    Every method raises TrainingError when the database is away; nothing was begun then that is not recorded.
    """

    def __init__(self, url: str, claim: RunClaim | None = None) -> None:
        """Args: url: The account that owns the gateway's tables. claim: The run that is published for."""
        self._url = url
        self._claim = claim
        self._loop = asyncio.new_event_loop()
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    def __enter__(self) -> Self:
        """Connect."""
        try:
            with _unfinished_when_away(self._url):
                self._connection = self._loop.run_until_complete(
                    asyncpg.connect(self._url, timeout=CONNECT_TIMEOUT_S, command_timeout=_TIMEOUT_S)
                )
        except TrainingError:
            self._loop.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect, which gives the turn back."""
        if self._connection is not None:
            self._connection.terminate()
            # What terminate() has begun ends in the loop.
            self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    @property
    def has_claim(self) -> bool:
        """Whether it is a queued run that is published for."""
        return self._claim is not None

    def take_turn(self, *, wait_s: float = 0.0) -> None:
        """Wait until no other publication is under way.

        Raises:
            TrainingError: One is, after `wait_s`.
        """
        until = time.monotonic() + wait_s
        while not self._fetch("take_turn")["pg_try_advisory_lock"]:
            if time.monotonic() >= until:
                raise TrainingError("another publication is under way on this database; run this again when it ended")
            time.sleep(_POLL_S)

    def find(self, inputs: Mapping[str, Any]) -> Publication | None:
        """The publication of exactly these inputs."""
        row = self._query("find_publication", digest_of(inputs))
        return None if row is None else _publication(row)

    def begin(self, inputs: Mapping[str, Any], lineage: Mapping[str, Any]) -> Publication:
        """Add a publication, or go on with it."""
        run_id = self._claim.run_id if self._claim else None
        return _publication(self._fetch("begin_publication", digest_of(inputs), run_id, json.dumps(lineage)))

    def record(self, publication: Publication, step: str, found: Mapping[str, Any]) -> None:
        """Record a finished step; those after it are forgotten."""
        later = list(STEPS[STEPS.index(step) + 1 :])
        self._fetch("record_step", publication.publication_id, step, later, json.dumps(found))
        publication.steps = {name: one for name, one in publication.steps.items() if name not in later}
        publication.steps[step] = dict(found)

    def end(self, publication: Publication, state: str, error: str | None = None) -> None:
        """Record how it ended: SUCCEEDED, or REFUSED with the reason."""
        self._fetch("end_publication", publication.publication_id, state, error)

    def report(self, stage: str, step: int = 0, step_count: int = 0) -> None:
        """Go on only while the run is this worker's, and tell it where the work is.

        Raises:
            TrainingError: Another worker has the run, or it is to be cancelled.
        """
        if self._claim is None:
            self._fetch("take_turn")  # the connection lives, and with it the turn
            return
        row = self._query("report_progress", self._claim.run_id, self._claim.attempt, stage, step, step_count)
        if row is None:
            raise TrainingError(f"run {self._claim.run_id} is not this worker's any more; nothing more was done")
        if row["cancel_requested"]:
            raise TrainingError(f"run {self._claim.run_id} is cancelled before {stage}")

    def _fetch(self, name: str, *arguments: Any) -> Mapping[str, Any]:
        row = self._query(name, *arguments)
        if row is None:
            raise TrainingError("the record of this publication was deleted meanwhile; run the command again")
        return row

    def _query(self, name: str, *arguments: Any) -> Mapping[str, Any] | None:
        assert self._connection is not None, "use it in a `with`"  # noqa: S101
        with _unfinished_when_away(self._url):
            row = self._loop.run_until_complete(self._connection.fetchrow(_QUERIES[name], *arguments))
        return None if row is None else dict(row)


@contextmanager
def _unfinished_when_away(url: str) -> Iterator[None]:
    try:
        with translate_failures(url):
            yield
    except DatabaseAway as exc:
        raise Unfinished(
            f"the database is away ({exc}); nothing more was done, and the same command goes on where it was"
        ) from exc


def digest_of(value: Mapping[str, Any]) -> bytes:
    """SHA-256 of a JSON object, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest()


def _publication(row: Mapping[str, Any]) -> Publication:
    return Publication(row["publication_id"], row["state"], row["error"] or "", json.loads(row["steps"]))
