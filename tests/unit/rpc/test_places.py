"""Places by their owner: who takes all of its own leaves those of others."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from gateway.rpc.places import PlacesByOwner


async def test_an_owner_waits_for_its_own_places_alone() -> None:
    places = PlacesByOwner(2)
    async with AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(places.one("first"))
        async with places.one("second"):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05), places.one("first"):
                    pass
        assert len(places) == 1
    assert len(places) == 0
