"""What the service counts, in the form of Prometheus; gathered when somebody asks for it, in another thread.

The names end up in dashboards and alerts: see deploy/prometheus and deploy/grafana. A metric that has no values yet is
named all the same. No label has values that callers choose: principals, codebases and texts are in none.
"""

import importlib.metadata
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from gateway.embedding.fleet import TritonFleet
from gateway.rpc.admission import BULK_TOKENS, Admission
from gateway.rpc.health import HealthMonitor
from gateway.rpc.intake import Intake
from gateway.rpc.tls import TlsFiles
from gateway.spaces.serving import Serving
from gateway.store.pool import Database
from gateway.store.search_log import SearchLog
from gateway.telemetry.background import BackgroundFacts
from gateway.telemetry.histogram import Histogram
from gateway.telemetry.loop_lag import LoopLag
from gateway.telemetry.requests import RequestStatistics

_SHORT = 12  # hex digits of a fingerprint, as `duovec space list` shows


@dataclass(frozen=True, slots=True)
class GatewayCollector:
    """The parts of one gateway process that count something. Implements prometheus_client's `Collector`."""

    requests: RequestStatistics
    triton: TritonFleet
    serving: Serving
    admission: Admission
    intake: Intake
    database: Database
    log: SearchLog | None
    health: HealthMonitor
    facts: BackgroundFacts
    lag: LoopLag
    tls: TlsFiles | None

    def collect(self) -> Iterator[Metric]:
        """Give every metric."""
        yield _gauge("duovec_build_info", "1, for this version.", 1, version=importlib.metadata.version("duovec"))
        yield _gauge("duovec_serving", "1 while the canary is embedded, stored and found.", self.health.is_serving)
        yield _gauge("duovec_canary_age_seconds", "Time since the canary was last looked for.", self.health.age_s)
        yield _histogram(
            "duovec_event_loop_lag_seconds", "How late the event loop runs what is due.", self.lag.lateness
        )
        end_s = None if self.tls is None else self.tls.end_time.timestamp()
        yield _gauge("duovec_tls_end_timestamp_seconds", "When the TLS certificate in use expires.", end_s)
        yield from self._requests()
        yield from self._triton()
        yield from self._cache()
        yield from self._admission()
        yield from self._store()
        yield from self._facts()

    def _requests(self) -> Iterator[Metric]:
        calls = CounterMetricFamily(
            "duovec_requests",
            "Calls that have ended; CANCELLED by their caller, or its deadline.",
            labels=("method", "code"),
        )
        items = CounterMetricFamily("duovec_stream_items", "Replies to items of streams.", labels=("method", "code"))
        running = GaugeMetricFamily("duovec_requests_running", "Calls that have not ended.", labels=("method",))
        durations = _histograms("duovec_request_duration_seconds", "Time of a call; of a stream all of it.", "method")
        batches = _histograms("duovec_batch_duration_seconds", "Time of a batch of a stream.", "method")
        stages = _histograms(
            "duovec_stage_duration_seconds", "Time that a call, or a batch of a stream, spent in it.", "method", "stage"
        )
        for method, seen in list(self.requests.methods.items()):
            for code, count in list(seen.code_counts.items()):
                calls.add_metric((method, code), count)
            for code, count in list(seen.item_code_counts.items()):
                items.add_metric((method, code), count)
            running.add_metric((method,), seen.running_count)
            if seen.durations.count:
                durations.add_metric((method,), seen.durations.buckets(), seen.durations.sum)
            if seen.batch_durations.count:
                batches.add_metric((method,), seen.batch_durations.buckets(), seen.batch_durations.sum)
            for stage, histogram in list(seen.stages.items()):
                stages.add_metric((method, stage), histogram.buckets(), histogram.sum)
        yield from (calls, items, running, durations, batches, stages)

    def _triton(self) -> Iterator[Metric]:
        rows = _histograms("duovec_triton_request_rows", "Texts of a request to Triton.", "encoder")
        tokens = CounterMetricFamily("duovec_triton_tokens", "Tokens sent to Triton.", labels=("encoder",))
        padding = CounterMetricFamily(
            "duovec_triton_padding_tokens", "Tokens of padding sent with them.", labels=("encoder",)
        )
        failures = CounterMetricFamily(
            "duovec_triton_request_failures", "Requests that were not answered with vectors.", labels=("encoder",)
        )
        for encoder, load in list(self.triton.loads.items()):
            rows.add_metric((encoder,), load.rows.buckets(), load.rows.sum)
            tokens.add_metric((encoder,), load.token_count)
            padding.add_metric((encoder,), load.padding_count)
            failures.add_metric((encoder,), load.failed_count)
        yield from (rows, tokens, padding, failures)
        # Triton's own count, of all that ask it: gateways that share it show the same rates.
        backend = {
            name: CounterMetricFamily(f"duovec_triton_backend_{name}", text, labels=("encoder",))
            for name, text in (
                ("rows", "Rows that Triton has answered, whoever asked."),
                ("executions", "Times that it ran the model for them."),
                ("queue_seconds", "Time that requests waited in Triton."),
                ("compute_seconds", "Time that they were computed."),
            )
        }
        for encoder, seen in list(self.facts.backends.by_encoder.items()):
            backend["rows"].add_metric((encoder,), seen.row_count)
            backend["executions"].add_metric((encoder,), seen.execution_count)
            backend["queue_seconds"].add_metric((encoder,), seen.queue_s)
            backend["compute_seconds"].add_metric((encoder,), seen.compute_s)
        yield from backend.values()

    def _cache(self) -> Iterator[Metric]:
        texts = CounterMetricFamily("duovec_cache_texts", "Texts by what became of them.", labels=("outcome",))
        failures = CounterMetricFamily(
            "duovec_cache_failures", "Look-ups and writes that failed.", labels=("operation",)
        )
        evicted = CounterMetricFamily("duovec_cache_evicted_texts", "Texts deleted to make room.")
        caching = self.serving.active.embedder.caching
        if caching is not None:
            counters = caching.counters
            for outcome in ("hit", "miss", "shared"):
                texts.add_metric((outcome,), getattr(counters, f"{outcome}_count"))
            for operation in ("read", "write"):
                failures.add_metric((operation,), getattr(counters, f"{operation}_failure_count"))
            evicted.add_metric((), caching.evicted_count)
        yield from (texts, failures, evicted)

    def _admission(self) -> Iterator[Metric]:
        admission = self.admission
        yield _gauge("duovec_admission_pending_tokens", "Tokens of unary calls in work.", admission.calls.pending)
        yield _gauge("duovec_admission_max_pending_tokens", "Their limit.", admission.calls.limit)
        yield _gauge("duovec_admission_request_bytes", "Of unary requests in work.", self.intake.in_work.pending)
        yield _gauge("duovec_admission_max_request_bytes", "Their limit.", self.intake.in_work.limit)
        yield _gauge("duovec_admission_streams", "Streams that are open.", admission.stream_count)
        yield _gauge("duovec_admission_max_streams", "Their limit.", admission.max_streams)
        yield _gauge("duovec_admission_bulk_tokens", "Tokens of batches of streams in work.", admission.bulk_tokens)
        yield _gauge("duovec_admission_max_bulk_tokens", "Their limit.", BULK_TOKENS)
        yield _gauge("duovec_admission_waiting_batches", "Batches that stand in line.", admission.waiting_batch_count)
        yield _gauge("duovec_encoder_tokens_per_second", "What both encoders do lately.", admission.tokens_per_s or 0.0)
        refusals = CounterMetricFamily(
            "duovec_admission_refusals", "Refused since there was too much.", labels=("kind",)
        )
        refusals.add_metric(("call",), admission.calls.refused_count)
        refusals.add_metric(("stream",), admission.refused_stream_count)
        refusals.add_metric(("memory",), self.intake.in_work.refused_count)
        yield refusals

    def _store(self) -> Iterator[Metric]:
        connections = GaugeMetricFamily("duovec_pool_connections", "Connections to PostgreSQL.", labels=("state",))
        busy_count, open_count = self.database.busy_count, self.database.open_count
        connections.add_metric(("busy",), busy_count)
        connections.add_metric(("idle",), open_count - busy_count)
        yield connections
        yield _gauge("duovec_pool_max_connections", "Connections at most.", self.database.max_size)
        log = self.log
        yield _gauge(
            "duovec_search_log_waiting",
            "Searches that are not written yet.",
            None if log is None else log.waiting_count,
        )
        yield _gauge(
            "duovec_search_log_waiting_bytes", "Memory that they take.", None if log is None else log.waiting_bytes
        )
        yield _gauge(
            "duovec_search_log_max_waiting_bytes", "Its limit.", None if log is None else log.max_waiting_bytes
        )
        refused = CounterMetricFamily("duovec_search_log_refused", "Searches that found no room and are not logged.")
        if log is not None:
            refused.add_metric((), log.refused_count)
        yield refused

    def _facts(self) -> Iterator[Metric]:
        chunks = GaugeMetricFamily("duovec_space_chunks", "Chunks that belong into a space.", labels=("space", "state"))
        pending = GaugeMetricFamily("duovec_space_pending_chunks", "Those without vector.", labels=("space", "state"))
        for space in self.facts.spaces:
            labels = (space.fingerprint[:_SHORT], space.state)
            chunks.add_metric(labels, space.chunk_count)
            pending.add_metric(labels, space.pending_chunk_count)
        yield from (chunks, pending)
        codebases = GaugeMetricFamily(
            "duovec_recall_codebases",
            "Codebases whose recall is watched, by how they are searched.",
            labels=("searched",),
        )
        recall = self.facts.recall
        for searched, count in recall.counts.items() if recall else ():
            codebases.add_metric((searched,), count)
        yield codebases
        yield _gauge(
            "duovec_recall_oldest_check_seconds",
            "Age of the oldest check.",
            None if recall is None else recall.oldest_check_s,
        )
        yield _gauge(
            "duovec_recall_least_mean",
            "Least mean recall@10 of a codebase.",
            None if recall is None else recall.least_mean_recall,
        )
        yield _gauge(
            "duovec_recall_least",
            "Least recall@10 of a query of a check.",
            None if recall is None else recall.least_recall,
        )


def _gauge(name: str, text: str, value: float | None, **labels: str) -> Metric:
    """Of one value, or of none."""
    family = GaugeMetricFamily(name, text, labels=tuple(labels))
    if value is not None:
        family.add_metric(tuple(labels.values()), value)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    return HistogramMetricFamily(name, text, buckets=histogram.buckets(), sum_value=histogram.sum)


def _histograms(name: str, text: str, *labels: str) -> HistogramMetricFamily:
    return HistogramMetricFamily(name, text, labels=labels)
