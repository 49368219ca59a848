"""`duovec up`: the whole service on this machine, in the foreground."""

import asyncio
import json
import signal
import time
from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.client.credentials import forget_api_key, save_api_key
from gateway.errors import DuovecError

if TYPE_CHECKING:
    from gateway.local.part import PartEvent
    from gateway.local.stack import Stack, StackSettings

DEFAULT_DATA_DIR = Path("~/.local/share/duovec")
DEFAULT_HTTP_LISTEN = "127.0.0.1:8080"
DataDir = Annotated[
    Path, typer.Option(envvar="DUOVEC_DATA_DIR", help="Folder for the database, the logs and the models.")
]
Repository = Annotated[
    Path | None, typer.Option(help="Model repository; DATA_DIR/model_repository when not given.", show_default=False)
]


class Pair(StrEnum):
    """Which two encoders to serve."""

    COMPACT = "compact"
    FULL = "full"


WhichPair = Annotated[Pair, typer.Option("--pair", help="Two small encoders, or Qodo and Jina once published.")]
Listen = Annotated[str, typer.Option(help="host:port of the gateway; port 0 takes a free one.")]
Gateways = Annotated[
    int,
    typer.Option(
        min=1,
        max=4,
        help="Gateway processes behind the one port; more than one where cores are left over by the encoders.",
    ),
]
MetricsListen = Annotated[
    str,
    typer.Option(help="host:port of the metrics, of more gateways the next ports; port 0 takes free ones."),
]
HttpListen = Annotated[
    str | None,
    typer.Option(
        help="host:port of HTTP: the OpenAI-compatible API. Port 0 takes a free one.",
        show_default=f"{DEFAULT_HTTP_LISTEN}, or a free port where that is taken",
    ),
]
TritonTracesUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Where Triton sends spans of traced calls, http://host:4318/v1/traces; the gateway's take "
        "DUOVEC_OTLP_ENDPOINT.",
        show_default=False,
    ),
]
Report = Callable[[str, dict[str, Any]], None]

_STYLES = {"starting": "yellow", "ready": "green", "stopping": "yellow", "stopped": "bright_black", "failed": "red"}


def stack_settings(
    data_dir: Path,
    repository: Path | None,
    listen: str,
    pair: Pair,
    gateways: int = 1,
    metrics_listen: str = "127.0.0.1:0",
    http_listen: str = "127.0.0.1:0",
    triton_traces_url: str | None = None,
) -> "StackSettings":
    """Settings from a command's options, with `~` expanded.

    Raises:
        typer.BadParameter: An address is not `host:port`; the command ends with exit code 2.
    """
    from gateway.local.stack import StackSettings

    try:
        return StackSettings(
            data_dir=data_dir.expanduser().absolute(),
            model_repository=repository.expanduser().absolute() if repository else None,
            listen=listen,
            pair=pair,
            gateways=gateways,
            metrics_listen=metrics_listen,
            http_listen=http_listen,
            triton_traces_url=triton_traces_url,
        )
    except DuovecError as exc:
        options = {
            "--metrics-listen": metrics_listen,
            "--http-listen": http_listen,
            "--triton-traces-url": triton_traces_url,
        }
        hint = next((option for option, value in options.items() if repr(value) in str(exc)), "--listen")
        raise typer.BadParameter(str(exc), param_hint=hint) from exc


def up(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    repository: Repository = None,
    listen: Listen = "127.0.0.1:50051",
    pair: WhichPair = Pair.COMPACT,
    gateways: Gateways = 1,
    metrics_listen: MetricsListen = "127.0.0.1:0",
    http_listen: HttpListen = None,
    triton_traces_url: TritonTracesUrl = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line for every event.")] = False,
) -> None:
    """Run PostgreSQL, Triton and the gateway until Ctrl-C or SIGTERM.

    A part that dies is started again, and so is Triton when it does not answer for half a minute. What fails five
    times within ten minutes is beyond help: the command stops the rest and ends with exit code 1. Only one `up` at a
    time uses a data directory. The limits of the gateway (DUOVEC_MAX_PENDING_TOKENS and so on) are of each process.

    Examples:

        duovec up

        duovec up --data-dir .duovec --listen 127.0.0.1:50052

        duovec up --pair full --repository /srv/models --gateways 2

        duovec up --json | jq -r 'select(.event == "ready").endpoint'
    """
    settings = stack_settings(
        data_dir,
        repository,
        listen,
        pair,
        gateways,
        metrics_listen,
        http_listen or _default_http_listen(),
        triton_traces_url,
    )
    report = _report_json if as_json else lines_reporter()
    asyncio.run(_run(settings, report))


def _default_http_listen() -> str:
    """A second `up` on this machine has a port of its own, as long as none was asked for."""
    from gateway.local.process import check_port_is_free

    try:
        check_port_is_free(DEFAULT_HTTP_LISTEN)
    except DuovecError:
        return "127.0.0.1:0"
    return DEFAULT_HTTP_LISTEN


async def _run(settings: "StackSettings", report: Report) -> None:
    from gateway.local.part import StackFailure
    from gateway.local.stack import Stack

    started_at = time.monotonic()

    def on_event(event: "PartEvent") -> None:
        report("part", part_fields(event, started_at=started_at))

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    stack = Stack(settings, on_event=on_event)
    try:
        await _start_unless_stopped(stack.start(), stop)
        if not stop.is_set():
            _keep_key(stack)
            elapsed_s = round(time.monotonic() - started_at, 3)
            fields = {
                "endpoint": stack.endpoint,
                "http_url": stack.http_url,
                "metrics_endpoints": stack.metrics_endpoints,
                "admin_key_file": str(stack.admin_key_file),
                "elapsed_s": elapsed_s,
            }
            report("ready", fields)
            await stack.run_until(stop)
    except StackFailure as exc:
        report("error", {"message": str(exc), "part": exc.part, "log_tail": exc.log_tail})
        raise
    except DuovecError as exc:
        report("error", {"message": str(exc)})
        raise
    finally:
        if stack.api_key:
            forget_api_key(stack.reachable_at, stack.api_key)
        await stack.stop()
    report("stopped", {})


def _keep_key(stack: "Stack") -> None:
    """Let the commands of this account find the administrator's key by the endpoint for as long as it runs."""
    try:
        save_api_key(stack.reachable_at, stack.api_key)
    except OSError as exc:
        hint = f'export DUOVEC_API_KEY="$(cat {stack.admin_key_file})"'
        typer.echo(f"note: the key cannot be kept for other commands ({exc}); run {hint}", err=True)


async def _start_unless_stopped(start: Any, stop: asyncio.Event) -> None:
    """Start the stack; a Ctrl-C meanwhile takes back what has started, instead of waiting for the rest."""
    starting = asyncio.create_task(start)
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if starting.done():
        starting.result()
        return
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)


def part_fields(event: "PartEvent", *, started_at: float) -> dict[str, Any]:
    """What is reported of a part's change of state."""
    return asdict(event) | {"elapsed_s": round(time.monotonic() - started_at, 3)}


def _report_json(event: str, fields: dict[str, Any]) -> None:
    typer.echo(json.dumps({"event": event, **fields}))


def lines_reporter() -> Report:
    """One line an event: what a person reads while it runs, and what a log file keeps."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)

    def report(event: str, fields: dict[str, Any]) -> None:
        if event == "part" and fields["state"] != "failed":
            pid = f"  pid {fields['pid']}" if fields["pid"] else ""
            line = Text(f"{fields['elapsed_s']:6.2f} s  {fields['part']:<10}")
            line.append(f"{fields['state']:<9}", style=_STYLES[fields["state"]])
            line.append(f"{fields['detail']}{pid}", style="bright_black")
            console.print(line)
        elif event == "ready":
            console.print(Text(f"duovec is ready on {fields['endpoint']}", style="bold green"))
            console.print(
                Text(
                    f"HTTP is at {fields['http_url']}: the console at /console, OpenAI's API at /v1.",
                    style="bright_black",
                )
            )
            metrics = ", ".join(f"http://{endpoint}/metrics" for endpoint in fields["metrics_endpoints"])
            console.print(Text(f"Metrics are at {metrics}.", style="bright_black"))
            console.print(Text(f"The administrator's key is in {fields['admin_key_file']}.", style="bright_black"))
            console.print(Text("Ctrl-C stops it.", style="bright_black"))
        elif event == "error" and fields.get("log_tail"):
            console.print(Text(f"The end of the log of {fields['part']}:\n{fields['log_tail']}", style="bright_black"))
        elif event == "stopped":
            console.print(Text("Everything has stopped.", style="bright_black"))

    return report
