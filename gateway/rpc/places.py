"""Places for what is done at once, so many for each owner."""

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager


class PlacesByOwner:
    """As many places for each owner, whoever that is; who has none is forgotten."""

    def __init__(self, count: int) -> None:
        """Args: count: Places of each owner."""
        self._count = count
        self._places: dict[Hashable, asyncio.Semaphore] = {}
        self._users: dict[Hashable, int] = {}

    def __len__(self) -> int:
        return len(self._users)

    @asynccontextmanager
    async def one(self, owner: Hashable) -> AsyncIterator[None]:
        """Hold one of the owner's places, first come first served."""
        places = self._places.setdefault(owner, asyncio.Semaphore(self._count))
        self._users[owner] = self._users.get(owner, 0) + 1
        try:
            async with places:
                yield
        finally:
            self._users[owner] -= 1
            if not self._users[owner]:
                del self._users[owner], self._places[owner]
