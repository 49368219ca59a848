"""Brings a codebase into line with a git commit: of what was recorded before, only what differs is read and sent."""

import stat
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import grpc

from duovec.v1 import codebase_service_pb2 as codebase_pb
from duovec.v1 import revision_pb2 as revision_pb
from gateway.client.chunking import DEFAULT_MAX_CHARS
from gateway.client.client import AsyncClient, dual_function
from gateway.client.errors import ClientError
from gateway.client.files import NEVER_ENTERED, FileTree, SkippedFile, read_source, unusable_name
from gateway.client.git import Changes, Commit, GitError, TrackedFile, WorkTree
from gateway.client.index_run import IndexRun
from gateway.client.report import IndexReport, Progress
from gateway.client.stored_versions import UNKNOWN, pack


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What a sync did.

    Attributes:
        index: What was sent and deleted. Where only the difference was looked at, `files_scanned` counts its files, and
            `files_removed` those, too, of which nothing was stored.
        commit_id: What the codebase was brought into line with.
        base_commit_id: What it held before, and only the difference was looked at; empty where every file was.
        compared_because: Why every file was looked at; empty where only the difference was.
        renamed_count: Files that only have a new name.
        uncommitted_count: Paths with changes that are in no commit, where these were asked for.
        recorded: Whether the commit was recorded; not where a chunk failed, or a file could not be read.
    """

    index: IndexReport
    commit_id: str
    base_commit_id: str
    compared_because: str
    renamed_count: int
    uncommitted_count: int
    recorded: bool

    def to_dict(self) -> dict[str, object]:
        """Give the report as plain values, for JSON."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "index"} | self.index.to_dict()


@dual_function
async def sync_tree(
    client: AsyncClient,
    folder: Path,
    codebase_id: str,
    *,
    uncommitted: bool = False,
    max_chars: int = DEFAULT_MAX_CHARS,
    progress: Progress | None = None,
) -> SyncReport:
    """Bring a codebase into line with the commit that is checked out, and record the commit once all is stored.

    Files come from the commit, not from the disk, and whatever git tracks is taken, be it named in a `.gitignore`.
    Where it is known what the codebase holds, only files that differ between the two commits are looked at; a text that
    the codebase has already, as that of a file with a new name, gets the vector that is there. Interrupted at any
    point, the next sync looks at every file, and sends what is missing.

    Args:
        client: Where to.
        folder: A folder in the work tree of a git repository; files get paths relative to it.
        codebase_id: The codebase, which is created where it is missing.
        uncommitted: Take files that differ from the commit from the disk, and new ones that are not ignored, too. Of
            one that cannot be read, what is stored stays.
        max_chars: Longest chunk, characters.
        progress: Told of what happens.

    Raises:
        GitError: The folder is in no work tree, or has a path there that cannot be recorded; nothing was committed
            yet; or git fails (a ClientError).
        IndexingFailed: As `gateway.client.indexer.index_tree`.
        ClientError: FAILED_PRECONDITION, REVISION_CHANGED: others wrote into the codebase meanwhile. Sync again.
    """
    offload = client._connection.transport.offload
    tree, commit = await offload(_head, folder)
    update, created = await _begin(client, codebase_id)
    held = update.revision
    plan = await offload(_plan, tree, commit, held, uncommitted=uncommitted)
    number = update.update_number
    async with IndexRun(client, codebase_id, update_number=number, max_chars=max_chars, progress=progress) as run:
        run.report.created = created
        if plan.because:
            await run.load_stored()
        else:
            run.stored.update((path, pack([UNKNOWN])) for path in plan.touched if unusable_name(path) is None)
        run.progress.files_found(len(plan.files) + len(plan.on_disk))
        kept = set()
        with closing(_sources(plan)) as sources:
            while (found := await offload(next, sources, None)) is not None:
                path, source = found
                # What could not be looked at is not taken for gone.
                if await run.take(path, source) or source == SkippedFile(path, "unreadable"):
                    kept.add(path)
        await run.drain()
        await run.remove([path for path in run.stored if path not in kept])
        await run.finish()
        report = run.report
        recorded = not (report.chunks_failed or report.files_incomplete or report.skipped["unreadable"])
        if recorded and _differs(held, plan, report):
            await client.set_revision(codebase_id, await offload(_revision, plan), update_number=number)
    return SyncReport(
        run.report,
        plan.commit.commit_id,
        "" if plan.because else held.commit_id,
        plan.because,
        plan.renamed_count,
        len(plan.uncommitted),
        recorded,
    )


@dataclass(frozen=True, slots=True)
class _Plan:
    """What git says is to be done.

    Attributes:
        tree: The work tree.
        commit: What the codebase is to hold.
        because: Why every file is compared; empty where only the difference is.
        files: To be read from the commit.
        on_disk: Paths to be read from the disk.
        uncommitted: Paths that differ from the commit on the disk.
        touched: Paths that may have to be deleted.
        renamed_count: Files that only have a new name.
    """

    tree: WorkTree
    commit: Commit
    because: str
    files: list[TrackedFile]
    on_disk: list[str]
    uncommitted: list[str]
    touched: list[str]
    renamed_count: int


def _head(folder: Path) -> tuple[WorkTree, Commit]:
    tree = WorkTree(folder)
    if (unusable := unusable_name(tree.prefix)) is not None:
        # Nor is anything put in place of what cannot be: two folders would have one name, and differ by nothing.
        raise GitError(f"the folder {_shown(tree.prefix)} cannot be recorded: {unusable}; use `duovec index`")
    return tree, tree.head()


def _plan(tree: WorkTree, commit: Commit, held: revision_pb.Revision, *, uncommitted: bool) -> _Plan:
    changed_on_disk = tree.uncommitted() if uncommitted else []
    because = _why_compare(tree, held)
    if because:
        changes = Changes(list(tree.files(commit.commit_id)), [], 0)
    else:
        changes = tree.changes(held.commit_id, commit.commit_id)
    from_disk = set(changed_on_disk)
    files = [file for file in changes.written if file.path not in from_disk and _is_entered(file.path)]
    return _Plan(
        tree,
        commit,
        because,
        files,
        [path for path in changed_on_disk if _is_entered(path) and _is_file(tree.folder, path)],
        changed_on_disk,
        [*changes.gone, *changed_on_disk, *(file.path for file in files)],
        changes.renamed_count,
    )


async def _begin(client: AsyncClient, codebase_id: str) -> tuple[codebase_pb.BeginUpdateResponse, bool]:
    """Begin an update of the codebase, and say whether it had to be created."""
    try:
        return await client.begin_update(codebase_id), False
    except ClientError as error:
        if error.code != grpc.StatusCode.NOT_FOUND:
            raise
    try:
        await client.create_codebase(codebase_id)
    except ClientError as taken:
        if taken.code != grpc.StatusCode.ALREADY_EXISTS:
            raise
        # By another sync in the same moment, or by somebody who does not show it to this one.
        try:
            return await client.begin_update(codebase_id), False
        except ClientError as error:
            raise (taken if error.code == grpc.StatusCode.NOT_FOUND else error) from error
    return await client.begin_update(codebase_id), True


def _why_compare(tree: WorkTree, held: revision_pb.Revision) -> str:
    short = held.commit_id[:10]
    if not held.commit_id:
        return "no commit was recorded yet"
    if held.outdated:
        return f"it was changed since {short} was recorded"
    if held.modified:
        return f"beside {short} it holds changes that were not committed"
    if held.folder != tree.prefix:
        return f"it holds the folder {held.folder or '/'} of the repository, this is {tree.prefix or '/'}"
    if not tree.has(held.commit_id):
        return f"commit {short}, which it holds, is not in this repository (a shallow clone lacks most)"
    return ""


def _sources(plan: _Plan) -> Generator[tuple[str, bytes | SkippedFile]]:
    with plan.tree.blobs() as blobs:
        for file in plan.files:
            yield _unusable(file.path) or (file.path, blobs.read(file))
    tree = FileTree(plan.tree.folder)
    for path in plan.on_disk:
        yield _unusable(path) or (path, read_source(tree, path))


def _unusable(path: str) -> tuple[str, SkippedFile] | None:
    reason = unusable_name(path)
    # A name that is not UTF-8 cannot be shown as it is.
    shown = path.encode("utf-8", "replace").decode()
    return (shown, SkippedFile(shown, reason)) if reason else None


def _is_entered(path: str) -> bool:
    return NEVER_ENTERED.isdisjoint(PurePosixPath(path).parts[:-1])


def _is_file(folder: Path, path: str) -> bool:
    """Whether there is something to read at a path that git named, and not behind a link; where one cannot look, too.

    No `.gitignore` is asked, since git was: a tracked file may be named in one. Of a folder git names the files.
    """
    *parents, name = path.split("/")
    try:
        for parent in parents:
            folder /= parent
            if not stat.S_ISDIR(folder.lstat().st_mode):
                return False
        return stat.S_IFMT((folder / name).lstat().st_mode) in {stat.S_IFREG, stat.S_IFLNK}
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


def _differs(held: revision_pb.Revision, plan: _Plan, report: IndexReport) -> bool:
    """Whether there is anything to record."""
    recorded = (held.commit_id, held.folder, held.modified)
    return bool(
        held.outdated
        or report.chunks_embedded + report.chunks_reused + report.chunks_deleted
        or recorded != (plan.commit.commit_id, plan.tree.prefix, bool(plan.uncommitted))
    )


def _revision(plan: _Plan) -> revision_pb.Revision:
    revision = revision_pb.Revision(
        commit_id=plan.commit.commit_id,
        folder=plan.tree.prefix,
        branch=_shown(plan.tree.branch())[:256],
        modified=bool(plan.uncommitted),
    )
    revision.commit_time.FromDatetime(plan.commit.time)
    return revision


def _shown(name: str) -> str:
    """Replace what is not UTF-8, which Python names by surrogates, and what would steer a terminal."""
    return "".join(character if character.isprintable() else "?" for character in name)
