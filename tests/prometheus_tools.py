"""Prometheus and its promtool: those of this machine, or Debian's package unpacked beside our own builds."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_FOLDER = ROOT / ".duovec" / "tools" / "prometheus"


def prometheus_tool(name: str) -> Path:
    """The program `prometheus` or `promtool`; the test is skipped, with the reason, where neither way leads to it."""
    if installed := shutil.which(name):
        return Path(installed)
    tool = _FOLDER / "usr" / "bin" / name
    if not tool.is_file():
        _unpack()
    return tool


def _unpack() -> None:
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        pytest.skip("there is no promtool, and no apt-get to fetch Debian's package prometheus with")
    _FOLDER.mkdir(parents=True, exist_ok=True)
    fetch = ["apt-get", "download", "--quiet", "prometheus"]
    fetched = subprocess.run(fetch, cwd=_FOLDER, capture_output=True, text=True)
    if fetched.returncode:
        # A fresh machine has no lists of packages; only root may fetch them.
        subprocess.run(["apt-get", "update", "--quiet"], capture_output=True)
        fetched = subprocess.run(fetch, cwd=_FOLDER, capture_output=True, text=True)
    packages = sorted(_FOLDER.glob("prometheus_*.deb"))
    if fetched.returncode or not packages:
        pytest.skip(f"there is no promtool, and apt-get cannot fetch Debian's package: {fetched.stderr.strip()[-200:]}")
    subprocess.run(["dpkg-deb", "--extract", str(packages[-1]), str(_FOLDER)], check=True)
    for package in packages:
        package.unlink()
