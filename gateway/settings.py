"""The gateway's settings; the only module that reads the environment."""

import difflib
import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateway.errors import StartupError
from gateway.telemetry.logs import LogFormat

Seconds = Annotated[float, Field(gt=0, le=3600)]

PREFIX = "DUOVEC_"
# What the commands read, and `duovec up` hands on to the gateway with the rest of its environment.
_OF_COMMANDS = {
    f"{PREFIX}{name}" for name in ("API_KEY", "CA_FILE", "CLIENT_CERTIFICATE", "CLIENT_KEY", "DATA_DIR", "ENDPOINT")
}
_STANDARD_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


def _addresses(value: str) -> str:
    """Refuse what no connection would ever be made to; a gateway would wait for it, and serve nothing."""
    places = [place.strip() for place in value.split(",") if place.strip()]
    for place in places or [value]:
        host, _, port = place.rpartition(":")
        if not host or "/" in host or not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
            raise ValueError(f"{place!r} is not host:port")
    return value


def _collector(value: str | None) -> str | None:
    """Refuse what no span would ever reach: they are sent by a thread of its own, and nobody would notice."""
    if value is None:
        return None
    matched = re.fullmatch(r"https?://(\[[0-9A-Fa-f:.]+\]|[^/\s:@?#\[\]]+)(?::([0-9]{1,5}))?/?", value)
    if matched is None or not 1 <= int(matched[2] or 4317) <= 65535:
        without_password = re.sub(r"//.*@", "//…@", value)
        raise ValueError(f"{without_password!r} is not http://host:port or https://host:port")
    return value


class Settings(BaseSettings):
    """What the gateway needs to run: each field is the environment variable `DUOVEC_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    database_url: str
    """PostgreSQL with pgvector, `postgresql://user:password@host:port/database`."""
    triton_url: Annotated[str, AfterValidator(_addresses)]
    """Triton's gRPC endpoint, `host:port`, or several that serve the same models, separated by commas. A name stands
    for all of its addresses. Work is dealt out to every Triton, and goes to the others when one is away."""
    model_repository: Path
    """The repository that Triton serves; the tokenizers and manifests are read from it."""
    listen: str = "127.0.0.1:50051"
    """Address of the gRPC port. One that is neither loopback nor a unix socket takes TLS."""
    tls_certificate: Path | None = None
    """Certificate of the port in PEM, with those that lead to its root. These three files may be replaced at any time:
    what they hold counts from the next connection on."""
    tls_key: Path | None = None
    """Private key of `tls_certificate` in PEM, not encrypted."""
    tls_client_ca: Path | None = None
    """Authorities in PEM of which every client must show a certificate; none is asked for without."""
    allow_insecure: bool = False
    """Whether an address that others may reach does without TLS, because something else encrypts."""
    reuse_port: bool = False
    """Whether several gateways of this machine may share `listen`, each connection going to one of them (SO_REUSEPORT);
    they must share the database, Triton and models. Every limit below is of each process for itself: two of them
    admit twice as many tokens and streams, and hold twice as many connections to PostgreSQL and requests to Triton."""
    own_listen: str | None = None
    """One more address, of this process alone where others share `listen`, such as `unix-abstract:gateway-2`: what asks
    for the health of one process asks there. Not encrypted on loopback and unix sockets, whatever `listen` is."""
    http_listen: str | None = None
    """`host:port` of HTTP: the OpenAI-compatible API, and the services as JSON. Encrypted as `listen` is, and shared by
    the gateways of this machine where `reuse_port` says so. None serves none."""
    admin_key_file: Path | None = None
    """File that holds a valid administrator's key once the gateway has started: one is made where it does not."""
    admin_key: SecretStr | None = None
    """An administrator's key, `duovec_<12 of a-z and 0-9>_<64 hex digits>`, taken where nobody has a valid one."""
    code_encoder: str = "compact-code"
    """Folder of the encoder of the first 1536 numbers."""
    text_encoder: str = "compact-text"
    """Folder of the encoder of the last 1024 numbers."""
    request_timeout_s: Seconds = 60.0
    """Longest time for a call with one reply, whatever deadline its caller set, for a batch of a stream, and for a
    stream's reply to be read, seconds."""
    max_pending_tokens: Annotated[int, Field(ge=1024, le=2**30)] = 262_144
    """Tokens of both encoders that calls and queries may have in work at once; above it: RESOURCE_EXHAUSTED. An eighth
    is kept for searches and small calls. The two cores that run the compact pair at 20,000 tokens a second need 13 s
    for these, a fifth of the deadline."""
    max_streams: Annotated[int, Field(ge=1, le=1024)] = 32
    """Streams that may be open at once. Another one gets the place of the one that sent nothing for longest, 10 s or
    more, which ends UNAVAILABLE, STREAM_IDLE; where none is idle: RESOURCE_EXHAUSTED."""
    quota_requests_per_s: Annotated[float, Field(ge=0, le=1e6)] = 0
    """Calls a second of each principal that `duovec principal limit` gave no limit of its own; above it:
    RESOURCE_EXHAUSTED. 0 for no limit."""
    quota_tokens_per_minute: Annotated[int, Field(ge=0, le=10**12)] = 0
    """Tokens of both encoders a minute, likewise; streams wait first, up to a minute."""
    triton_concurrency: Annotated[int, Field(ge=1, le=256)] = 8
    """Requests to each encoder of each Triton in flight at once."""
    cache_max_texts: Annotated[int, Field(ge=0, le=100_000_000)] = 50_000
    """Texts whose vectors the embedding cache keeps, 12.7 kB each in PostgreSQL; 0 keeps none."""
    database_pool_size: Annotated[int, Field(ge=5, le=200)] = 10
    """Connections to PostgreSQL. Filling a space and building indexes take up to three of them for hours."""
    search_log: bool = True
    """Whether searches are logged: who asked what, and which hits were shown. Without, there is no feedback."""
    search_log_retention_days: Annotated[int, Field(ge=1, le=3650)] = 180
    """Searches are deleted from the log, with their feedback, when they are older than this."""
    audit_log_retention_days: Annotated[int, Field(ge=1, le=3650)] = 730
    """Who changed principals, keys, grants, quotas, codebases and spaces is deleted when it is older than this."""
    recall_target: Annotated[float, Field(ge=0, le=1)] = 0.95
    """Mean recall@10 that searches by an index are to have; where it is lower they search further, or whole."""
    recall_period_s: Annotated[float, Field(ge=1, le=31 * 86400)] = 6 * 3600.0
    """How often a codebase that is searched by an index is compared with exact search, seconds."""
    binary_index_above: Annotated[int, Field(ge=0, le=10**12)] = 0
    """Vectors of a space above which its index is over the signs of the numbers, not over the numbers: smaller, faster,
    and with the compact pair more exact. Set it above what you store where signs do not suit your encoders, which shows
    in the recall of `duovec status`."""
    index_memory_mb: Annotated[int, Field(ge=64, le=1_048_576)] = 1536
    """Megabytes of PostgreSQL's shared memory that building an index of vectors may take. By signs a million take
    1,230, and are given 1,335; building with less takes several times as long."""
    metrics_listen: str | None = None
    """`host:port` at which Prometheus reads this process's metrics, by HTTP and without a key: on loopback, or in a
    network of your own. None serves none; where gateways share `listen`, each has an address of its own here."""
    otlp_endpoint: Annotated[str | None, AfterValidator(_collector)] = None
    """Collector of OpenTelemetry traces, OTLP over gRPC, `http://host:4317`; takes the extra `otel`. None sends none.
    The standard's OTEL_EXPORTER_OTLP_ENDPOINT stands in for it."""
    log_format: LogFormat = "text"
    """`json` for one JSON object a line, with the trace and the request that it is about."""
    log_requests: bool = False
    """Whether calls that went well have a line in the log, too."""
    drain_s: Seconds = 10.0
    """How long requests in flight may go on after SIGTERM, seconds."""

    @classmethod
    def from_environment(cls) -> "Settings":
        """Read and check the settings.

        Raises:
            StartupError: A variable is missing or malformed, or begins like a setting and is none; the message names
                each.
        """
        if unknown := _unknown_variables():
            raise StartupError(f"wrong settings: {'; '.join(unknown)}")
        names = {field: f"{PREFIX}{field.upper()}" for field in cls.model_fields}
        try:
            settings = cls()  # type: ignore[call-arg]  # the environment gives the fields
            standard_endpoint = os.environ.get(_STANDARD_ENDPOINT)
            if settings.otlp_endpoint is None and standard_endpoint:
                names["otlp_endpoint"] = _STANDARD_ENDPOINT
                return cls(otlp_endpoint=standard_endpoint)  # type: ignore[call-arg]
            return settings
        except ValidationError as exc:
            faults = "; ".join(
                f"{names[str(error['loc'][0])]}: "
                # As pydantic introduces what a validator of ours said.
                + error["msg"].removeprefix("Value error, ")
                for error in exc.errors()
            )
            raise StartupError(f"wrong settings: {faults}") from exc


def _unknown_variables() -> list[str]:
    """What is set and means nothing: a misspelt limit would else be no limit."""
    settings = {f"{PREFIX}{field.upper()}" for field in Settings.model_fields}
    # Names of variables count in any case, as pydantic reads them.
    names = sorted({name.upper() for name in os.environ if name.upper().startswith(PREFIX)})
    unknown = [name for name in names if name not in settings | _OF_COMMANDS and not _is_service_link(name, names)]
    return [f"{name} is no setting; the nearest is {_nearest(name, sorted(settings))}" for name in unknown]


def _nearest(name: str, settings: list[str]) -> str:
    begun = (setting for setting in settings if setting.startswith(name))
    return next(begun, difflib.get_close_matches(name, settings, n=1, cutoff=0)[0])


def _is_service_link(name: str, names: list[str]) -> bool:
    """Whether Kubernetes set it, which tells every pod the address of every service, under the service's own name."""
    services = (found.removesuffix("_SERVICE_HOST") for found in names if found.endswith("_SERVICE_HOST"))
    return any(name.startswith((f"{service}_SERVICE_", f"{service}_PORT")) for service in services)
