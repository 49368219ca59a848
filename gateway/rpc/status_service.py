"""StatusService: how the service is doing."""

from typing import Any

import grpc

from duovec.v1 import status_service_pb2 as pb
from duovec.v1 import status_service_pb2_grpc as pb_grpc
from gateway.rpc.admission import Admission
from gateway.spaces.serving import Serving
from gateway.store.maintenance import MaintenanceStore
from gateway.store.maintenance_advice import Advice, TableStatus
from gateway.store.principals import PrincipalStore
from gateway.store.recall_watch import RecallStore, StoredCheck
from gateway.store.search_plan import FALLBACK_LIMIT
from gateway.telemetry.requests import MethodStatistics, RequestStatistics

Context = grpc.aio.ServicerContext[Any, Any]


class StatusServicer(pb_grpc.StatusServiceServicer):
    """Translates between the protos and the stores, for administrators."""

    def __init__(
        self,
        serving: Serving,
        recall: RecallStore,
        maintenance: MaintenanceStore,
        principals: PrincipalStore,
        statistics: RequestStatistics,
        admission: Admission,
        *,
        cache_max_texts: int,
        timeout_s: float,
    ) -> None:
        """Args: maintenance: As the system. principals: As the caller. timeout_s: Budget of a call, seconds."""
        self._serving = serving
        self._recall = recall
        self._maintenance = maintenance
        self._principals = principals
        self._statistics = statistics
        self._admission = admission
        self._cache_max_texts = cache_max_texts
        self._timeout_s = timeout_s

    async def GetStatus(self, request: pb.GetStatusRequest, context: Context) -> pb.GetStatusResponse:  # noqa: N802
        """Get the state of the requests, of the cache, of search and of storage."""
        await self._principals.require_admin(timeout_s=self._timeout_s)
        space = self._serving.active
        checks = await self._recall.list(space.space_key, timeout_s=self._timeout_s)
        tables, advice = await self._maintenance.inspect(timeout_s=self._timeout_s)
        methods = [
            _method(name, seen, elapsed_s=self._statistics.elapsed_s)
            for name, seen in self._statistics.methods.items()
            if seen.running_count or seen.durations.count
        ]
        methods.sort(key=lambda method: (-method.call_count, method.method))
        response = pb.GetStatusResponse(
            space=space.fingerprint,
            cache=self._cache(),
            recall_checks=[_recall_check(stored) for stored in checks],
            tables=[_table(table) for table in tables],
            advice=[_advice(each) for each in advice],
            methods=methods,
            admission=_admission(self._admission),
        )
        response.start_time.FromDatetime(self._statistics.start_time)
        return response

    def _cache(self) -> pb.CacheStatus:
        caching = self._serving.active.embedder.caching
        if caching is None:
            return pb.CacheStatus()
        counters = caching.counters
        return pb.CacheStatus(
            max_text_count=self._cache_max_texts,
            hit_count=counters.hit_count,
            miss_count=counters.miss_count,
            shared_count=counters.shared_count,
            read_failure_count=counters.read_failure_count,
            write_failure_count=counters.write_failure_count,
            evicted_count=caching.evicted_count,
        )


def _method(name: str, seen: MethodStatistics, *, elapsed_s: float) -> pb.MethodStatus:
    count = seen.durations.count
    return pb.MethodStatus(
        method=name,
        call_count=count,
        failed_call_count=count - seen.code_counts["OK"],
        running_call_count=seen.running_count,
        calls_per_second=count / elapsed_s,
        median_milliseconds=1e3 * (seen.durations.quantile(0.5) or 0.0),
        p99_milliseconds=1e3 * (seen.durations.quantile(0.99) or 0.0),
        item_count=seen.item_code_counts.total(),
    )


def _admission(admission: Admission) -> pb.AdmissionStatus:
    return pb.AdmissionStatus(
        pending_token_count=admission.calls.pending,
        max_pending_token_count=admission.calls.limit,
        stream_count=admission.stream_count,
        max_stream_count=admission.max_streams,
        waiting_batch_count=admission.waiting_batch_count,
        refused_call_count=admission.calls.refused_count,
        refused_stream_count=admission.refused_stream_count,
        tokens_per_second=admission.tokens_per_s or 0.0,
    )


def _recall_check(stored: StoredCheck) -> pb.RecallCheck:
    check = stored.check
    message = pb.RecallCheck(
        codebase_id=stored.codebase_id,
        method=check.method,
        ef=check.ef,
        raised=check.least_ef > 0,
        index_suffices=check.index_suffices,
        searched_exactly=not check.index_suffices and check.vector_count <= FALLBACK_LIMIT,
        query_count=check.query_count,
        mean_recall=check.mean_recall,
        minimum_recall=check.minimum_recall,
        target_recall=check.target_recall,
        vector_count=check.vector_count,
    )
    message.check_time.FromDatetime(stored.check_time)
    return message


def _table(table: TableStatus) -> pb.TableStatus:
    message = pb.TableStatus(
        table=table.table,
        row_count=table.row_count,
        dead_row_count=table.dead_row_count,
        table_bytes=table.table_bytes,
        index_bytes=table.index_bytes,
    )
    if table.vacuum_time is not None:
        message.vacuum_time.FromDatetime(table.vacuum_time)
    return message


def _advice(advice: Advice) -> pb.Advice:
    return pb.Advice(subject=advice.subject, finding=advice.finding, command=advice.command)
