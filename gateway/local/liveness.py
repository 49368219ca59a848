"""Whether Triton answers: it is asked for real rows, by HTTP, and each answer must be one to its row.

Triton's own health says yes while a process of its Python backend is dead or stopped, and it starts none of them again;
one that was stopped for a while and goes on answers each request with what the one before was due. Nothing but a new
Triton mends that. So `duovec up` asks this way, and so do the probes of the containers, which run this very file:
it imports nothing but Python's own.

    python3 liveness.py [--url http://127.0.0.1:8000] [--timeout 10] [--kill-after 3]
"""

import argparse
import json
import os
import random
import signal
import struct
import sys
import time
import urllib.error
import urllib.request
import zlib
from pathlib import Path
from typing import Any

TIMEOUT_S = 10.0
"""For all that is asked at a time. A row of the first priority waits for little more than what runs."""
KILL_AFTER = 3
"""Failures in a row, after which Triton is started anew."""
_TOKENS = 16  # the shortest row that every backend's shapes fit
_ROWS = 2  # the processes of an encoder take turns
_BUSY = ("timeout expired", "exceeds maximum queue size")
# No proxy that the environment names: it would be asked for its own 127.0.0.1.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_FAILURES = Path("/tmp/duovec-liveness")  # noqa: S108 - of a container, where nobody else is


class NotAlive(Exception):
    """Triton does not answer as it must; one line."""


def check(url: str, *, timeout_s: float = TIMEOUT_S) -> None:
    """Ask every version that is loaded for some rows.

    Args:
        url: Of Triton's HTTP, such as `http://127.0.0.1:8000`.
        timeout_s: For all of it, seconds.

    Raises:
        NotAlive: It does not answer in time and does nothing else either, or answers an error, or to another row.
    """
    ask = _Asker(url, time.monotonic() + timeout_s)
    models = ask("repository/index", {"ready": True})
    if not models:
        raise NotAlive("no model is loaded")
    for model in models:
        path = f"models/{model['name']}/versions/{model['version']}"
        description = ask(path)
        for _ in range(_ROWS):
            before = _executions(ask, path)
            try:
                _ask_row(ask, path, description)
            except _Late as exc:
                if _executions(_Asker(url, time.monotonic() + timeout_s), path) == before:
                    raise NotAlive(f"{path}: {exc}") from exc
                # Busy is not dead: who does other work has no need of being started anew. No time is left for more.
                return


class _Late(NotAlive):
    """No answer in time."""


class _Asker:
    def __init__(self, url: str, ends_at: float) -> None:
        self._url = url
        self._ends_at = ends_at

    def __call__(self, path: str, body: object = None) -> Any:
        """The reply's JSON; a POST where there is a body."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._url}/v2/{path}", data)  # noqa: S310 - an address that we were given
        left_s = max(0.1, self._ends_at - time.monotonic())
        try:
            with _OPENER.open(request, timeout=left_s) as reply:
                return json.load(reply)
        except TimeoutError as exc:
            raise _Late(f"no answer to {path} in time") from exc
        except urllib.error.HTTPError as exc:
            said = exc.read().decode(errors="replace")
            kind = _Late if any(words in said for words in _BUSY) else NotAlive
            raise kind(f"{path}: {said[:300]}") from exc
        except (OSError, ValueError) as exc:
            if isinstance(getattr(exc, "reason", None), TimeoutError):
                raise _Late(f"no answer to {path} in time") from exc
            raise NotAlive(f"{path}: {exc}") from exc


def _ask_row(ask: _Asker, path: str, description: dict[str, Any]) -> None:
    """Have one row embedded that nobody had asked for before."""
    ids = [random.randrange(1, 1000) for _ in range(_TOKENS)]  # noqa: S311 - nothing secret
    values = {"input_ids": ids, "attention_mask": [1] * _TOKENS, "task_id": [0]}
    inputs = [
        {"name": one["name"], "datatype": "INT64", "shape": [1, len(values[one["name"]])], "data": values[one["name"]]}
        for one in description["inputs"]
    ]
    wanted = "row_digest" if any(one["name"] == "row_digest" for one in description["outputs"]) else None
    outputs = [{"name": wanted or description["outputs"][0]["name"]}]
    answer = ask(f"{path}/infer", {"inputs": inputs, "outputs": outputs, "parameters": {"priority": 1}})
    found = answer["outputs"][0]["data"]
    # As `export.python_backend.host.row_digests` makes it.
    if wanted and found != [zlib.crc32(struct.pack(f"={_TOKENS}q", *ids), 0)]:
        raise NotAlive(f"{path} answers to other rows than it was asked for")


def _executions(ask: _Asker, path: str) -> int:
    return int(ask(f"{path}/stats")["model_stats"][0]["execution_count"])


def main() -> None:
    """Exit code 1, and one line, where Triton is not alive."""
    parser = argparse.ArgumentParser(description="Whether Triton answers what it is asked.")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="Of Triton's HTTP.")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_S, help="For all that is asked, seconds.")
    parser.add_argument(
        "--kill-after",
        type=int,
        help="Kill the Triton of this container after so many failures in a row, once it had answered: Docker itself "
        "starts nothing again that is not healthy, but what has ended.",
    )
    options = parser.parse_args()
    try:
        check(options.url, timeout_s=options.timeout)
    except NotAlive as exc:
        if options.kill_after and _counted() >= options.kill_after:
            _kill_triton()
        sys.exit(f"Triton is not alive: {exc}")
    if options.kill_after:
        _FAILURES.write_text("0")


def _counted() -> int:
    """Failures since it answered last; none where it never did, for it may still be loading."""
    if not _FAILURES.exists():
        return 0
    count = int(_FAILURES.read_text() or 0) + 1
    _FAILURES.write_text(str(count))
    return count


def _kill_triton() -> None:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "comm").read_text().strip() == "tritonserver":
                os.kill(int(process.name), signal.SIGKILL)
        except OSError:  # it has ended meanwhile
            continue


if __name__ == "__main__":
    main()
