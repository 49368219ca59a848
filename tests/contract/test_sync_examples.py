"""The jobs and the hook that keep a codebase fresh are well-formed, and what they call exists."""

import itertools
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import gateway.cli.main

DEPLOY = Path(__file__).parents[2] / "deploy"
SYNC = typer.main.get_command(gateway.cli.main.app).commands["sync"]  # type: ignore[attr-defined]


def workflow() -> dict[Any, Any]:
    loaded = yaml.safe_load((DEPLOY / "ci" / "github.yml").read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def scripts() -> dict[str, list[str]]:
    """The shell lines of each example."""
    gitlab = yaml.safe_load((DEPLOY / "ci" / "gitlab.yml").read_text(encoding="utf-8"))["duovec-sync"]
    return {
        "github": [step["run"] for step in workflow()["jobs"]["sync"]["steps"] if "run" in step],
        "gitlab": [*gitlab["before_script"], *gitlab["script"]],
        "hook": (DEPLOY / "hooks" / "pre-push").read_text(encoding="utf-8").splitlines(),
    }


@pytest.mark.parametrize("name", ["github", "gitlab", "hook"])
def test_the_command_takes_these_arguments(name: str) -> None:
    """Parsed as it would be run."""
    calls = [line.strip() for line in scripts()[name] if line.strip().startswith("duovec ")]
    assert len(calls) == 1
    call = re.sub(r">&2.*", "", calls[0]).replace('${codebase:+--codebase "$codebase"}', '--codebase "$codebase"')
    call = re.sub(r'"\$\(git rev-parse --show-toplevel\)"', ".", call)
    words = shlex.split(call)
    assert words[:2] == ["duovec", "sync"]
    context = SYNC.make_context("sync", words[2:])
    # The jobs leave it to the folder's name: a repository's own, such as My_Repo, is no codebase id.
    assert context.params["codebase"] == ("$codebase" if name == "hook" else None)


def test_variables_of_the_jobs_are_those_that_the_command_reads() -> None:
    known = {parameter.envvar for parameter in SYNC.params if parameter.envvar}
    step = workflow()["jobs"]["sync"]["steps"][-1]
    assert {name for name in step["env"] if name.startswith("DUOVEC_")} == known
    assert known == {"DUOVEC_ENDPOINT", "DUOVEC_API_KEY"}


@pytest.mark.parametrize("name", ["github", "gitlab"])
def test_a_job_installs_from_where_its_owner_says_and_names_every_variable(name: str) -> None:
    """duovec is on no package index: a job that asked one for that name would run whoever took it."""
    text = (DEPLOY / "ci" / f"{name}.yml").read_text(encoding="utf-8")
    assert [line.strip() for line in scripts()[name] if "pip install" in line] == ['pip install "$DUOVEC_PACKAGE"']
    told = {"DUOVEC_ENDPOINT", "DUOVEC_API_KEY", "DUOVEC_PACKAGE"}
    assert set(re.findall(r"DUOVEC_[A-Z_]+", text)) == told
    head = "".join(itertools.takewhile(lambda line: line.startswith("#"), text.splitlines(keepends=True)))
    assert set(re.findall(r"DUOVEC_[A-Z_]+", head)) == told


def test_jobs_have_the_whole_history_and_run_one_at_a_time() -> None:
    """A shallow clone lacks the commit that the codebase holds: every file would be compared every time."""
    job = workflow()
    assert job["jobs"]["sync"]["steps"][0]["with"]["fetch-depth"] == 0
    assert job["concurrency"] == {"group": "duovec-sync", "cancel-in-progress": False}
    assert True in job or "on" in job  # YAML 1.1 takes the key `on` for true


def test_every_line_of_shell_parses() -> None:
    for name, lines in scripts().items():
        script = "\n".join(lines)
        assert subprocess.run(["sh", "-n"], input=script, text=True, check=False).returncode == 0, name
