"""grpc.health.v1: SERVING only while a canary text can be embedded, stored and found."""

import asyncio
import logging
from collections.abc import Sequence

from grpc_health.v1 import health, health_pb2

from gateway.embedding.embedder import Embedder
from gateway.embedding.space import InputType
from gateway.errors import BadVector, DuovecError
from gateway.store.canary import find_canary
from gateway.store.pool import Database

logger = logging.getLogger(__name__)

CANARY_TEXT = "def add(a, b):\n    return a + b\n"
CANARY_QUERY = "add two numbers"

_SERVING_PERIOD_S = 5.0
_FAILING_PERIOD_S = 0.5
_TIMEOUT_S = 5.0


class HealthMonitor:
    """Runs the canary again and again, and tells the health service how it went."""

    def __init__(
        self,
        servicer: health.aio.HealthServicer,
        services: Sequence[str],
        embedder: Embedder,
        database: Database,
        *,
        space_key: int,
    ) -> None:
        """Args: services: Full names whose status follows the canary; "" stands for the whole server."""
        self._servicer = servicer
        self._services = services
        self._embedder = embedder
        self._database = database
        self._space_key = space_key

    async def run(self) -> None:
        """Watch until cancelled."""
        serving: bool | None = None
        while True:
            error = await self._check()
            if serving is not (error is None):
                serving = error is None
                await self._set(serving)
                if serving:
                    logger.info("serving: the canary was embedded, stored and found")
                else:
                    logger.warning("not serving: %s", error)
            await asyncio.sleep(_SERVING_PERIOD_S if serving else _FAILING_PERIOD_S)

    async def _set(self, serving: bool) -> None:
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in self._services:
            await self._servicer.set(service, status)

    async def _check(self) -> Exception | None:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await self._embedder.check_ready(timeout_s=_TIMEOUT_S)
                query_V, _ = await self._embedder.embed_query(
                    CANARY_QUERY, field="canary", truncate=False, timeout_s=_TIMEOUT_S
                )
                tokenized = await self._embedder.tokenize([CANARY_TEXT], InputType.PASSAGE)
                vectors = await self._embedder.encode(tokenized, timeout_s=_TIMEOUT_S)
                if vectors.errors:
                    raise BadVector(str(vectors.errors[0]))
                await find_canary(
                    self._database,
                    self._space_key,
                    text=CANARY_TEXT,
                    passage_D=vectors.vectors_BV[0],
                    query_D=query_V,
                    timeout_s=_TIMEOUT_S,
                )
        except (DuovecError, TimeoutError) as exc:
            return exc
        except Exception as exc:
            logger.exception("the canary failed")
            return exc
        return None
