"""Brings a codebase on the server into line with a source tree, sending only what changed."""

from collections.abc import Collection, Iterable
from pathlib import Path

import grpc

from gateway.client.chunking import DEFAULT_MAX_CHARS
from gateway.client.client import AsyncClient, dual_function
from gateway.client.errors import ClientError
from gateway.client.files import FileTree, find_files, read_source
from gateway.client.index_run import IndexingFailed, IndexRun
from gateway.client.report import IndexReport, Progress
from gateway.client.stored_versions import StoredVersions

__all__ = ["IndexingFailed", "NothingToIndex", "index_files", "index_tree", "within"]


class NothingToIndex(ClientError):
    """The folder holds no file to index, while the codebase is not empty."""


@dual_function
async def index_tree(
    client: AsyncClient,
    root: Path,
    codebase_id: str,
    *,
    max_chars: int = DEFAULT_MAX_CHARS,
    window: int = 512,
    stall_timeout_s: float = 600.0,
    progress: Progress | None = None,
    stored: StoredVersions | None = None,
) -> IndexReport:
    """Index a folder, or one file, into a codebase, which is created where it is missing.

    Files that the server has in full are not sent. Old versions of a file are deleted once the new one is complete;
    after a folder, files that it no longer holds are deleted, too. Interrupted at any point, the next run goes on.

    Args:
        client: Where to.
        root: A folder, whose files get paths relative to it, or one file.
        codebase_id: The codebase.
        max_chars: Longest chunk, characters.
        window: Chunks at most on the way.
        stall_timeout_s: How long to wait for any reply to a chunk, seconds.
        progress: Told of what happens.
        stored: An empty dictionary, which is filled with what the server has in the end; None forgets what is done.

    Returns:
        What was done; chunks that failed one by one are in it and raise nothing.

    Raises:
        IndexingFailed: The service cannot be reached, refuses the codebase, or stops answering (a ClientError); or the
            folder holds nothing to index, while the codebase is not empty (from NothingToIndex).
        FileNotFoundError: There is no such file or folder.
    """
    async with IndexRun(
        client,
        codebase_id,
        stored=stored,
        max_chars=max_chars,
        window=window,
        stall_timeout_s=stall_timeout_s,
        progress=progress,
    ) as run:
        is_folder = await run.offload(root.is_dir)
        tree = await run.offload(find_files, root)
        await run.load_stored()
        if is_folder and run.stored and not tree.paths:
            # Far more often a wrong path than a wish to empty the codebase.
            raise NothingToIndex(
                f"{root} holds no file to index, but codebase {codebase_id!r} is not empty; delete it instead",
                code=grpc.StatusCode.FAILED_PRECONDITION,
            )
        await index_files(run, tree, gone=run.stored if is_folder else ())
    return run.report


async def index_files(run: IndexRun, tree: FileTree, *, gone: Collection[str]) -> None:
    """Send the files of a tree, and delete what is stored and not among them.

    Args:
        run: Where to; its `stored` is known.
        tree: The files.
        gone: Paths that are deleted unless the tree has them, or they could not be looked at; read at the end, so that
            it may be what is stored then.

    Raises:
        ClientError: The service failed.
    """
    run.progress.files_found(len(tree.paths))
    for skipped in tree.skipped:
        run.skip(skipped)
    unreadable = [skipped.path for skipped in tree.skipped if skipped.reason == "unreadable"]
    unusable: list[str] = []
    for path in tree.paths:
        source = await run.offload(read_source, tree, path)
        if not await run.take(path, source):
            unusable.append(path)
            if not isinstance(source, bytes) and source.reason == "unreadable":
                unreadable.append(path)
    await run.drain()
    kept = set(tree.paths)
    kept.difference_update(unusable)
    await run.remove(await run.offload(_lost, gone, kept, unreadable))
    await run.finish()


def _lost(gone: Collection[str], kept: set[str], unreadable: list[str]) -> list[str]:
    """Of paths those that are gone: what could not be looked at is not taken for gone."""
    unknown = set(within(gone, {path.removesuffix("/") for path in unreadable}))
    return [path for path in gone if path not in kept and path not in unknown]


def within(paths: Iterable[str], places: set[str]) -> list[str]:
    """Give those of some paths that are among places, or below one; of the places none ends in `/`."""
    found_below = {"": False}

    def is_below(folder: str) -> bool:
        if folder not in found_below:
            found_below[folder] = folder in places or is_below(folder.rpartition("/")[0])
        return found_below[folder]

    return [path for path in paths if path in places or is_below(path.rpartition("/")[0])]
