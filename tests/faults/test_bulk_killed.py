"""A bulk load that is broken off at any moment, by whatever dies, and run again.

Every chunk is there once, none of an old version is left, and until a file's new version is there in full the old one
is found.
"""

import asyncio
import json
import random
import shutil
import sysconfig
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from bulk_site import CODEBASE, BulkSite, Searcher, chunks_of, versions_of
from fault_caller import API_KEY, Caller

from gateway.client.client import Client
from gateway.client.indexer import index_tree
from gateway.embedding.space import passage_of
from gateway.local.postgres import Postgres
from gateway.local.process import GatewayServer, free_port
from gateway.local.triton import Triton

ENCODERS = ("compact-code", "compact-text")
LIBRARY = Path(sysconfig.get_path("stdlib"))


@pytest.fixture
async def site(published_models: Path, fault_dir: Path) -> AsyncIterator[BulkSite]:
    postgres = Postgres(fault_dir / "postgres", log_path=fault_dir / "postgres.log")
    triton = Triton(published_models, ENCODERS, work_dir=fault_dir / "triton", log_path=fault_dir / "triton.log")
    await postgres.start()
    await triton.start()
    environment = {
        "DUOVEC_DATABASE_URL": postgres.url,
        "DUOVEC_TRITON_URL": triton.url,
        "DUOVEC_MODEL_REPOSITORY": str(published_models),
        "DUOVEC_ADMIN_KEY": API_KEY,
        "DUOVEC_DRAIN_S": "1",
    }
    gateway = GatewayServer(f"127.0.0.1:{free_port()}", environment, log_path=fault_dir / "gateway.log")
    await gateway.start()
    yield BulkSite(postgres, triton, gateway)
    await gateway.stop()
    await triton.stop()
    await postgres.stop()


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    """Packages of the standard library, and a copy with files that are changed, new, gone, and as they were."""
    old, new = tmp_path / "old", tmp_path / "new"
    for package in ("json", "tomllib", "concurrent"):
        shutil.copytree(LIBRARY / package, old / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(old, new)
    shutil.copytree(LIBRARY / "sqlite3", new / "sqlite3", ignore=shutil.ignore_patterns("__pycache__"))
    (new / "json" / "tool.py").unlink()
    for path in [*new.glob("tomllib/*.py"), *new.glob("concurrent/futures/*.py")]:
        path.write_text(path.read_text().replace("self", "this").replace("return ", "return  "))
    return old, new


@pytest.mark.parametrize(("part", "seed"), [("client", 1), ("gateway", 2), ("triton", 3), ("postgres", 4)])
async def test_whatever_is_killed_the_same_command_ends_it(
    site: BulkSite, trees: tuple[Path, Path], part: str, seed: int
) -> None:
    old, new = trees
    before, after = chunks_of(old), chunks_of(new)
    assert max(before.values()) == max(after.values()) == 1
    old_versions, new_versions = versions_of(before), versions_of(after)
    coming = new_versions.keys() - old_versions.keys()
    coming_count = sum(new_versions[version] for version in coming)
    # Twice on the way, and once when everything is there and the old is about to be deleted.
    moments = [*sorted(random.Random(seed).sample(range(1, coming_count), 2)), coming_count]

    with Client(site.gateway.url, api_key=API_KEY) as client:
        await asyncio.to_thread(index_tree, client, old, CODEBASE)
        assert await site.stored() == (before, [])
        async with grpc.aio.insecure_channel(site.gateway.url) as channel:
            searcher = Searcher(Caller(channel, site.gateway.url), old_versions, new_versions)
            searching = asyncio.create_task(searcher.run())
            for moment in moments:
                indexing = await site.index(new)
                await site.until_stored(coming, moment, indexing)
                await site.kill(part, indexing)
                _, complaint = await indexing.communicate()
                assert b"Traceback" not in complaint
            indexing = await site.index(new)
            reported, complaint = await indexing.communicate()
            assert indexing.returncode == 0, complaint.decode()
            searching.cancel()
            await asyncio.gather(searching, return_exceptions=True)

        assert await site.stored() == (after, [])
        assert searcher.wrong == []
        assert searcher.answer_count > 50
        assert searcher.beside_count > 0
        report = json.loads(reported)
        assert report["files_unchanged"] + report["files_changed"] == len(new_versions)
        await asyncio.to_thread(check_vectors, client, random.Random(seed))


def check_vectors(client: Client, chance: random.Random) -> None:
    """What is found by a chunk's own text is that chunk: no vector was filed under another."""
    hits = client.search(CODEBASE, "a", limit=100, lexical_weight=0).hits
    for hit in chance.sample(list(hits), 5):
        text = passage_of(hit.chunk.symbol, hit.chunk.content)
        best = client.search(CODEBASE, code=text, limit=100, lexical_weight=0, truncate=True).hits
        [score] = [other.score for other in best if other.chunk_id == hit.chunk_id]
        assert score > 0.998
