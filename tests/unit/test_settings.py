"""Settings come from the environment, are checked once and never change."""

import os
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.errors import StartupError
from gateway.settings import Settings

REQUIRED = {
    "DUOVEC_DATABASE_URL": "postgresql://localhost/duovec",
    "DUOVEC_TRITON_URL": "127.0.0.1:8001",
    "DUOVEC_MODEL_REPOSITORY": "/srv/models",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("DUOVEC_")]:
        monkeypatch.delenv(name)
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)


def test_the_required_variables_are_read() -> None:
    """The three variables without a default become the fields of their names."""
    settings = Settings.from_environment()
    assert settings.database_url == "postgresql://localhost/duovec"
    assert settings.triton_url == "127.0.0.1:8001"
    assert settings.model_repository == Path("/srv/models")


def test_the_default_address_is_loopback() -> None:
    """Without DUOVEC_LISTEN nobody outside the machine reaches the unencrypted port."""
    assert Settings.from_environment().listen == "127.0.0.1:50051"


def test_a_variable_replaces_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number in the environment is read as a number."""
    monkeypatch.setenv("DUOVEC_MAX_STREAMS", "7")
    assert Settings.from_environment().max_streams == 7


def test_an_administrator_s_key_does_not_show_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever logs the settings does not log it."""
    monkeypatch.setenv("DUOVEC_ADMIN_KEY", "hunter2")
    settings = Settings.from_environment()
    assert settings.admin_key is not None
    assert settings.admin_key.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(settings) + str(settings)


def test_every_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """One message names all that is missing, by the name in the environment."""
    for name in REQUIRED:
        monkeypatch.delenv(name)
    with pytest.raises(StartupError) as caught:
        Settings.from_environment()
    assert str(caught.value) == "wrong settings: " + "; ".join(f"{name}: Field required" for name in REQUIRED)


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("DUOVEC_MAX_PENDING_TOKENS", "1023", "Input should be greater than or equal to 1024"),
        ("DUOVEC_MAX_PENDING_TOKENS", "1073741825", "Input should be less than or equal to 1073741824"),
        ("DUOVEC_MAX_STREAMS", "0", "Input should be greater than or equal to 1"),
        ("DUOVEC_TRITON_CONCURRENCY", "257", "Input should be less than or equal to 256"),
        ("DUOVEC_DATABASE_POOL_SIZE", "4", "Input should be greater than or equal to 5"),
        ("DUOVEC_REQUEST_TIMEOUT_S", "0", "Input should be greater than 0"),
        ("DUOVEC_REQUEST_TIMEOUT_S", "inf", "Input should be less than or equal to 3600"),
        ("DUOVEC_REQUEST_TIMEOUT_S", "nan", "Input should be less than or equal to 3600"),
        ("DUOVEC_SEARCH_LOG_RETENTION_DAYS", "0", "Input should be greater than or equal to 1"),
        ("DUOVEC_SEARCH_LOG_RETENTION_DAYS", "3651", "Input should be less than or equal to 3650"),
        ("DUOVEC_DRAIN_S", "3601", "Input should be less than or equal to 3600"),
    ],
)
def test_a_value_out_of_its_limits_is_refused(
    name: str, value: str, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the variable and the limit."""
    monkeypatch.setenv(name, value)
    with pytest.raises(StartupError) as caught:
        Settings.from_environment()
    assert str(caught.value) == f"wrong settings: {name}: {complaint}"


def test_the_standard_s_variable_names_the_collector_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours goes first, and nothing is traced without either."""
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    assert Settings.from_environment().otlp_endpoint is None
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317")
    assert Settings.from_environment().otlp_endpoint == "http://collector:4317"
    monkeypatch.setenv("DUOVEC_OTLP_ENDPOINT", "https://ours:4317")
    assert Settings.from_environment().otlp_endpoint == "https://ours:4317"


@pytest.mark.parametrize("value", ["http://collector", "https://10.1.2.3:14317/", "http://[::1]:4317"])
def test_a_collector_is_a_url(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUOVEC_OTLP_ENDPOINT", value)
    assert Settings.from_environment().otlp_endpoint == value


def test_a_collector_s_password_is_not_said_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUOVEC_OTLP_ENDPOINT", "https://me:sesame@collector:4317")
    with pytest.raises(StartupError, match="https://…@collector:4317") as caught:
        Settings.from_environment()
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize("name", ["DUOVEC_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"])
@pytest.mark.parametrize(
    "value",
    [
        "collector:4317",
        "ftp://collector",
        "http://",
        "http://:4317",
        # OTLP over gRPC has no path: this one is meant for OTLP over HTTP.
        "http://collector:4317/v1/traces",
        "http://a:b:c",
        "http://collector:43x",
        "http://collector:",
        "http://collector:0",
        "http://collector:65536",
        "http://::1:4317",
    ],
)
def test_a_collector_that_no_span_could_reach_is_refused(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every span would be lost in silence; whoever set it learns by which variable."""
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    monkeypatch.setenv(name, value)
    with pytest.raises(StartupError) as caught:
        Settings.from_environment()
    assert str(caught.value) == f"wrong settings: {name}: {value!r} is not http://host:port or https://host:port"


@pytest.mark.parametrize("value", ["127.0.0.1:8001", "one:8001, two:8001,", "[::1]:8001"])
def test_triton_is_at_addresses(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUOVEC_TRITON_URL", value)
    assert Settings.from_environment().triton_url == value


@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        ("", "''"),
        (",", "','"),
        ("triton", "'triton'"),
        (":8001", "':8001'"),
        ("one:8001,two", "'two'"),
        ("triton:80x", "'triton:80x'"),
        ("triton:0", "'triton:0'"),
        ("triton:65536", "'triton:65536'"),
        ("http://triton:8001", "'http://triton:8001'"),
    ],
)
def test_a_triton_that_nobody_could_connect_to_is_refused(
    value: str, quoted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway would start, wait for it, and serve nothing."""
    monkeypatch.setenv("DUOVEC_TRITON_URL", value)
    with pytest.raises(StartupError) as caught:
        Settings.from_environment()
    assert str(caught.value) == f"wrong settings: DUOVEC_TRITON_URL: {quoted} is not host:port"


def test_settings_do_not_change_once_built() -> None:
    """A field cannot be assigned."""
    settings = Settings.from_environment()
    with pytest.raises(ValidationError, match="frozen"):
        settings.max_streams = 1


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("DUOVEC_MAX_PENDING_TOKEN", "DUOVEC_MAX_PENDING_TOKENS"),
        ("DUOVEC_DATABSE_POOL_SIZE", "DUOVEC_DATABASE_POOL_SIZE"),
        ("DUOVEC_TLS_CERT", "DUOVEC_TLS_CERTIFICATE"),
        ("duovec_search_logs", "DUOVEC_SEARCH_LOG"),
        ("DUOVEC_REUSEPORT", "DUOVEC_REUSE_PORT"),
    ],
)
def test_a_variable_that_is_no_setting_is_refused(name: str, nearest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit whose name was misspelt would be no limit, and nobody would know."""
    monkeypatch.setenv(name, "1")
    with pytest.raises(StartupError) as caught:
        Settings.from_environment()
    assert str(caught.value) == f"wrong settings: {name.upper()} is no setting; the nearest is {nearest}"


def test_every_variable_that_is_no_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DUOVEC_B", "DUOVEC_A"):
        monkeypatch.setenv(name, "1")
    with pytest.raises(StartupError, match=r"^wrong settings: DUOVEC_A is no setting; .*; DUOVEC_B is no setting; "):
        Settings.from_environment()


def test_what_the_commands_read_is_nobody_s_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    """`duovec up` hands its environment on. The list here is what the sources of the commands and the client name."""
    root = Path(__file__).parents[2]
    sources = [path for folder in ("cli", "client") for path in (root / "gateway" / folder).rglob("*.py")]
    read = {name for path in sources for name in re.findall(r'"(DUOVEC_[A-Z_]+)"', path.read_text(encoding="utf-8"))}
    assert {"DUOVEC_API_KEY", "DUOVEC_ENDPOINT", "DUOVEC_DATA_DIR", "DUOVEC_CA_FILE"} <= read
    for name in read:
        monkeypatch.setenv(name, "x")
    assert Settings.from_environment().max_streams == 32


def test_what_kubernetes_says_of_services_is_nobody_s_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a service named duovec, and one named duovec-triton, every pod is told the addresses, in our own prefix."""
    for service in ("DUOVEC", "DUOVEC_TRITON"):
        for name, value in (
            ("SERVICE_HOST", "10.0.0.7"),
            ("SERVICE_PORT", "50051"),
            ("SERVICE_PORT_GRPC", "50051"),
            ("PORT", "tcp://10.0.0.7:50051"),
            ("PORT_50051_TCP_ADDR", "10.0.0.7"),
        ):
            monkeypatch.setenv(f"{service}_{name}", value)
    assert Settings.from_environment().triton_url == "127.0.0.1:8001"
