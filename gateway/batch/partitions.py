"""What a job works through: partitions, each a slice of a repository or a row group of a Parquet file."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import grpc
import pyarrow as pa
import pyarrow.fs as pa_fs
import pyarrow.parquet as pq

from gateway.batch.places import find_place
from gateway.client.chunking import DEFAULT_MAX_CHARS
from gateway.client.errors import ClientError
from gateway.client.files import FileTree, SkippedFile, find_files, read_source, source_of, unusable_name

FILES_PER_PARTITION = 200


@dataclass(frozen=True, slots=True)
class Columns:
    """Where a Parquet file has what is indexed.

    Attributes:
        path: Of the file, text.
        content: Of the file, text or bytes.
        codebase: Id of the codebase; None where all rows go to one.
    """

    path: str = "path"
    content: str = "content"
    codebase: str | None = None


@dataclass(frozen=True, slots=True)
class Partition:
    """What is read, sent and remembered as a whole.

    Attributes:
        place: A folder, or the path of a Parquet file in its file system.
        codebase_id: Where it goes; empty where a column says so.
        state: What tells this content from that of another day: sizes and times.
        paths: Files of the folder; empty for a Parquet file.
        row_group: Of the Parquet file.
        columns: Of the Parquet file.
        max_chars: Longest chunk, characters.
        source: Path or URI that the file system of a Parquet file is found by, with its endpoint and its keys.
    """

    place: str
    codebase_id: str
    state: tuple[str, ...]
    paths: tuple[str, ...] = ()
    row_group: int = 0
    columns: Columns | None = None
    max_chars: int = DEFAULT_MAX_CHARS
    source: str = ""

    @property
    def id(self) -> str:
        """32 hex digits, by everything above but the source: its keys change, and what is done stays done."""
        return hashlib.sha256(replace(self, source="").to_json().encode()).hexdigest()[:32]

    def to_json(self) -> str:
        """As it travels to the nodes."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Partition":
        """Read what `to_json` wrote."""
        table = json.loads(text)
        columns = Columns(**table.pop("columns")) if table["columns"] else table.pop("columns")
        return cls(
            **{**table, "state": tuple(table["state"]), "paths": tuple(table["paths"])},
            columns=columns,
        )

    def files(self) -> Iterator[tuple[str, str, bytes | SkippedFile]]:
        """Read it: codebase, path and content of each file or row in their order, or why it is skipped."""
        if self.columns is None:
            tree = FileTree(Path(self.place), list(self.paths))
            for path in self.paths:
                yield self.codebase_id, path, read_source(tree, path)
            return
        with _open(self.source, self.place) as parquet:
            wanted = [self.columns.path, self.columns.content, *filter(None, [self.columns.codebase])]
            rows = parquet.read_row_group(self.row_group, columns=wanted)
        paths, contents = _bytes_of(rows[self.columns.path]), _bytes_of(rows[self.columns.content])
        codebases = _bytes_of(rows[self.columns.codebase]) if self.columns.codebase else None
        for row, (name, content) in enumerate(zip(paths, contents, strict=True)):
            # A row without a path or a codebase must not be stored under the word None: the gateway refuses it. So it
            # does where a codebase is not UTF-8; a path that is not is skipped, as that of a file.
            codebase_id = self.codebase_id if codebases is None else (codebases[row] or b"").decode("utf-8", "replace")
            path = (name or b"").decode("utf-8", "surrogateescape")
            reason = unusable_name(path)
            yield codebase_id, path, SkippedFile(path, reason) if reason else source_of(path, content or b"")


def _bytes_of(column: pa.ChunkedArray) -> list[bytes | None]:
    """The values of a column. Of text, too: Parquet promises that it is UTF-8, and nothing holds those who write it."""
    if pa.types.is_primitive(column.type):
        column = column.cast(pa.string())
    values: list[bytes | None] = column.cast(pa.large_binary()).to_pylist()
    return values


def plan(
    sources: Sequence[str],
    codebase_id: str,
    *,
    columns: Columns,
    files_per_partition: int = FILES_PER_PARTITION,
    max_chars: int = DEFAULT_MAX_CHARS,
) -> list[Partition]:
    """Cut sources into partitions; a file that changes changes only the id of its own.

    Args:
        sources: Folders, which every node must see under the same path; Parquet files or folders of such, by URI
            (s3://, gs://, file://) or by a path that ends in `.parquet`.
        codebase_id: Of folders, and of Parquet files without a column for it.
        columns: Of the Parquet files.
        files_per_partition: Of a folder.
        max_chars: Longest chunk, characters.

    Raises:
        FileNotFoundError: A source does not exist.
        ClientError: A Parquet file lacks a column, a URI is of nothing that is known, or two folders have different
            files of one path. Of Parquet files only the rows of one group are compared, when they are read.
    """
    found: list[Partition] = []
    for source in sources:
        if "://" in source or source.endswith(".parquet"):
            found += _of_parquet(source, codebase_id, columns, max_chars)
        else:
            found += _of_folder(Path(source), codebase_id, files_per_partition, max_chars)
    _check_folders(found)
    return found


def _check_folders(partitions: Sequence[Partition]) -> None:
    """Refuse two files of one path: whichever were stored last, the other's chunks would be deleted."""
    folders: dict[str, str] = {}
    for partition in partitions:
        for path in partition.paths:
            first, second = folders.setdefault(path, partition.place), partition.place
            if first != second and _differ(*(read_source(FileTree(Path(folder)), path) for folder in (first, second))):
                raise ClientError(
                    f"{first}/{path} and {second}/{path} differ, and are one path in codebase "
                    f"{partition.codebase_id!r}; index their folders into a codebase each",
                    code=grpc.StatusCode.INVALID_ARGUMENT,
                )


def _differ(first: bytes | SkippedFile, second: bytes | SkippedFile) -> bool:
    # One that cannot be read fails its partition.
    return first != second and not any(
        isinstance(one, SkippedFile) and one.reason == "unreadable" for one in (first, second)
    )


def _of_folder(root: Path, codebase_id: str, size: int, max_chars: int) -> Iterator[Partition]:
    tree = find_files(root)
    # What could not be looked at here is planned as well: reading it fails, and tells so.
    paths = [*tree.paths, *(skipped.path for skipped in tree.skipped if skipped.reason == "unreadable")]
    for start in range(0, len(paths), size):
        states = dict(_states_of(tree.folder, paths[start : start + size]))
        if states:
            yield Partition(str(tree.folder), codebase_id, tuple(states.values()), tuple(states), max_chars=max_chars)


def _states_of(folder: Path, paths: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Give each path with size and time, but for those that are gone since the walk."""
    for path in paths:
        try:
            state = (folder / path).lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            yield path, "unreadable"
        else:
            yield path, f"{state.st_size}:{state.st_mtime_ns}"


def _of_parquet(source: str, codebase_id: str, columns: Columns, max_chars: int) -> Iterator[Partition]:
    system, path = find_place(source)
    info = system.get_file_info(path)
    if info.type == pa_fs.FileType.NotFound:
        raise FileNotFoundError(f"{source} does not exist")
    infos = [info]
    if info.type == pa_fs.FileType.Directory:
        selected = system.get_file_info(pa_fs.FileSelector(path, recursive=True))
        infos = sorted((one for one in selected if one.path.endswith(".parquet")), key=lambda one: one.path)
    for one in infos:
        with _open(source, one.path) as parquet:
            names, group_count = set(parquet.schema_arrow.names), parquet.num_row_groups
        missing = {columns.path, columns.content, *filter(None, [columns.codebase])} - names
        if missing:
            raise ClientError(
                f"{one.path} has no column {', '.join(sorted(missing))}; it has {', '.join(sorted(names))}",
                code=grpc.StatusCode.INVALID_ARGUMENT,
            )
        for group in range(group_count):
            yield Partition(
                one.path,
                codebase_id,
                (f"{one.size}:{one.mtime_ns}",),
                row_group=group,
                columns=columns,
                max_chars=max_chars,
                source=source,
            )


def _open(source: str, path: str) -> pq.ParquetFile:
    system, _ = find_place(source)
    return pq.ParquetFile(system.open_input_file(path))
