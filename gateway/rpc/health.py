"""grpc.health.v1: SERVING only while a canary text can be embedded, stored and found.

Under a load that keeps the canary waiting, the answers that others get count for its own, from the encoders as from the
database, and its vectors of the last time are stored and found: a server that is busy must not be taken for one that is
down, and its load given to others.
"""

import asyncio
import logging
import time
from collections.abc import Sequence

import numpy as np
from grpc_health.v1 import health, health_pb2
from numpy.typing import NDArray

from gateway.embedding.embedder import Embedder
from gateway.embedding.space import InputType
from gateway.embedding.triton import Priority
from gateway.errors import DeadlineExceeded, DuovecError, Overloaded
from gateway.spaces.serving import ServedSpace, Serving
from gateway.store.canary import find_canary
from gateway.store.pool import Database

logger = logging.getLogger(__name__)

CANARY_TEXT = "def add(a, b):\n    return a + b\n"
CANARY_QUERY = "add two numbers"

_SERVING_PERIOD_S = 5.0
_FAILING_PERIOD_S = 0.5
# Of each of its two parts: the vectors, and finding them.
_TIMEOUT_S = 5.0
# Of all of it, with what is around its parts; within this and a period the next verdict is there.
_CHECK_TIMEOUT_S = 12.0
_STALE_S = 20.0
# So often Triton's models are compared with the published ones again.
_PROOF_PERIOD_S = 60.0


class HealthMonitor:
    """Runs the canary again and again, and tells the health service how it went."""

    def __init__(
        self,
        servicer: health.aio.HealthServicer,
        services: Sequence[str],
        serving: Serving,
        database: Database,
    ) -> None:
        """Prepare; nothing is known before `run`.

        Args:
            servicer: Is told.
            services: Full names whose status follows the canary; "" stands for the whole server.
            serving: The space that the canary is embedded in.
            database: As callers use it. What it does for them counts; the canary itself is the system's.
        """
        self._servicer = servicer
        self._services = services
        self._serving = serving
        self._database = database
        self._system = database.as_system()
        self._went_well: bool | None = None
        self._checked_at: float | None = None
        self._doubted_at = time.monotonic()
        self._space_key = 0
        self._vectors_V: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None

    @property
    def is_serving(self) -> bool:
        """Whether the canary went well the last time, and that was not long ago: what is stuck serves nobody."""
        return self._went_well is True and self.age_s is not None and self.age_s <= _STALE_S

    @property
    def age_s(self) -> float | None:
        """How long ago the canary was last found, or not, seconds; None before the first time."""
        return None if self._checked_at is None else time.monotonic() - self._checked_at

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            error = await self._check()
            self._checked_at = time.monotonic()
            if self._went_well is not (error is None):
                self._went_well = error is None
                await self._set(self._went_well)
                if self._went_well:
                    logger.info("serving: the canary was embedded, stored and found")
                else:
                    logger.warning("not serving: %s", error)
            await asyncio.sleep(_SERVING_PERIOD_S if self._went_well else _FAILING_PERIOD_S)

    async def _set(self, serving: bool) -> None:
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in self._services:
            await self._servicer.set(service, status)

    async def _check(self) -> Exception | None:
        if time.monotonic() - self._doubted_at >= _PROOF_PERIOD_S:
            self._doubted_at = time.monotonic()
            # Those that are filled, too: nobody else would notice a Triton that came back with other models for them.
            for space in (self._serving.active, *self._serving.filled):
                space.embedder.doubt()
        try:
            async with asyncio.timeout(_CHECK_TIMEOUT_S):
                # As requests are answered: a gateway that cannot embed in the active space serves nobody.
                await self._serving.call(self._embed_and_find)
        except TimeoutError:
            return DeadlineExceeded(f"the canary was not found in {_CHECK_TIMEOUT_S:g} s")
        except DuovecError as exc:
            return exc
        except Exception as exc:
            logger.exception("the canary failed")
            return exc
        return None

    async def _embed_and_find(self, space: ServedSpace) -> None:
        if space.space_key != self._space_key:
            self._space_key, self._vectors_V = space.space_key, None
        await self._embed(space.embedder)
        await self._find(space.space_key)

    async def _embed(self, embedder: Embedder) -> None:
        encoded_count = embedder.encoded_count
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await embedder.check_ready(timeout_s=_TIMEOUT_S)
                canary = await embedder.tokenize([CANARY_QUERY], InputType.QUERY)
                query = await embedder.embed_query(canary, timeout_s=_TIMEOUT_S)
                encoded_count = embedder.encoded_count  # its own answer says nothing of others
                tokenized = await embedder.tokenize([CANARY_TEXT], InputType.PASSAGE)
                vectors = await embedder.encode(tokenized, priority=Priority.INTERACTIVE, timeout_s=_TIMEOUT_S)
        except (TimeoutError, DeadlineExceeded, Overloaded) as exc:
            if self._vectors_V is not None and embedder.encoded_count > encoded_count:
                return
            raise DeadlineExceeded(f"the canary was not embedded in {_TIMEOUT_S:g} s, nor anything else") from exc
        if vectors.errors:
            raise vectors.errors[0]
        self._vectors_V = query.vector_V, vectors.vectors_BV[0]

    async def _find(self, space_key: int) -> None:
        assert self._vectors_V is not None  # noqa: S101 - for mypy: without them `_embed` raised
        query_V, passage_V = self._vectors_V
        finished_count = self._database.finished_count
        try:
            await find_canary(
                self._system,
                space_key,
                text=CANARY_TEXT,
                passage_D=passage_V,
                query_D=query_V,
                timeout_s=_TIMEOUT_S,
            )
        except DeadlineExceeded as exc:
            if self._database.finished_count > finished_count:
                return
            raise DeadlineExceeded(f"the canary was not found in {_TIMEOUT_S:g} s, nor anything else") from exc
