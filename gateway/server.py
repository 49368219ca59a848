"""The composition root: builds the gateway from its settings and runs it until SIGTERM.

Usage: python -m gateway.server   (settings from the environment, see gateway/settings.py)
"""

import asyncio
import contextlib
import gc
import logging
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from gateway.allocator import return_large_buffers
from gateway.concurrency import running
from gateway.descriptors import ShortageTold, connections_a_door, raise_limit
from gateway.embedding.embedder import Embedder
from gateway.embedding.fleet import TritonFleet
from gateway.embedding.space import Space
from gateway.errors import DuovecError, SpaceMismatch, SpaceNotReady, StartupError
from gateway.http.app import build_app
from gateway.http.door import Door
from gateway.http.embeddings import Embeddings
from gateway.http.listening import HttpListener
from gateway.http.models import Models
from gateway.http.server import HttpServer
from gateway.rpc.admission import Admission
from gateway.rpc.authentication import AuthenticationInterceptor
from gateway.rpc.embedding_call import EmbeddingCalls
from gateway.rpc.grpc_log import keep_callers_bytes_out_of_the_log
from gateway.rpc.health import HealthMonitor
from gateway.rpc.intake import Intake, IntakeInterceptor
from gateway.rpc.interceptors import ErrorInterceptor
from gateway.rpc.listening import Listener
from gateway.rpc.observation import ObservingInterceptor
from gateway.rpc.quotas import Quotas
from gateway.rpc.tls import TlsFiles, tls_files
from gateway.services import SERVICES, Parts, build_services
from gateway.settings import Settings
from gateway.spaces.catalog import SpaceCatalog
from gateway.spaces.index_builder import IndexBuilder
from gateway.spaces.recall import watch_recall
from gateway.spaces.reembedding import Reembedder
from gateway.spaces.serving import ServedSpace, Serving
from gateway.store.access import Quota
from gateway.store.admin import ensure_admin_key
from gateway.store.api_key import ApiKey
from gateway.store.audit import AuditKeeper
from gateway.store.cached_embeddings import CachedEmbeddings
from gateway.store.migrations import migrate
from gateway.store.pool import Database
from gateway.store.principals import PrincipalStore
from gateway.store.recall_watch import RecallWatch
from gateway.store.search_log import SearchLog, SearchLogKeeper
from gateway.store.spaces import SpaceStore
from gateway.store.word_counts import WordCounts
from gateway.telemetry.background import BackgroundFacts
from gateway.telemetry.collector import GatewayCollector
from gateway.telemetry.exposition import metrics_served
from gateway.telemetry.logs import configure_logging
from gateway.telemetry.loop_lag import LoopLag
from gateway.telemetry.observer import Observer, Tracing
from gateway.telemetry.requests import RequestStatistics
from gateway.wire import Options, is_local, server_options

logger = logging.getLogger(__name__)

_PROOF_TIMEOUT_S = 30.0


@asynccontextmanager
async def serve(settings: Settings) -> AsyncIterator[int]:
    """Run the gateway for the length of the block.

    Args:
        settings: What to serve, and where.

    Yields:
        The port that it listens on.

    Raises:
        StartupError: A published model, the database or the port is not as it must be.
        DatabaseUnavailable: PostgreSQL cannot be reached.
    """
    tls = tls_files(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
    listeners, http_listener = _listeners(settings, tls), _http_listener(settings, tls)
    keep_callers_bytes_out_of_the_log()
    async with contextlib.AsyncExitStack() as stack:
        triton = TritonFleet(settings.triton_url, concurrency=settings.triton_concurrency)
        stack.push_async_callback(triton.close)
        await triton.refresh()
        await stack.enter_async_context(running(triton.run()))
        catalog = SpaceCatalog(
            settings.model_repository,
            code_encoder=settings.code_encoder,
            text_encoder=settings.text_encoder,
            make_embedder=lambda space: Embedder(space, triton, _cache(settings, database, space)),
        )
        served = catalog.served()
        await migrate(settings.database_url)
        database = await Database.connect(settings.database_url, max_size=settings.database_pool_size)
        stack.push_async_callback(database.close)
        stack.push_async_callback(catalog.close)
        system = database.as_system()
        await ensure_admin_key(system, given=_admin_key(settings), file=settings.admin_key_file)
        spaces = _spaces(system, settings)
        serving = await _begin(spaces, catalog, served)
        await stack.enter_async_context(running(serving.run()))
        await stack.enter_async_context(running(Reembedder(system, spaces, serving).run()))
        index_builder = IndexBuilder(spaces, WordCounts(system), serving)
        await stack.enter_async_context(running(index_builder.run()))
        recall_watch = RecallWatch(system, target=settings.recall_target, period_s=settings.recall_period_s)
        await stack.enter_async_context(running(watch_recall(recall_watch, serving)))
        log = SearchLog(system) if settings.search_log else None
        if log is not None:
            await stack.enter_async_context(log.running())
        keeper = SearchLogKeeper(system, retention=timedelta(days=settings.search_log_retention_days))
        await stack.enter_async_context(running(keeper.run()))
        audit_keeper = AuditKeeper(system, retention=timedelta(days=settings.audit_log_retention_days))
        await stack.enter_async_context(running(audit_keeper.run()))
        timeout_s = settings.request_timeout_s
        quotas = Quotas(Quota(settings.quota_requests_per_s, settings.quota_tokens_per_minute))
        statistics = RequestStatistics()
        tracing = await stack.enter_async_context(_tracing(settings.otlp_endpoint))
        principals = PrincipalStore(database)
        observer = Observer(statistics, tracing=tracing, log_requests=settings.log_requests)
        intake = Intake()
        interceptors = (
            ObservingInterceptor(observer),
            ErrorInterceptor(timeout_s=timeout_s),
            AuthenticationInterceptor(principals, quotas, timeout_s=timeout_s),
            IntakeInterceptor(intake),
        )
        server = grpc.aio.server(interceptors=interceptors, options=_options(settings))
        admission = Admission(
            triton.meter, max_pending_tokens=settings.max_pending_tokens, max_streams=settings.max_streams
        )
        asked = _spaces(database.as_administrator(), settings)
        parts = Parts(catalog, asked, serving, database, index_builder, admission, quotas, log, statistics)
        services = build_services(settings, parts)
        for service in services:
            service.add(service.servicer, server)
        health_servicer = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
        names = ("", *SERVICES)
        for name in names:
            await health_servicer.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)
        reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        port, *_ = [listener.bind(server) for listener in listeners]
        monitor = HealthMonitor(health_servicer, names, serving, database)
        if settings.metrics_listen is not None:
            facts, lag = BackgroundFacts(triton, system, serving), LoopLag()
            for watch in (facts.watch_triton(), facts.watch_database(), lag.run()):
                await stack.enter_async_context(running(watch))
            collector = GatewayCollector(
                statistics, triton, serving, admission, intake, database, log, monitor, facts, lag, tls
            )
            metrics_port = stack.enter_context(metrics_served(settings.metrics_listen, collector))
            logger.info("metrics on port %d of %s", metrics_port, settings.metrics_listen)
        http = None
        if http_listener is not None:
            door = Door(principals, quotas, observer, intake, timeout_s=timeout_s)
            calls = EmbeddingCalls(serving, principals, admission, quotas, timeout_s=timeout_s)
            app = build_app(
                door,
                services,
                Embeddings(serving, calls),
                Models(serving, spaces),
                is_serving=lambda: monitor.is_serving,
            )
            http = HttpServer(
                app,
                http_listener,
                timeout_s=timeout_s,
                drain_s=settings.drain_s,
                max_connections=connections_a_door(),
            )
        await server.start()
        # The last to start is the first to end: health says NOT_SERVING, then requests in flight finish at both doors.
        stack.push_async_callback(_drain, server, http, settings.drain_s)
        stack.push_async_callback(health_servicer.enter_graceful_shutdown)
        if http is not None:
            await http.start()
            logger.info("HTTP on port %d of %s", http.port, settings.http_listen)
        await stack.enter_async_context(running(monitor.run()))
        logger.info("listening on %s, space %s", settings.listen, serving.active.fingerprint)
        yield port


def _spaces(database: Database, settings: Settings) -> SpaceStore:
    return SpaceStore(
        database, index_memory_mb=settings.index_memory_mb, binary_above_count=settings.binary_index_above
    )


def _listeners(settings: Settings, tls: TlsFiles | None) -> list[Listener]:
    listeners = [Listener(settings.listen, "DUOVEC_LISTEN", tls, settings.allow_insecure)]
    if (own := settings.own_listen) is not None:
        # What probes one process from its own machine needs no certificate, and may not be able to show one.
        own_tls = None if is_local(own) else tls
        listeners.append(Listener(own, "DUOVEC_OWN_LISTEN", own_tls, settings.allow_insecure))
    return listeners


def _http_listener(settings: Settings, tls: TlsFiles | None) -> HttpListener | None:
    if settings.http_listen is None:
        return None
    return HttpListener(settings.http_listen, tls, settings.allow_insecure, settings.reuse_port)


async def _drain(server: grpc.aio.Server, http: HttpServer | None, drain_s: float) -> None:
    await asyncio.gather(server.stop(drain_s), *(() if http is None else (http.stop(),)))


def _options(settings: Settings) -> Options:
    # Where processes are not meant to share the port, a second gateway on it is a mistake, and is refused.
    return [
        *server_options(),
        ("grpc.so_reuseport", int(settings.reuse_port)),
        # Of each address; whoever comes beyond them is hung up on. Unlimited by default.
        ("grpc.max_allowed_incoming_connections", connections_a_door()),
    ]


async def _begin(spaces: SpaceStore, catalog: SpaceCatalog, served: Space) -> Serving:
    """Take up the active space, and prove that Triton serves its encoders where it can be reached."""
    active = await spaces.ensure_active(served.fingerprint, served.identity)
    try:
        embedder = await catalog.embedder(active.fingerprint, active.manifest)
        await embedder.prove(timeout_s=_PROOF_TIMEOUT_S)
    except (SpaceNotReady, SpaceMismatch) as exc:
        raise StartupError(f"the vectors of the database are of space {active.fingerprint}: {exc}") from exc
    except DuovecError as exc:
        logger.warning("the encoders are not proven yet, nothing is embedded before: %s", exc)
    if active.fingerprint != served.fingerprint:
        logger.warning(
            "the served encoders make space %s, which is not the active one; `duovec space build` begins the change",
            served.fingerprint,
        )
    serving = Serving(spaces, catalog, ServedSpace(active.space_key, embedder))
    await serving.refresh()
    return serving


@asynccontextmanager
async def _tracing(endpoint: str | None) -> AsyncIterator[Tracing | None]:
    """Traces to a collector for the length of the block; None where there is none."""
    if endpoint is None:
        yield None
        return
    try:
        # An extra: without it nothing of OpenTelemetry is imported.
        from gateway.telemetry.tracing import Tracing as OtlpTracing
    except ImportError as exc:
        raise StartupError(
            f"DUOVEC_OTLP_ENDPOINT is {endpoint}, and {exc.name} is not installed; pip install 'duovec[otel]'"
        ) from exc
    tracing = OtlpTracing(endpoint)
    try:
        yield tracing
    finally:
        await asyncio.to_thread(tracing.close)


def _cache(settings: Settings, database: Database, space: Space) -> CachedEmbeddings | None:
    if settings.cache_max_texts == 0:
        return None
    return CachedEmbeddings(database, space.fingerprint, max_texts=settings.cache_max_texts)


def _admin_key(settings: Settings) -> ApiKey | None:
    if settings.admin_key is None:
        return None
    key = ApiKey.parse(settings.admin_key.get_secret_value())
    if key is None:
        raise StartupError("DUOVEC_ADMIN_KEY is not of the form duovec_<12 of a-z and 0-9>_<64 hex digits>")
    return key


async def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then drain."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(ShortageTold())
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop.set)
    async with serve(settings):
        # What is loaded by now stays: looking through it for cycles stops every call for 20 ms, time and again.
        gc.collect()
        gc.freeze()
        await stop.wait()
        logger.info("draining")


def main() -> None:
    """Entry point: exit code 1 with one line when the gateway cannot start."""
    try:
        settings = Settings.from_environment()
        raise_limit()
        return_large_buffers()
        configure_logging(settings.log_format)
        asyncio.run(run(settings))
    except DuovecError as exc:
        sys.exit(f"error: {exc}")


if __name__ == "__main__":
    main()
