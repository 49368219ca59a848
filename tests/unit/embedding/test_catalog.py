"""What embeds in a space, while encoders are published under the running service."""

import asyncio
import gc
import logging
import weakref
from pathlib import Path
from typing import Any

import pytest

from gateway.embedding.embedder import Embedder
from gateway.embedding.proof import ProvenEncoders
from gateway.embedding.space import Space
from gateway.errors import SpaceNotReady
from gateway.spaces.catalog import SpaceCatalog
from gateway.spaces.serving import ServedSpace, Serving
from gateway.store.rows import SpaceRow

from .published import manifest_of, serve_version, write_version


@pytest.fixture
def catalog(repository: Path) -> SpaceCatalog:
    def make(space: Space) -> Embedder:
        return Embedder(space, ProvenEncoders(None))  # type: ignore[arg-type]

    return SpaceCatalog(repository, code_encoder="tiny-code", text_encoder="tiny-text", make_embedder=make)


async def test_it_is_made_once(catalog: SpaceCatalog, space: Space) -> None:
    first = await catalog.embedder(space.fingerprint, space.identity)
    assert await catalog.embedder(space.fingerprint, space.identity) is first


async def test_the_same_models_under_other_numbers_take_over(
    catalog: SpaceCatalog, space: Space, repository: Path
) -> None:
    """Two publications on, the version that the space was found by is not loaded any more."""
    first = await catalog.embedder(space.fingerprint, space.identity)
    write_version(repository, manifest_of("code") | {"version": 3})
    serve_version(repository, "tiny-code", 3, [2, 3])
    again = await catalog.embedder(space.fingerprint, space.identity)
    assert (first.space.code.version, again.space.code.version) == (1, 3)


async def test_without_loaded_versions_there_is_nothing_to_embed_with(
    catalog: SpaceCatalog, space: Space, repository: Path
) -> None:
    await catalog.embedder(space.fingerprint, space.identity)
    other = manifest_of("code") | {"version": 3, "precision": "int8"}
    write_version(repository, other)
    with pytest.raises(SpaceNotReady, match="no loaded versions of tiny-code and tiny-text"):
        await catalog.embedder(space.fingerprint, space.identity)


class Store:
    """Lists the spaces that a test says, slowly if it says so."""

    def __init__(self, rows: list[SpaceRow]) -> None:
        self.rows = rows
        self.hold: asyncio.Event | None = None
        self.count = 0

    async def list(self) -> list[SpaceRow]:
        rows, self.count = self.rows, self.count + 1
        if self.hold is not None:
            await self.hold.wait()
        return rows


def row_of(key: int, space: Space, state: Any, *, filling: bool = False) -> SpaceRow:
    rest: dict[str, Any] = dict.fromkeys(SpaceRow.__dataclass_fields__)
    rest |= {"space_key": key, "fingerprint": space.fingerprint, "manifest": space.identity, "state": state}
    return SpaceRow(**rest | {"filling": filling})


async def test_the_active_space_goes_on_with_the_versions_that_are_loaded(
    catalog: SpaceCatalog, space: Space, repository: Path
) -> None:
    store = Store([row_of(1, space, "ACTIVE")])
    active = ServedSpace(1, await catalog.embedder(space.fingerprint, space.identity))
    serving = Serving(store, catalog, active)  # type: ignore[arg-type]
    write_version(repository, manifest_of("code") | {"version": 3})
    await serving.refresh()
    assert serving.active.embedder.space.code.version == 3


async def test_a_look_that_takes_long_does_not_bring_the_old_space_back(
    catalog: SpaceCatalog, space: Space, repository: Path
) -> None:
    old = ServedSpace(1, await catalog.embedder(space.fingerprint, space.identity))
    write_version(repository, manifest_of("code") | {"version": 2, "precision": "int8"})
    serve_version(repository, "tiny-code", 2, [1, 2])
    new = Space.load(repository, code_encoder="tiny-code", text_encoder="tiny-text")
    store = Store([row_of(1, space, "ACTIVE"), row_of(2, new, "BUILDING")])
    serving = Serving(store, catalog, old)  # type: ignore[arg-type]
    slow_hold = store.hold = asyncio.Event()
    slow = asyncio.create_task(serving.refresh())
    await asyncio.sleep(0)
    store.rows, store.hold = [row_of(1, space, "STANDBY", filling=True), row_of(2, new, "ACTIVE")], None
    later = asyncio.create_task(serving.refresh())
    for _ in range(5):
        await asyncio.sleep(0.01)
    slow_hold.set()
    await asyncio.gather(slow, later)
    assert serving.active.space_key == 2
    assert [filled.space_key for filled in serving.filled] == [1]


async def test_many_who_ask_at_once_look_once_more(catalog: SpaceCatalog, space: Space) -> None:
    """After an activation every search that is under way asks."""
    store = Store([row_of(1, space, "ACTIVE")])
    active = ServedSpace(1, await catalog.embedder(space.fingerprint, space.identity))
    serving = Serving(store, catalog, active)  # type: ignore[arg-type]
    await asyncio.gather(*(serving.refresh() for _ in range(50)))
    assert store.count <= 2


async def test_what_embeds_in_a_dropped_space_is_let_go(catalog: SpaceCatalog, space: Space, repository: Path) -> None:
    """Its tokenizers are tens of megabytes; those of the spaces that are there stay."""
    active = ServedSpace(1, await catalog.embedder(space.fingerprint, space.identity))
    write_version(repository, manifest_of("code") | {"version": 2, "precision": "int8"})
    serve_version(repository, "tiny-code", 2, [1, 2])
    other = Space.load(repository, code_encoder="tiny-code", text_encoder="tiny-text")
    store = Store([row_of(1, space, "ACTIVE"), row_of(2, other, "STANDBY", filling=True)])
    serving = Serving(store, catalog, active)  # type: ignore[arg-type]
    await serving.refresh()
    dropped = weakref.ref(serving.filled[0].embedder)
    store.rows = store.rows[:1]
    await serving.refresh()
    gc.collect()
    assert dropped() is None
    assert await catalog.embedder(space.fingerprint, space.identity) is active.embedder


async def test_each_complaint_is_logged_once(
    catalog: SpaceCatalog, space: Space, caplog: pytest.LogCaptureFixture
) -> None:
    """Two spaces whose encoders are gone must not fill the log every two seconds."""
    gone = [row_of(key, space, "STANDBY", filling=True) for key in (2, 3)]
    rows = [SpaceRow(**{**_fields(row), "fingerprint": str(row.space_key) * 64}) for row in gone]
    store = Store([row_of(1, space, "ACTIVE"), *rows])
    active = ServedSpace(1, await catalog.embedder(space.fingerprint, space.identity))
    serving = Serving(store, catalog, active)  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING, logger="gateway.spaces.serving"):
        for _ in range(3):
            await serving.refresh()
    assert len(caplog.records) == 2
    assert serving.filled == ()


def _fields(row: SpaceRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in SpaceRow.__dataclass_fields__}
