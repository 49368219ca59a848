"""Which files a sync looks at and when a commit is recorded; tests/integration counts forward passes."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from git_repository import GitRepository

from duovec.v1 import revision_pb2
from gateway.client.client import Client
from gateway.client.errors import ClientError
from gateway.client.git import GitError
from gateway.client.index_run import IndexingFailed
from gateway.client.indexer import index_tree
from gateway.client.sync import sync_tree

from .fake_service import FakeService, serving

FILES: dict[str, str | bytes | None] = {
    "a.py": "def a():\n    return 1\n",
    "pkg/b.py": "def b():\n    return 2\n",
    "pkg/c.py": "def c():\n    return 3\n",
}


class CutCable:
    """The client is gone once one chunk was answered."""

    def files_found(self, count: int) -> None: ...

    def file_done(self, path: str) -> None: ...

    def chunk_done(self) -> None:
        raise ClientError("the cable was cut", code=grpc.StatusCode.UNAVAILABLE)

    def waiting(self, refusal: ClientError, seconds: float) -> None: ...


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def client(service: FakeService) -> Iterator[Client]:
    with serving(service) as endpoint, Client(endpoint) as client:
        yield client


@pytest.fixture
def repository(tmp_path: Path) -> GitRepository:
    repository = GitRepository(tmp_path / "repo")
    repository.commit(FILES)
    return repository


def contents(service: FakeService) -> dict[str, str]:
    """What is stored, by path; one version each."""
    chunks = list(service.stored["x"].values())
    assert len({(chunk.path, chunk.file_sha256) for chunk in chunks}) == len({chunk.path for chunk in chunks})
    return {chunk.path: chunk.content for chunk in chunks}


def test_the_first_sync_stores_the_commit_and_records_it(
    service: FakeService, client: Client, repository: GitRepository
) -> None:
    """What lies about uncommitted is not of the commit."""
    repository.write({"a.py": "def a():\n    return 100\n", "new.py": "def new():\n    return 4\n"})
    report = sync_tree(client, repository.folder, "x")
    assert (report.index.created, report.compared_because) == (True, "no commit was recorded yet")
    assert contents(service) == {path: str(text).strip() for path, text in FILES.items()}
    revision = service.revisions["x"]
    assert revision.commit_id == report.commit_id == repository.git("rev-parse", "HEAD")
    assert (revision.branch, revision.folder, revision.modified, report.recorded) == ("main", "", False, True)
    assert revision.commit_time.seconds == int(repository.git("show", "-s", "--format=%ct"))


def test_later_only_the_difference_is_looked_at(
    service: FakeService, client: Client, repository: GitRepository
) -> None:
    """The server is not even asked for the files that it has."""
    first = sync_tree(client, repository.folder, "x").commit_id
    repository.git("mv", "pkg/b.py", "pkg/moved.py")
    repository.commit({"a.py": "def a():\n    return 10\n", "pkg/c.py": None})
    service.received.clear()
    service.unlisted = 10
    report = sync_tree(client, repository.folder, "x")
    assert (report.base_commit_id, report.compared_because, report.renamed_count) == (first, "", 1)
    assert {chunk.path for chunk in service.received} == {"a.py", "pkg/moved.py"}
    assert contents(service) == {"a.py": "def a():\n    return 10", "pkg/moved.py": "def b():\n    return 2"}
    assert report.index.files_scanned == 2
    assert not service.revisions["x"].outdated


def test_a_branch_costs_what_differs_and_so_does_the_way_back(
    service: FakeService, client: Client, repository: GitRepository
) -> None:
    sync_tree(client, repository.folder, "x")
    repository.git("checkout", "--quiet", "-b", "feature")
    repository.commit({"pkg/b.py": "def b():\n    return 20\n", "d.py": "def d():\n    return 4\n"})
    service.received.clear()
    assert not sync_tree(client, repository.folder, "x").compared_because
    assert service.revisions["x"].branch == "feature"
    assert len(service.received) == 2
    repository.git("checkout", "--quiet", "main")
    assert not sync_tree(client, repository.folder, "x").compared_because
    assert len(service.received) == 3
    assert contents(service) == {path: str(text).strip() for path, text in FILES.items()}


def test_what_holds_no_chunk_any_more_goes(service: FakeService, client: Client, repository: GitRepository) -> None:
    """Of what was there only the commit is known, not which versions."""
    sync_tree(client, repository.folder, "x")
    repository.commit({"a.py": "import os\n", "pkg/b.py": b"\0", "pkg/c.py": ""})
    report = sync_tree(client, repository.folder, "x")
    assert not report.compared_because
    assert contents(service) == {}


def test_nothing_to_do_is_nothing_done(service: FakeService, client: Client, repository: GitRepository) -> None:
    sync_tree(client, repository.folder, "x")
    before = len(service.calls)
    report = sync_tree(client, repository.folder, "x")
    assert (report.recorded, report.index.files_scanned) == (True, 0)
    assert service.calls[before:] == ["BeginUpdate"]
    # A commit that touches no file is recorded none the less.
    commit_id = repository.commit()
    sync_tree(client, repository.folder, "x")
    assert service.revisions["x"].commit_id == commit_id


@pytest.mark.parametrize("how", ["killed", "failed chunk"])
def test_the_commit_is_recorded_once_all_is_stored(
    service: FakeService, client: Client, repository: GitRepository, how: str
) -> None:
    """An interrupted sync leaves the old commit, outdated; the next one compares every file, and goes on."""
    first = sync_tree(client, repository.folder, "x").commit_id
    changed = {path: str(text).replace("return ", "return 1") for path, text in FILES.items()}
    second = repository.commit({**changed, "d.py": "def d():\n    return 4\n"})
    if how == "killed":
        with pytest.raises(IndexingFailed, match="run again to resume"):
            sync_tree(client, repository.folder, "x", progress=CutCable())
    else:
        service.fail_items = {"return 12": 13}
        assert not sync_tree(client, repository.folder, "x").recorded
        service.fail_items = {}
    revision = service.revisions["x"]
    assert (revision.commit_id, revision.outdated) == (first, True)
    # Meanwhile a file went back to what it was at the first commit: a difference to that would not show it.
    repository.commit({"a.py": FILES["a.py"]})
    report = sync_tree(client, repository.folder, "x")
    assert report.compared_because == f"it was changed since {first[:10]} was recorded"
    assert service.revisions["x"].commit_id == report.commit_id != second
    assert contents(service) == {
        "a.py": "def a():\n    return 1",
        "pkg/b.py": "def b():\n    return 12",
        "pkg/c.py": "def c():\n    return 13",
        "d.py": "def d():\n    return 4",
    }


def test_a_commit_that_git_does_not_know_makes_it_look_at_every_file(
    service: FakeService, client: Client, repository: GitRepository
) -> None:
    """As in a shallow clone, or after history was rewritten."""
    sync_tree(client, repository.folder, "x")
    service.revisions["x"].commit_id = "1c" * 20
    repository.commit({"pkg/c.py": None})
    report = sync_tree(client, repository.folder, "x")
    assert report.compared_because.startswith("commit 1c1c1c1c1c, which it holds, is not in this repository")
    assert sorted(contents(service)) == ["a.py", "pkg/b.py"]
    assert report.index.files_unchanged == 2


def test_another_folder_of_the_repository_is_another_content(
    service: FakeService, client: Client, repository: GitRepository
) -> None:
    sync_tree(client, repository.folder, "x")
    report = sync_tree(client, repository.folder / "pkg", "x")
    assert report.compared_because == "it holds the folder / of the repository, this is pkg"
    assert sorted(contents(service)) == ["b.py", "c.py"]
    assert service.revisions["x"].folder == "pkg"


def test_who_indexes_without_recording_makes_it_look_at_every_file(
    service: FakeService, client: Client, repository: GitRepository
) -> None:
    sync_tree(client, repository.folder, "x")
    repository.write({"a.py": "def a():\n    return 100\n"})
    index_tree(client, repository.folder, "x")
    assert sync_tree(client, repository.folder, "x").compared_because
    assert contents(service)["a.py"] == "def a():\n    return 1"


def test_uncommitted_changes_are_taken_when_asked_for(
    service: FakeService, client: Client, repository: GitRepository
) -> None:
    """They are noted, so that the next sync without them takes them back."""
    sync_tree(client, repository.folder, "x")
    repository.write({"a.py": "def a():\n    return 100\n", "new.py": "def new():\n    return 4\n", "pkg/c.py": None})
    report = sync_tree(client, repository.folder, "x", uncommitted=True)
    assert (report.uncommitted_count, report.compared_because) == (3, "")
    assert contents(service)["a.py"] == "def a():\n    return 100"
    assert sorted(contents(service)) == ["a.py", "new.py", "pkg/b.py"]
    assert service.revisions["x"].modified
    report = sync_tree(client, repository.folder, "x")
    assert "holds changes that were not committed" in report.compared_because
    assert contents(service) == {path: str(text).strip() for path, text in FILES.items()}
    assert not service.revisions["x"].modified


def test_what_cannot_be_read_is_not_taken_for_gone(
    service: FakeService, client: Client, repository: GitRepository
) -> None:
    """Nor is the commit recorded, as not all of it is stored."""

    class Lost:
        """A file cannot be read once it was found."""

        def files_found(self, count: int) -> None:
            (repository.folder / "a.py").unlink()

        def file_done(self, path: str) -> None: ...

        def chunk_done(self) -> None: ...

        def waiting(self, refusal: ClientError, seconds: float) -> None: ...

    first = sync_tree(client, repository.folder, "x").commit_id
    repository.write({"a.py": "def a():\n    return 100\n", "pkg/b.py": "def b():\n    return 20\n"})
    report = sync_tree(client, repository.folder, "x", uncommitted=True, progress=Lost())
    assert (report.recorded, report.index.skipped, report.index.files_removed) == (False, {"unreadable": 1}, 0)
    assert contents(service) == {path: str(text).strip() for path, text in FILES.items()} | {
        "pkg/b.py": "def b():\n    return 20"
    }
    revision = service.revisions["x"]
    assert (revision.commit_id, revision.version, revision.outdated) == (first, 1, True)


def test_what_git_tracks_is_taken_though_it_is_ignored(
    service: FakeService, client: Client, repository: GitRepository
) -> None:
    """From the commit and from the disk alike; what is in no commit, only where it is not ignored."""
    repository.write({".gitignore": "*.cfg\nout/\n", "app.cfg": "a = 1\n", "out/d.py": "def d():\n    return 4\n"})
    repository.git("add", "--force", "app.cfg", "out/d.py")
    repository.commit()
    sync_tree(client, repository.folder, "x")
    before = contents(service)
    repository.write({"app.cfg": "a = 2\n", "out/d.py": "def d():\n    return 40\n", "new.cfg": "n = 1\n"})
    report = sync_tree(client, repository.folder, "x", uncommitted=True)
    assert report.uncommitted_count == 2
    assert contents(service) == before | {"app.cfg": "a = 2", "out/d.py": "def d():\n    return 40"}


def test_what_stands_in_a_file_s_place_is_not_read(
    service: FakeService, client: Client, repository: GitRepository, tmp_path: Path
) -> None:
    """A folder's files are named by themselves, a repository inside is left alone, and no link is followed."""
    sync_tree(client, repository.folder, "x")
    repository.write({"a.py": None, "pkg/b.py": None, "pkg/c.py": None})
    GitRepository(repository.folder / "a.py").commit({"inner.py": "def inner(): pass\n"})
    (repository.folder / "pkg").rmdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.py").write_text("def elsewhere(): pass\n")
    (repository.folder / "pkg").symlink_to(tmp_path / "elsewhere")
    report = sync_tree(client, repository.folder, "x", uncommitted=True)
    assert (report.recorded, contents(service), report.index.skipped) == (True, {}, {"symbolic link": 1})


def test_two_syncs_at_once_end_with_one_told(service: FakeService, client: Client, repository: GitRepository) -> None:
    class Other:
        """Another sync ends while this one goes on."""

        def files_found(self, count: int) -> None:
            client.set_revision("x", revision_pb2.Revision(commit_id="2d" * 20))

        def file_done(self, path: str) -> None: ...

        def chunk_done(self) -> None: ...

        def waiting(self, refusal: ClientError, seconds: float) -> None: ...

    sync_tree(client, repository.folder, "x")
    repository.commit({"a.py": "def a():\n    return 10\n"})
    with pytest.raises(ClientError, match="others wrote") as error:
        sync_tree(client, repository.folder, "x", progress=Other())
    assert error.value.reason == "REVISION_CHANGED"
    assert service.revisions["x"].outdated


@pytest.mark.parametrize("is_first", [True, False])
def test_what_others_write_meanwhile_keeps_the_commit_from_being_recorded(
    service: FakeService, client: Client, repository: GitRepository, tmp_path: Path, is_first: bool
) -> None:
    """Of the difference to the next commit it would be no part; so every file is compared next time."""
    (tmp_path / "z.py").write_text("def z():\n    return 26\n")

    class Other:
        """Another indexer writes once this one has."""

        def files_found(self, count: int) -> None: ...

        def file_done(self, path: str) -> None: ...

        def chunk_done(self) -> None:
            index_tree(client, tmp_path / "z.py", "x")

        def waiting(self, refusal: ClientError, seconds: float) -> None: ...

    if not is_first:
        sync_tree(client, repository.folder, "x")
    repository.commit({"a.py": "def a():\n    return 10\n"})
    with pytest.raises(ClientError, match="others wrote") as error:
        sync_tree(client, repository.folder, "x", progress=Other())
    assert error.value.reason == "REVISION_CHANGED"
    assert is_first == ("x" not in service.revisions)
    assert is_first or service.revisions["x"].outdated
    assert "z.py" in contents(service)
    assert sync_tree(client, repository.folder, "x").compared_because
    assert sorted(contents(service)) == sorted(FILES)


def test_two_first_syncs_at_once_make_one_codebase(
    service: FakeService, client: Client, repository: GitRepository
) -> None:
    """What another created in the same moment is taken."""
    service.stored["x"] = {}
    service.unbegun = 1
    report = sync_tree(client, repository.folder, "x")
    assert (report.recorded, report.index.created) == (True, False)
    service.unbegun = 2
    with pytest.raises(ClientError, match="it exists"):
        sync_tree(client, repository.folder, "x")


def test_names_that_cannot_be_stored_are_skipped(
    service: FakeService, client: Client, repository: GitRepository
) -> None:
    """In every commit: added, and taken away."""
    sync_tree(client, repository.folder, "x")
    bad = [b"latin-\xe9.py", b"tab\there.py"]
    for name in bad:
        (Path(str(repository.folder)).joinpath(name.decode("utf-8", "surrogateescape"))).write_text("def z(): pass\n")
    repository.commit({"node_modules/m.js": "function m() {}\n"})
    report = sync_tree(client, repository.folder, "x")
    assert report.index.skipped == {"name not UTF-8": 1, "name with a control character or backslash": 1}
    for name in bad:
        repository.folder.joinpath(name.decode("utf-8", "surrogateescape")).unlink()
    repository.commit()
    assert sync_tree(client, repository.folder, "x").recorded
    assert sorted(contents(service)) == sorted(FILES)


def test_a_branch_of_any_name_is_recorded(service: FakeService, client: Client, repository: GitRepository) -> None:
    """As far as it can be shown; it says where the commit was found, no more."""
    repository.git("checkout", "--quiet", "-b", "caf\udce9/\u009b2J" + "x" * 100)
    assert sync_tree(client, repository.folder, "x").recorded
    assert service.revisions["x"].branch == "caf?/?2J" + "x" * 100


def test_a_folder_that_cannot_be_recorded_is_refused_first(
    service: FakeService, client: Client, repository: GitRepository
) -> None:
    """By its name the next sync tells whether it is the same one."""
    repository.commit({"caf\udce9/a.py": FILES["a.py"], "new\nline/a.py": FILES["a.py"]})
    for name, shown, reason in (
        ("caf\udce9", r"caf\?", "name not UTF-8"),
        ("new\nline", r"new\?line", "name with a control character"),
    ):
        with pytest.raises(GitError, match=f"the folder {shown} cannot be recorded: {reason}"):
            sync_tree(client, repository.folder / name, "x")
    assert service.calls == []
    assert sync_tree(client, repository.folder, "x").recorded
