"""`duovec mcp --http` as a process."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.local.process import free_port


@contextmanager
def mcp_over_http(endpoint: str, log: Path) -> Iterator[str]:
    """Give the URL of a server without a key of its own, which writes its stderr to `log`."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/mcp"
    environment = {name: value for name, value in os.environ.items() if name != "DUOVEC_API_KEY"}
    duovec = str(Path(sys.executable).with_name("duovec"))
    command = [duovec, "mcp", "--endpoint", endpoint, "--http", f"127.0.0.1:{port}"]
    with log.open("w") as stderr, subprocess.Popen(command, stderr=stderr, env=environment) as process:
        try:
            while status(url) is None:
                assert process.poll() is None, log.read_text()
                time.sleep(0.05)
            yield url
        finally:
            process.terminate()
            process.wait(timeout=30)


def status(url: str, **headers: str) -> int | None:
    """The status of a request without MCP in it; None while nobody listens."""
    request = urllib.request.Request(
        url, data=b"{}", headers={name.replace("_", "-"): headers[name] for name in headers}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None
