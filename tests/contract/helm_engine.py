"""Helm's engine in a process of its own: it is Go's, and crashed pytest's process after two thousand tests.

As a program: reads {"chart", "values"} from stdin, and prints {"files", "lint"} or {"error"}.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


class HelmRefusal(Exception):
    """The chart does not render with these values."""


def run_helm(chart: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Render and lint a chart.

    Returns:
        `files`, the rendered text by name, and `lint`, what Helm says of the chart.

    Raises:
        HelmRefusal: With Helm's own words.
    """
    done = subprocess.run(
        [sys.executable, __file__],
        input=json.dumps({"chart": str(chart), "values": values}),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    if "error" in answer:
        raise HelmRefusal(answer["error"])
    return answer


def _main() -> None:
    from helm_python import Chart, lint
    from helm_python.errors import HelmError

    asked = json.load(sys.stdin)
    try:
        files = Chart.load(asked["chart"]).render(asked["values"], name="search", namespace="code")
        answer = {"files": files, "lint": lint(asked["chart"], asked["values"])}
    except HelmError as exc:
        answer = {"error": str(exc)}
    print(json.dumps(answer))


if __name__ == "__main__":
    _main()
