"""The doctor's verdicts on facts that no single machine has."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.local.doctor import GIB, Facts, Finding, Level, Tool, examine

HEALTHY = Facts(
    python=(3, 11, 7),
    libpython="/usr/lib/libpython3.11.so.1.0",
    libpython_problem="",
    triton=Tool(version="nvidia-pytriton 0.7.0"),
    postgres=Tool(version="postgres (PostgreSQL) 18.4"),
    account=None,
    closed_directory="",
    port=50051,
    port_problem="",
    disk_free=10 * GIB,
    memory=16 * GIB,
    cpu_flags=frozenset({"avx2", "avx512_bf16"}),
    shm_free=GIB,
    models=("compact-code/1", "compact-text/1"),
    models_problem="",
)


def _findings(**changes: Any) -> dict[str, Finding]:
    return {finding.check: finding for finding in examine(replace(HEALTHY, **changes))}


def test_a_healthy_machine_has_nothing_to_mend() -> None:
    assert [(finding.level, finding.fix) for finding in examine(HEALTHY)] == [(Level.OK, "")] * 11


@pytest.mark.parametrize(
    ("check", "changes", "level", "fix"),
    [
        ("Python", {"python": (3, 12, 1)}, Level.FAIL, "python3.11 -m venv"),
        ("Triton", {"triton": Tool(problem="libfoo.so is missing")}, Level.FAIL, "duovec[local]"),
        ("PostgreSQL", {"postgres": Tool(problem="not installed")}, Level.FAIL, "duovec[local]"),
        ("account", {"account": ""}, Level.FAIL, "useradd --system postgres"),
        ("account", {"account": "postgres", "closed_directory": "/root"}, Level.FAIL, "chmod o+x /root"),
        ("account", {"account": "postgres"}, Level.OK, ""),
        ("account", {"account": None, "closed_directory": "/home/me"}, Level.OK, ""),
        ("disk", {"disk_free": 2 * GIB - 1}, Level.FAIL, "--data-dir"),
        ("disk", {"disk_free": 2 * GIB}, Level.OK, ""),
        ("memory", {"memory": 4 * GIB - 1}, Level.FAIL, "memory"),
        ("shared memory", {"shm_free": 64 << 20}, Level.WARN, "--shm-size=1g"),
        ("shared memory", {"shm_free": 16 << 20}, Level.FAIL, "--shm-size=1g"),
        ("CPU", {"cpu_flags": frozenset({"avx2"})}, Level.WARN, "f32"),
        ("CPU", {"cpu_flags": frozenset({"amx_bf16"})}, Level.OK, ""),
    ],
)
def test_a_fact_is_judged_and_the_way_out_named(check: str, changes: dict[str, Any], level: Level, fix: str) -> None:
    finding = _findings(**changes)[check]
    assert finding.level is level
    assert fix in finding.fix


def test_a_start_up_error_is_split_into_what_is_wrong_and_how_to_mend_it() -> None:
    finding = _findings(models_problem="/m/compact-code/1/model.onnx is corrupt; publish again: `duovec-export`")[
        "models"
    ]
    assert finding.detail == "/m/compact-code/1/model.onnx is corrupt"
    assert finding.fix == "publish again: `duovec-export`"
    assert finding.level is Level.FAIL


def test_a_port_in_use_is_a_warning_since_duovec_itself_may_hold_it() -> None:
    finding = _findings(port_problem="port 50051 is in use by process 7 (python): stop that")["port"]
    assert (finding.level, finding.detail, finding.fix) == (
        Level.WARN,
        "port 50051 is in use by process 7 (python)",
        "stop that",
    )
