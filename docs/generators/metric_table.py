"""The metrics of `gateway/telemetry/collector.py`, as a table."""

from types import SimpleNamespace
from typing import Any

from markdown_tables import table

from gateway.telemetry.collector import GatewayCollector
from gateway.telemetry.histogram import Histogram


def metric_table() -> str:
    """Names as they are asked for, with the labels and what is counted."""
    rows = [
        [
            f"`{metric.name}{'_total' if metric.type == 'counter' else ''}`",
            metric.type,
            # Public only in samples, of which there are none yet.
            ", ".join(f"`{label}`" for label in getattr(metric, "_labelnames", ())),
            metric.documentation,
        ]
        for metric in _idle().collect()
    ]
    return table(["Metric", "Type", "Labels", "What it is"], rows)


def _idle() -> GatewayCollector:
    """Of a gateway that has done nothing yet: it names every metric all the same."""
    room = SimpleNamespace(pending=0, limit=0, refused_count=0)
    requests: Any = SimpleNamespace(methods={})
    triton: Any = SimpleNamespace(loads={})
    serving: Any = SimpleNamespace(active=SimpleNamespace(embedder=SimpleNamespace(caching=None)))
    admission: Any = SimpleNamespace(
        calls=room,
        stream_count=0,
        max_streams=0,
        refused_stream_count=0,
        bulk_tokens=0,
        waiting_batch_count=0,
        tokens_per_s=None,
    )
    intake: Any = SimpleNamespace(in_work=room)
    database: Any = SimpleNamespace(busy_count=0, open_count=0, max_size=0)
    health: Any = SimpleNamespace(is_serving=False, age_s=None)
    facts: Any = SimpleNamespace(backends=SimpleNamespace(by_encoder={}), spaces=(), recall=None)
    lag: Any = SimpleNamespace(lateness=Histogram(()))
    return GatewayCollector(requests, triton, serving, admission, intake, database, None, health, facts, lag, tls=None)
