"""OpenTelemetry is an extra: without it nothing of it is asked for, and what needs it says so."""

import subprocess
import sys

from gateway.server import _tracing

# Every import of it fails, as where it is not installed.
WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""


def run(program: str) -> str:
    ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return ran.stdout.strip()


def test_gateway_and_client_import_nothing_of_it_unless_told_to() -> None:
    """It is installed here, and would be imported by mistake."""
    program = """
import sys
import gateway.server, gateway.cli.main
from gateway.client.client import Client
Client("127.0.0.1:1", api_key="k").close()
print([name for name in sys.modules if name.startswith("opentelemetry.")])
"""
    assert run(program) == "[]"


def test_a_gateway_that_is_to_trace_without_it_says_what_to_install() -> None:
    program = f"""{WITHOUT}
import asyncio
from gateway.errors import StartupError
from gateway.server import _tracing

async def main():
    async with _tracing("http://127.0.0.1:4317"):
        pass

try:
    asyncio.run(main())
except StartupError as exc:
    print(exc)
"""
    assert run(program) == (
        "DUOVEC_OTLP_ENDPOINT is http://127.0.0.1:4317, and opentelemetry is not installed; pip install 'duovec[otel]'"
    )


async def test_without_an_endpoint_nothing_is_traced() -> None:
    async with _tracing(None) as tracing:
        assert tracing is None
