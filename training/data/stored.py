"""Reads units and feedback from the database of a gateway."""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import asyncpg

from gateway.client.chunking import DEFAULT_MAX_CHARS
from training.data.queries import Query
from training.data.sources import Origin, is_generated, package_in
from training.data.unit import Style, Unit, is_test_path
from training.database import CONNECT_TIMEOUT_S, DatabaseAway, load_queries, translate_failures
from training.errors import TrainingError

QUERIES = load_queries("training.data", "stored.sql")
_READ_TIMEOUT_S = 600.0


@dataclass(slots=True)
class StoredCode:
    """What a database holds for training.

    Attributes:
        units: Of all codebases that were asked for; their scope is the codebase.
        feedback: What people found useful, by the key of the unit; its negatives are keys of units that they did not.
        origins: The codebases.
    """

    units: list[Unit] = field(default_factory=list)
    feedback: dict[str, list[Query]] = field(default_factory=dict)
    origins: list[Origin] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Chunk:
    chunk_id: int
    path: str
    language: str
    symbol: str
    kind: str
    start_line: int
    end_line: int
    content: str


async def read_stored(
    url: str, codebases: Sequence[str], *, principal: str | None, by_codebase: bool, counts: Counter[str]
) -> StoredCode:
    """Read codebases in one transaction that changes nothing.

    Args:
        url: `postgresql://user:password@host:port/database`; the account that owns the gateway's tables.
        codebases: Their ids; every one that may be read if empty.
        principal: Read only what this principal may, and only this principal's own feedback; None for the system.
        by_codebase: A codebase is one package. Otherwise it has packages, as a source tree has.
        counts: Is told what was read and left out.

    Raises:
        TrainingError: The database cannot be read, or a codebase or the principal is not in it.
    """
    stored = StoredCode()
    async with snapshot(url) as database:
        if principal is not None and not await database.fetch(QUERIES["become_caller"], principal):
            raise TrainingError(f"--principal {principal}: no such principal; run: duovec principal list")
        found = await database.fetch(QUERIES["find_codebases"], list(codebases))
        _require(codebases, [one["codebase_id"] for one in found], principal)
        chunks: dict[str, list[_Chunk]] = {}
        for one in found:
            rows = await database.fetch(QUERIES["list_chunks"], one["codebase_key"])
            chunks[one["codebase_id"]] = [_Chunk(**row) for row in rows]
        # No request reads back what people searched for; which of it is taken is up to the query.
        await database.fetch(QUERIES["become_system"])
        judged = await database.fetch(QUERIES["list_feedback"], [one["codebase_key"] for one in found], principal)
    wanted = {row["chunk_id"] for row in judged}
    by_chunk: dict[int, str] = {}
    for codebase, own in chunks.items():
        stored.origins.append(Origin(codebase, ""))
        for unit in units_of(codebase, own, wanted=wanted, by_codebase=by_codebase, counts=counts):
            stored.units.append(unit)
            by_chunk.update((int(row.removeprefix("chunk:")), unit.key) for row in unit.rows)
    stored.feedback = _feedback([dict(row) for row in judged], by_chunk, counts)
    return stored


def units_of(
    codebase: str, chunks: Sequence[_Chunk], *, wanted: set[int], by_codebase: bool, counts: Counter[str]
) -> Iterator[Unit]:
    """Make units of a codebase's chunks: a definition that was cut when it was indexed is one again.

    Args:
        codebase: Its id.
        chunks: In the order of paths and lines.
        wanted: Chunks that make a unit even where they are no definition: somebody judged them.
        by_codebase: As in `read_stored`.
        counts: Is told the chunks read, and those of generated files.
    """
    paths = sorted({chunk.path for chunk in chunks})
    holding = (str(PurePosixPath(path).parent) for path in paths)
    code_folders = frozenset("" if one == "." else one for one in holding if not is_test_path(f"{one}/x"))
    by_path: dict[str, list[list[_Chunk]]] = defaultdict(list)
    for chunk in chunks:
        parts = by_path[chunk.path]
        if parts and _continues(parts[-1][-1], chunk):
            parts[-1].append(chunk)
        else:
            parts.append([chunk])
    counts["chunks read"] += len(chunks)
    for path, definitions in by_path.items():
        if is_generated("\n".join(chunk.content for chunk in definitions[0])):
            counts["chunks of generated or minified files"] += sum(map(len, definitions))
            continue
        package = codebase if by_codebase else package_in(path, code_folders, codebase)
        for pieces in definitions:
            first = pieces[0]
            is_definition = first.symbol != "" and first.kind != "text"
            if not is_definition and wanted.isdisjoint(chunk.chunk_id for chunk in pieces):
                continue
            yield Unit(
                package=package,
                path=f"{codebase}/{path}",
                language=first.language,
                symbol=first.symbol,
                kind=first.kind,
                start_line=first.start_line,
                end_line=pieces[-1].end_line,
                content="\n".join(chunk.content for chunk in pieces),
                rows=tuple(f"chunk:{chunk.chunk_id}" for chunk in pieces),
                scope=(codebase,),
            )


def _continues(chunk: _Chunk, later: _Chunk) -> bool:
    """Whether a chunk is the rest of a definition that was too long for one."""
    return (
        chunk.symbol == later.symbol != ""
        and chunk.kind == later.kind != "text"
        and later.start_line == chunk.end_line + 1
        and len(chunk.content) + len(later.content) > DEFAULT_MAX_CHARS
    )


def _feedback(
    judged: Sequence[Mapping[str, object]], by_chunk: Mapping[int, str], counts: Counter[str]
) -> dict[str, list[Query]]:
    """What each search found useful, with what it found useless as its negatives."""
    searches: dict[str, list[Mapping[str, object]]] = defaultdict(list)
    for row in judged:
        searches[str(row["search_id"])].append(row)
    found: dict[str, list[Query]] = defaultdict(list)
    for search_id, rows in searches.items():
        useful = {by_chunk[int(str(row["chunk_id"]))] for row in rows if row["useful"] and row["chunk_id"] in by_chunk}
        useless = {
            by_chunk[int(str(row["chunk_id"]))] for row in rows if not row["useful"] and row["chunk_id"] in by_chunk
        }
        counts["feedback on what is no unit any more"] += sum(row["chunk_id"] not in by_chunk for row in rows)
        style: Style = "feedback"
        for key in sorted(useful):
            negatives = tuple(sorted(useless - useful))
            query = Query(str(rows[0]["query_text"]), style, (f"search:{search_id}",), negatives)
            # The same words, asked again, and the same answer: one example.
            if all(query.text != other.text for other in found[key]):
                found[key].append(query)
    return dict(found)


def _require(wanted: Sequence[str], found: Sequence[str], principal: str | None) -> None:
    reader = f"that {principal} may read" if principal else "of that id"
    for codebase in wanted:
        if codebase not in found:
            raise TrainingError(f"--codebase {codebase}: the database holds no codebase {reader}; run: duovec status")
    if not found:
        raise TrainingError(f"the database holds no codebase{f' {reader}' if principal else ''}; run: duovec index")


class Snapshot:
    """One state of a database, which is read and not changed."""

    def __init__(self, url: str, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        """Args: url: For messages. connection: In a transaction."""
        self._url = url
        self._connection = connection

    async def fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """The rows that a statement gives.

        Raises:
            TrainingError: The database cannot be read.
        """
        with _reading(self._url):
            return await self._connection.fetch(statement, *arguments)


@asynccontextmanager
async def snapshot(url: str) -> AsyncIterator[Snapshot]:
    """Read in one transaction that sees one state of the database, and changes nothing.

    Raises:
        TrainingError: The database cannot be read; the message names it without the password that is in the URL. What
            the caller does with the rows is no concern of this.
    """
    with _reading(url):
        connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S, command_timeout=_READ_TIMEOUT_S)
    try:
        with _reading(url):
            await connection.transaction(isolation="repeatable_read", readonly=True).start()
        yield Snapshot(url, connection)
    finally:
        with _reading(url):
            await connection.close(timeout=CONNECT_TIMEOUT_S)  # and with it the transaction


@contextmanager
def _reading(url: str) -> Iterator[None]:
    try:
        with translate_failures(url):
            yield
    except DatabaseAway as exc:
        raise TrainingError(f"cannot read {exc}; --database-url names the gateway's database") from exc
