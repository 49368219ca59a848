"""A bulk load that is broken off at any moment, by whatever dies, and goes on by itself, or is run again.

Every chunk is there once, none of an old version is left, and until a file's new version is there in full the old one
is found.
"""

import asyncio
import contextlib
import itertools
import json
import random
import shutil
import sysconfig
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from bulk_site import CODEBASE, WRITTEN, BulkSite, Searcher, Writer, chunks_of, versions_of
from fault_caller import API_KEY, Caller
from fault_site import Backends
from fuzz_caller import complaints
from soak_run import SoakRun

from gateway.client.client import Client
from gateway.client.indexer import index_tree

LIBRARY = Path(sysconfig.get_path("stdlib"))


@pytest.fixture
async def site(backends: Backends, database_url: str) -> AsyncIterator[BulkSite]:
    gateway = backends.gateway(database_url, cache_max_texts="0")
    await gateway.start()
    yield BulkSite(backends.postgres, backends.triton, gateway, database_url, backends.log_path())
    await gateway.stop()


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    """Packages of the standard library, and a copy with files that are changed, new, gone, and as they were.

    Without two that would be half of all chunks, and whose versions fit no page, so that no search could judge them.
    """
    left_out = shutil.ignore_patterns("__pycache__", "process.py", "_base.py")
    old, new = tmp_path / "old", tmp_path / "new"
    for package in ("json", "tomllib", "concurrent"):
        shutil.copytree(LIBRARY / package, old / package, ignore=left_out)
    shutil.copytree(old, new)
    shutil.copytree(LIBRARY / "sqlite3", new / "sqlite3", ignore=shutil.ignore_patterns("__pycache__"))
    (new / "json" / "tool.py").unlink()
    for path in [*new.glob("tomllib/*.py"), *new.glob("concurrent/futures/*.py")]:
        path.write_text(path.read_text().replace("self", "this").replace("return ", "return  "))
    return old, new


PARTS = ("client", "gateway", "triton", "postgres")


@pytest.mark.parametrize("part", ["triton", "postgres", "gateway"])
async def test_a_part_that_dies_and_comes_back_costs_a_run_no_chunk(
    site: BulkSite, trees: tuple[Path, Path], part: str
) -> None:
    """Of a run of hours nobody wants to look after each restart; what is refused meanwhile is sent again."""
    expected = chunks_of(trees[1])
    indexing = await site.index(trees[1])
    await site.until_stored({(chunk[0], chunk[1]) for chunk in expected}, expected.total() // 4, indexing)
    assert indexing.returncode is None
    await site.kill(part, indexing)
    reported, complaint = await indexing.communicate()
    assert indexing.returncode == 0, complaint.decode()
    report = json.loads(reported)
    assert (report["chunks_failed"], report["files_incomplete"]) == (0, 0)
    assert await site.stored() == (expected, [])


@pytest.mark.soak
async def test_whatever_is_killed_the_same_command_ends_it(
    site: BulkSite, trees: tuple[Path, Path], soak: SoakRun
) -> None:
    """The tree changes from one version to the other and back; of each change the short form has one part killed."""
    chance = soak.chance("bulk killed")
    begun = time.monotonic()
    kills: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    answers = beside = 0
    with Client(site.gateway.url, api_key=API_KEY) as client:
        client.create_codebase(WRITTEN)
        await asyncio.to_thread(index_tree, client, trees[0], CODEBASE)
    assert await site.stored() == (chunks_of(trees[0]), [])
    async with grpc.aio.insecure_channel(site.gateway.url) as channel:
        caller = Caller(channel, site.gateway.url)
        writer = Writer(caller)
        async with beside_it(writer.run()):
            for number in itertools.count():
                planned = chance.choices(PARTS, k=3) if soak.is_long else [PARTS[number]] * 3
                old, new = (trees[0], trees[1]) if number % 2 == 0 else (trees[1], trees[0])
                searcher = Searcher(caller, versions_of(chunks_of(old)), versions_of(chunks_of(new)))
                async with beside_it(searcher.run()):
                    report = await change(site, searcher, new, planned, chance)
                kills.update(planned)
                refused += searcher.refused
                answers, beside = answers + searcher.answer_count, beside + searcher.beside_count
                assert await site.stored() == (chunks_of(new), [])
                assert report["files_unchanged"] + report["files_changed"] == len(searcher.new)
                assert (searcher.wrong, writer.wrong) == ([], []), (
                    f"{searcher.wrong} {writer.wrong} {complaints(site.log)}"
                )
                acknowledged = set(writer.acknowledged)
                written = await site.written()
                assert acknowledged <= written.keys()
                assert set(written.values()) <= {1}
                soak.progress(f"{kills.total()} killed {dict(kills)}, {answers} searches, {len(acknowledged)} written")
                if kills.total() >= (soak.kills if soak.is_long else 3 * len(PARTS)):
                    break
    assert answers > 50
    assert beside > 0
    assert len(writer.acknowledged) > 20
    least = min([await site.least_cosine(codebase_id, 40, chance) for codebase_id in (CODEBASE, WRITTEN)])
    assert least > 0.998
    soak.report(
        "killed",
        {
            "kills": dict(kills),
            "seconds": round(time.monotonic() - begun),
            "searches answered": answers,
            "searches refused": dict(refused),
            "chunks acknowledged one by one": len(writer.acknowledged),
            "writes refused": dict(writer.refused),
            "least cosine of a vector computed anew": round(least, 5),
        },
    )


@asynccontextmanager
async def beside_it(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run something for the length of the block; what it raises is raised at the block's end."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def change(
    site: BulkSite, searcher: Searcher, tree: Path, planned: Sequence[str], chance: random.Random
) -> dict[str, int]:
    """Index another version, with a part killed now and then; gives the report of the run that ended it."""
    coming = searcher.new.keys() - searcher.old.keys()
    count = sum(searcher.new[version] for version in coming)
    # On the way, and once when everything is there and the old is about to be deleted.
    moments = [*sorted(chance.sample(range(1, count), len(planned) - 1)), count]
    indexing = await site.index(tree)
    for moment, part in zip(moments, planned, strict=True):
        await site.until_stored(coming, moment, indexing)
        await site.kill(part, indexing)
        if part == "client" or indexing.returncode is not None:
            _, complaint = await indexing.communicate()
            assert b"Traceback" not in complaint
            indexing = await site.index(tree)
    reported, complaint = await indexing.communicate()
    if indexing.returncode:
        # What is neither sent nor received by the stream, such as a deletion, waits for nobody's restart.
        assert b"Traceback" not in complaint
        indexing = await site.index(tree)
        reported, complaint = await indexing.communicate()
    assert indexing.returncode == 0, complaint.decode()
    report: dict[str, int] = json.loads(reported)
    return report
