"""The real Triton Inference Server of the nvidia-pytriton wheel, as a child process without a container."""

import asyncio
import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import StartupError
from gateway.local import liveness
from gateway.local.log_file import read_end
from gateway.local.process import ChildProcess, describe_exit, free_port, wait_for_listener
from gateway.wire import triton_arguments, triton_trace_arguments

PYTHON_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
LIBPYTHON = f"libpython{PYTHON_VERSION}.so.1.0"
LIBPYTHON_FIX = (
    f"install the shared library of Python {PYTHON_VERSION}: `apt-get install libpython{PYTHON_VERSION}` on Debian, "
    f"`PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install {PYTHON_VERSION}` with pyenv, "
    f"or a Python of uv (`uv python install {PYTHON_VERSION}`), which carries it"
)
_POLL_S = 0.05
# How long it may take to say whether it is ready; then it is asked again.
_ASKED_S = 5.0
# Between two looks at whether it answers, and after one that failed.
_LIVENESS_PERIOD_S, _LIVENESS_AGAIN_S = 5.0, 1.0
_EXPLAINED_BYTES = 4 * 2**20
# The most telling kind of line first: the last ones of a failed start only say that it failed.
_ERROR_PATTERNS = (
    r"\] \"((?:failed to poll model|Poll failed for|failed to load model) .+)$",
    r"\] \"(failed to start .+)$",
    r"^error: (.+)$",
    r"^E\d{4} .*?\] \"?(.+)$",
    r"(error while loading shared libraries: .+)$",
)
_SHM_DIR = Path("/dev/shm")  # noqa: S108  # where POSIX shared memory lies on Linux, not a temporary file


@dataclass(frozen=True)
class TritonInstall:
    """Where the pieces of Triton lie on this machine.

    Attributes:
        root: Folder `tritonserver` of the wheel.
        libraries: Folder with the shared libraries that the wheel carries.
    """

    root: Path
    libraries: Path

    @property
    def binary(self) -> Path:
        """The server's executable."""
        return self.root / "bin" / "tritonserver"

    @property
    def backend_files(self) -> tuple[Path, ...]:
        """What a backend directory for the running Python is made of."""
        python = self.root / "backends" / "python"
        return (
            python / "libtriton_python.so",
            python / "triton_python_backend_utils.py",
            self.root / "python_backend_stubs" / PYTHON_VERSION / "triton_python_backend_stub",
        )


def find_triton() -> TritonInstall:
    """Find Triton in the installed nvidia-pytriton wheel, without importing it.

    Raises:
        StartupError: The wheel is not installed, or lacks a file for this Python.
    """
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise StartupError("Triton is not installed: run `pip install 'duovec[local]'`")
    package = Path(spec.submodule_search_locations[0])
    install = TritonInstall(package / "tritonserver", package.parent / "nvidia_pytriton.libs")
    for path in (install.binary, *install.backend_files):
        if not path.is_file():
            raise StartupError(
                f"nvidia-pytriton lacks {path}: run `pip install --force-reinstall --no-deps nvidia-pytriton==0.7.0`"
            )
    return install


def find_libpython() -> Path:
    """Find the shared library of the running Python version, which the Python backend's stub is linked to.

    Raises:
        StartupError: There is none; the message says how to get one.
    """
    for folder in _library_folders():
        if (folder / LIBPYTHON).is_file():
            return folder / LIBPYTHON
    raise StartupError(f"Triton's Python backend needs {LIBPYTHON}, which this machine lacks: {LIBPYTHON_FIX}")


def _library_folders() -> Iterator[Path]:
    if configured := sysconfig.get_config_var("LIBDIR"):
        yield Path(configured)
    yield Path(sys.base_prefix) / "lib"
    ldconfig = shutil.which("ldconfig", path=os.environ.get("PATH", "") + ":/sbin:/usr/sbin")
    if ldconfig is None:
        return
    listing = subprocess.run([ldconfig, "-p"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    for line in listing.splitlines():
        if line.strip().startswith(f"{LIBPYTHON} "):
            yield Path(line.rpartition("=> ")[2]).parent


def triton_environment(install: TritonInstall, libpython: Path) -> dict[str, str]:
    """The environment variables that let Triton and its stubs find their libraries and the installed packages."""
    environment = dict(os.environ)
    library_folders = [str(install.libraries), str(libpython.parent), environment.get("LD_LIBRARY_PATH", "")]
    environment["LD_LIBRARY_PATH"] = ":".join(filter(None, library_folders))
    # The stub's interpreter is isolated and ignores PYTHONPATH. It takes the first python3 on the PATH for its own,
    # and with that one's pyvenv.cfg the packages of this environment.
    environment["PATH"] = f"{Path(sys.prefix) / 'bin'}:{environment.get('PATH', '')}"
    # A relocatable Python was compiled for another prefix, and would not find its standard library. A library from
    # elsewhere, such as Debian's, knows its own.
    environment.pop("PYTHONHOME", None)
    if libpython.is_relative_to(sys.base_prefix):
        environment["PYTHONHOME"] = sys.base_prefix
    return environment


class Triton:
    """Triton serving some models of a repository on loopback: by gRPC, and by HTTP to be asked whether it lives.

    Attributes:
        url: `127.0.0.1:PORT`, the gRPC address.
        http_url: `http://127.0.0.1:PORT`.
        log_path: File that the server and its models log to.
    """

    def __init__(
        self,
        repository: Path,
        models: Sequence[str],
        *,
        work_dir: Path,
        log_path: Path,
        grpc_port: int | None = None,
        traces_url: str | None = None,
    ) -> None:
        """Describe the server; nothing is started.

        Args:
            repository: Model repository, one folder a model with its `config.pbtxt`.
            models: Which of its models to serve.
            work_dir: Folder for the backend directory; made when absent.
            log_path: File to log to.
            grpc_port: TCP port; a free one when None.
            traces_url: Where it sends spans of requests that are traced, by OTLP over HTTP; None for nowhere.
        """
        self.log_path = log_path
        self._port = grpc_port or free_port()
        self.url = f"127.0.0.1:{self._port}"
        self._http_port = free_port()
        self.http_url = f"http://127.0.0.1:{self._http_port}"
        self._repository = repository
        self._models = list(models)
        self._traces_url = traces_url
        self._work_dir = work_dir
        # A name of our own, so that the shared memory of a killed server can be told from anyone else's.
        self._shm_prefix = f"duovec-{uuid.uuid4().hex[:12]}-"
        self._process: ChildProcess | None = None

    @property
    def pid(self) -> int:
        """Process id of the server, or 0 before the start."""
        return self._process.pid if self._process else 0

    async def start(self, *, timeout_s: float = 120) -> None:
        """Start the server and wait until it and every model are ready.

        Args:
            timeout_s: How long loading may take, seconds.

        Raises:
            StartupError: Something is not installed, a model does not load, or the time is over; one line.
        """
        install = find_triton()
        environment = triton_environment(install, find_libpython())
        backends = self._assemble_backends(install)
        self._process = ChildProcess(
            "Triton", self._arguments(install, backends), env=environment, log_path=self.log_path
        )
        await self._process.start()
        try:
            code = await self._process.wait_ready(self._wait_ready(), timeout_s=timeout_s)
            if code is not None:
                raise StartupError(f"Triton did not start ({describe_exit(code)}): {self._why()}")
        except TimeoutError as exc:
            last = self.log_tail(1)
            await self.stop(grace_s=1)
            raise StartupError(
                f"Triton was not ready after {timeout_s:g} s; its log, {self.log_path}, ends with: {last or 'nothing'}"
            ) from exc
        except BaseException:
            await self.stop(grace_s=1)
            raise

    async def wait(self) -> int:
        """Wait until the server exits, however that comes about.

        Returns:
            Its exit code, or the negative number of the signal that killed it.
        """
        if self._process is None:
            raise RuntimeError("Triton was not started")
        code = await self._process.wait()
        self._free_shared_memory()
        return code

    async def wait_silent(self) -> str:
        """Wait until the server runs and does not answer any more, or answers what it was not asked.

        Returns:
            Why, in one line.
        """
        failures = 0
        while True:
            await asyncio.sleep(_LIVENESS_AGAIN_S if failures else _LIVENESS_PERIOD_S)
            try:
                await asyncio.to_thread(liveness.check, self.http_url, timeout_s=liveness.TIMEOUT_S)
                failures = 0
            except liveness.NotAlive as exc:
                failures += 1
                if failures == liveness.KILL_AFTER:
                    return str(exc)

    async def stop(self, *, grace_s: float = 10) -> None:
        """Let requests in flight finish for up to `grace_s` seconds, then leave neither a process nor shared memory."""
        if self._process is not None:
            await self._process.stop(grace_s=grace_s)
            self._free_shared_memory()

    def log_tail(self, line_count: int = 20) -> str:
        """The last lines of the log."""
        return self._process.log_tail(line_count) if self._process else ""

    def _assemble_backends(self, install: TritonInstall) -> Path:
        """Lay out the wheel's files as Triton looks for them: the stub beside the backend's library."""
        folder = self._work_dir / "backends" / "python"
        folder.mkdir(parents=True, exist_ok=True)
        for source in install.backend_files:
            link = folder / source.name
            link.unlink(missing_ok=True)
            link.symlink_to(source)
        return folder.parent

    def _arguments(self, install: TritonInstall, backends: Path) -> list[str]:
        return [
            str(install.binary),
            f"--model-repository={self._repository.resolve()}",
            f"--backend-directory={backends.resolve()}",
            f"--backend-config=python,shm-region-prefix-name={self._shm_prefix}",
            "--model-control-mode=explicit",
            *(f"--load-model={model}" for model in self._models),
            # The published config.pbtxt is whole; completing it would start every model twice.
            "--disable-auto-complete-config",
            "--strict-readiness=true",
            "--grpc-address=127.0.0.1",
            f"--grpc-port={self._port}",
            "--reuse-grpc-port=false",
            *triton_arguments(),
            *(triton_trace_arguments(self._traces_url) if self._traces_url else []),
            "--http-address=127.0.0.1",
            f"--http-port={self._http_port}",
            "--reuse-http-port=false",
            "--http-thread-count=1",
            "--allow-metrics=false",
            "--exit-timeout-secs=8",
        ]

    async def _wait_ready(self) -> None:
        from tritonclient.grpc.aio import InferenceServerClient
        from tritonclient.utils import InferenceServerException

        await wait_for_listener("127.0.0.1", self._port)
        async with InferenceServerClient(self.url) as client:
            pending = list(self._models)
            while pending:
                with contextlib.suppress(InferenceServerException):
                    if await client.is_server_ready(client_timeout=_ASKED_S):
                        pending = [
                            model
                            for model in pending
                            if not await client.is_model_ready(model, client_timeout=_ASKED_S)
                        ]
                if pending:
                    await asyncio.sleep(_POLL_S)

    def _why(self) -> str:
        """What the log says about a failed start, in one line."""
        return explain_log(self.log_path) or f"see its log, {self.log_path}"

    def _free_shared_memory(self) -> None:
        for region in _SHM_DIR.glob(f"{self._shm_prefix}*"):
            region.unlink(missing_ok=True)


def explain_log(log_path: Path) -> str:
    """Why Triton did not start, by its log: the models that failed and the first line of each reason.

    Returns:
        One line, or an empty string when the log has no error.
    """
    text = read_end(log_path, _EXPLAINED_BYTES)
    failures = {
        match["model"]: f"model {match['model']} version {match['version']}: {_first_line(match['reason'])}"
        for match in re.finditer(r"failed to load '(?P<model>[^']+)' version (?P<version>\d+): (?P<reason>.*)", text)
    }
    if failures:
        return "; ".join(failures.values()) + f" (log: {log_path})"
    for pattern in _ERROR_PATTERNS:
        if match := re.search(pattern, text, re.MULTILINE):
            return f"{_first_line(match[1])} (log: {log_path})"
    return ""


def _first_line(reason: str) -> str:
    return reason.split("\\n")[0].strip().strip('"')
