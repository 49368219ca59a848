"""Codebases as maps: drawn one at a time, in a thread, for each takes tens of megabytes and a core for a moment."""

import asyncio

import numpy as np

from duovec.v1 import codebase_service_pb2 as pb
from gateway.embedding.projection import project
from gateway.errors import Overloaded
from gateway.spaces.serving import ServedSpace
from gateway.store.codebase_map import CodebaseMapStore, CodebaseSample

MAX_POINTS = 2000
DEFAULT_POINTS = 1000
MAX_WAITING = 8
_MAP_S = 1.0  # at most points, 0.7 s on a busy machine


class CodebaseMaps:
    """Draws maps."""

    def __init__(self, store: CodebaseMapStore) -> None:
        """Take samples from `store`."""
        self._store = store
        self._one_at_a_time = asyncio.Lock()
        self._count = 0

    async def draw(
        self, codebase_key: int, space: ServedSpace, limit: int, *, timeout_s: float
    ) -> pb.MapCodebaseResponse:
        """Lay up to `limit` chunks of a codebase out by their vectors in a space.

        Raises:
            Overloaded: So many wait already that this one would for long.
        """
        if self._count > MAX_WAITING:
            raise Overloaded(f"{MAX_WAITING} maps wait to be drawn", retry_after_s=_MAP_S)
        self._count += 1
        try:
            return await self._draw_in_turn(codebase_key, space, limit, timeout_s)
        finally:
            self._count -= 1

    async def _draw_in_turn(
        self, codebase_key: int, space: ServedSpace, limit: int, timeout_s: float
    ) -> pb.MapCodebaseResponse:
        async with self._one_at_a_time:
            sample = await self._store.sample(codebase_key, space.space_key, limit, timeout_s=timeout_s)
            drawing = asyncio.create_task(asyncio.to_thread(_draw, sample))
            try:
                response = await asyncio.shield(drawing)
            except asyncio.CancelledError:
                # A thread cannot be stopped; the next map waits for its end.
                await asyncio.wait([drawing])
                raise
        response.space = space.fingerprint
        return response


def _draw(sample: CodebaseSample) -> pb.MapCodebaseResponse:
    response = pb.MapCodebaseResponse(chunk_count=sample.chunk_count)
    if not sample.vectors:
        return response
    projection = project(np.stack([vector.to_numpy() for vector in sample.vectors]))
    response.explained_variance = projection.explained_variance
    for chunk, place_2, neighbors_K, similarities_K in zip(
        sample.chunks,
        projection.places_B2.tolist(),
        projection.neighbors_BK.tolist(),
        projection.similarities_BK.tolist(),
        strict=True,
    ):
        response.points.add(
            chunk_id=chunk.chunk_id,
            path=chunk.path,
            language=chunk.language,
            symbol=chunk.symbol,
            kind=chunk.kind,
            start_line=chunk.start_line,
            end_line=chunk.end_line,
            x=place_2[0],
            y=place_2[1],
            neighbor_indices=neighbors_K,
            neighbor_similarities=similarities_K,
        )
    return response
