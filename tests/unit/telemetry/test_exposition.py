"""Metrics over HTTP, beside the event loop."""

import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families

from gateway.errors import StartupError
from gateway.telemetry.exposition import metrics_served


class One:
    """A collector of one number."""

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("duovec_one", "One.", value=1)


def scrape(port: int, host: str = "127.0.0.1") -> dict[str, float]:
    with urllib.request.urlopen(f"http://{host}:{port}/metrics") as reply:
        families = text_string_to_metric_families(reply.read().decode())
        return {sample.name: sample.value for family in families for sample in family.samples}


def test_what_is_collected_is_served_with_the_figures_of_the_process() -> None:
    with metrics_served("127.0.0.1:0", One()) as port:
        found = scrape(port)
    assert found["duovec_one"] == 1
    assert found["process_resident_memory_bytes"] > 1e6
    assert "python_gc_collections_total" in found


def test_the_port_is_free_again_at_the_end() -> None:
    """A gateway that is started again takes it at once."""
    with metrics_served("127.0.0.1:0", One()) as port:
        scrape(port)
    with metrics_served(f"127.0.0.1:{port}", One()) as again:
        assert again == port


@pytest.mark.parametrize(
    "listen", ["127.0.0.1:99999", "127.0.0.1", "127.0.0.1:x", "192.0.2.1:9464", ":0", "0", "[]:0", ""]
)
def test_an_address_that_cannot_be_had_is_refused(listen: str) -> None:
    """The message names the setting. A port alone is no address: it would be every one that the machine has."""
    with pytest.raises(StartupError, match=r"cannot serve metrics on .*; set DUOVEC_METRICS_LISTEN"):
        metrics_served(listen, One()).__enter__()


def test_a_port_that_is_taken_is_refused() -> None:
    with metrics_served("127.0.0.1:0", One()) as port, pytest.raises(StartupError, match=str(port)):
        metrics_served(f"127.0.0.1:{port}", One()).__enter__()
