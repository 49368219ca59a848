"""The lock files hold what pyproject.toml asks for, whole, by hash, and in one version everywhere."""

import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = ROOT / "requirements"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
EXTRAS = ("client", "gateway", "mcp", "otel", "local", "export", "training", "ray", "dev")
PIN = re.compile(r"^([a-z0-9][a-z0-9-]*)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE)


@cache
def pins(name: str) -> dict[str, str]:
    """Version by package of a lock file."""
    return {match[1]: match[2] for match in PIN.finditer((LOCKS / f"{name}.txt").read_text(encoding="utf-8"))}


def needed(extra: str) -> set[str]:
    """Every package that an extra needs by what the installed ones say of themselves, but duovec and torch."""
    found: set[str] = set()
    waiting = [(requirement, "") for requirement in map(Requirement, PYPROJECT[extra])]
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement, asked = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": asked}):
            continue
        name = canonicalize_name(requirement.name)
        for sub_extra in ("", *sorted(requirement.extras)):
            if (name, sub_extra) in seen:
                continue
            seen.add((name, sub_extra))
            if name == "duovec":
                waiting += [(inner, "") for inner in map(Requirement, PYPROJECT.get(sub_extra, []))]
            else:
                found.add(name)
                waiting += [(inner, sub_extra) for inner in map(Requirement, importlib.metadata.requires(name) or [])]
    return found - {"torch"}


@pytest.mark.parametrize("path", sorted(LOCKS.glob("*.txt")), ids=lambda path: path.stem)
def test_every_line_is_a_version_with_its_hashes(path: Path) -> None:
    """So that pip installs nothing else, and no file says where it came from: neither a host nor a folder."""
    text = path.read_text(encoding="utf-8")
    left = re.sub(r"^ *#.*\n", "", PIN.sub("", text), flags=re.MULTILINE)
    assert left.strip() == ""
    assert PIN.search(text) is not None
    assert "//" not in text
    assert re.search(r"(^|\s)/\w", text) is None


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_is_locked_whole(extra: str) -> None:
    """No package more and none less than the installed ones ask for; `make lock` after a change of pyproject.toml."""
    assert set(pins(extra)) == needed(extra)


def test_every_extra_has_its_lock() -> None:
    """And is covered by the test above."""
    assert set(PYPROJECT) == set(EXTRAS)


def test_pyproject_allows_what_is_locked() -> None:
    """Also where an extra allows a range."""
    for requirements in PYPROJECT.values():
        for requirement in map(Requirement, requirements):
            name = canonicalize_name(requirement.name)
            if name not in {"duovec", "torch"}:
                assert pins("dev")[name] in requirement.specifier, requirement


def test_every_file_has_the_same_version_of_a_package() -> None:
    """What is published is what was tested."""
    for path in LOCKS.glob("*.txt"):
        shared = set(pins(path.stem)) & set(pins("dev"))
        assert {name: pins(path.stem)[name] for name in shared} == {name: pins("dev")[name] for name in shared}, path


def test_the_tests_run_on_what_is_locked() -> None:
    """This very environment."""
    assert {name: importlib.metadata.version(name) for name in pins("dev")} == pins("dev")


def test_torch_is_the_one_that_pyproject_pins() -> None:
    """For CPUs and for CUDA."""
    (pinned,) = {requirement for requirement in PYPROJECT["export"] if requirement.startswith("torch==")}
    assert f"torch=={pins('torch-cuda')['torch']}" == pinned
    assert f"torch=={pins('torch-cpu')['torch']}" == f"{pinned}+cpu"
    assert any(name.startswith("nvidia-cu") for name in pins("torch-cuda"))


def test_the_bill_of_materials_names_every_package(tmp_path: Path) -> None:
    """CycloneDX by its strict schema; components are the pins, with their hashes."""
    variables = ("SBOM=gateway otel", f"SBOM_DIR={tmp_path}", f"BIN={Path(sys.executable).parent}")
    # This environment is up to date, whenever its files were written.
    subprocess.run(["make", "--silent", "--old-file=.venv/installed", "sbom", *variables], cwd=ROOT, check=True)
    for part in ("gateway", "otel"):
        components = json.loads((tmp_path / f"{part}.cdx.json").read_text(encoding="utf-8"))["components"]
        assert {canonicalize_name(one["name"]): one["version"] for one in components} == pins(part)
        assert all(any("hashes" in reference for reference in one["externalReferences"]) for one in components)
    # The smaller one: checking the other takes seven seconds.
    text = (tmp_path / "otel.cdx.json").read_text(encoding="utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
