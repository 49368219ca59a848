"""How common words are in large codebases, so that a search need not find out."""

from gateway.store.pool import Database
from gateway.store.queries import load_queries
from gateway.store.search_plan import EXACT_LIMIT
from gateway.store.search_words import LEAST_COUNT

_QUERIES = load_queries("word_counts.sql")


class WordCounts:
    """Keeps the counts up to date, roughly: they weigh words, and what is a fifth off weighs almost the same."""

    def __init__(self, database: Database) -> None:
        """Use `database`, which must see every codebase."""
        self._database = database

    async def refresh(
        self, *, above_chunk_count: int = EXACT_LIMIT, least_count: int = LEAST_COUNT, timeout_s: float = 3600
    ) -> list[int]:
        """Count the words of the large codebases that changed much since they were counted. Repeating it is harmless.

        Args:
            above_chunk_count: Codebases with more chunks than this are counted.
            least_count: Words in fewer chunks are left out.
            timeout_s: Deadline, seconds.

        Returns:
            The keys of the codebases that were counted.
        """
        async with self._database.acquire(timeout_s, autocommit=True) as connection:
            due = await connection.fetch(_QUERIES["list_due"], above_chunk_count)
            for record in due:
                async with connection.transaction():
                    await connection.execute(_QUERIES["forget"], record["codebase_key"])
                    await connection.execute(
                        _QUERIES["count"], record["codebase_key"], least_count, record["chunk_count"]
                    )
        return [record["codebase_key"] for record in due]
