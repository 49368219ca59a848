"""Feedback: what callers made of the hits that they were shown."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from gateway.errors import ChunkNotFound, DatabaseUnavailable, InvalidInput, SearchNotFound
from gateway.store.caller import current_key_id
from gateway.store.pool import Database
from gateway.store.queries import load_queries
from gateway.store.search_log import SearchLog

# A search is written a tenth of a second after its reply; longer, and the database is not taking it.
_LOG_TIMEOUT_S = 2.0

_QUERIES = load_queries("feedback.sql")


@dataclass(frozen=True, slots=True)
class Said:
    """What was said of one hit.

    Attributes:
        opened: Whether it was looked at.
        useful: None where nothing was said about that.
        item: Index of the first item of the request that is about it, for the error's field.
    """

    opened: bool = False
    useful: bool | None = None
    item: int = 0


class FeedbackStore:
    """Records feedback on the caller's own searches."""

    def __init__(self, database: Database, log: SearchLog | None) -> None:
        """Use `database` for every call; `log` is this gateway's, None where it keeps none."""
        self._database = database
        self._log = log

    async def record(self, search_id: UUID, said: Mapping[int, Said], *, timeout_s: float) -> None:
        """Record what was said of hits, all or nothing; saying the same again changes nothing.

        Args:
            search_id: A search of the caller's.
            said: What was said, by chunk id.
            timeout_s: Deadline, seconds.

        Raises:
            SearchNotFound: There is no such search, or it is not the caller's, or the caller may not read any of its
                codebases any more.
            InvalidInput: A chunk was not among the hits of the first page.
            ChunkNotFound: A chunk is not among the hits that the caller may still see, but others were.
            DatabaseUnavailable: The search is not in the log yet, for the database does not take it; safe to repeat.
        """
        if self._log is not None:
            await self._log.wait_for(search_id, timeout_s=min(_LOG_TIMEOUT_S, timeout_s))
        async with self._database.acquire(timeout_s) as connection:
            records = await connection.fetch(_QUERIES["find_shown"], search_id)
            if not records:
                if self._log is not None and self._log.is_waiting(search_id, current_key_id()):
                    raise DatabaseUnavailable("the search is not in the log yet, try again")
                raise SearchNotFound(f"search {search_id} is not in the log, or is not one of yours")
            shown = {record["chunk_id"]: record for record in records if record["chunk_id"] is not None}
            for chunk_id, one in said.items():
                if chunk_id in shown:
                    continue
                if len(shown) < records[0]["hit_count"]:
                    raise ChunkNotFound(f"chunk {chunk_id} is not among the hits of this search that you may still see")
                raise InvalidInput(
                    f"items[{one.item}].chunk_id", f"is {chunk_id}, which the search's first page did not show"
                )
            await connection.execute(
                _QUERIES["record_feedback"],
                records[0]["search_key"],
                [shown[chunk_id]["codebase_key"] for chunk_id in said],
                list(said),
                [shown[chunk_id]["content_sha256"] for chunk_id in said],
                [shown[chunk_id]["rank"] for chunk_id in said],
                [shown[chunk_id]["codebase_rank"] for chunk_id in said],
                [one.opened for one in said.values()],
                [one.useful for one in said.values()],
            )
