"""The alerts of `deploy/prometheus/alerts.yml`, as a table."""

import re
from pathlib import Path

import yaml
from markdown_tables import table

ALERTS = Path(__file__).parents[2] / "deploy" / "prometheus" / "alerts.yml"


def alert_table() -> str:
    """What is wrong, and what to do."""
    (group,) = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    rows = [
        [
            f"`{rule['alert']}`",
            rule["labels"]["severity"],
            _shown(rule["annotations"]["summary"]),
            _shown(rule["annotations"]["action"]),
        ]
        for rule in group["rules"]
    ]
    return table(["Alert", "Severity", "What is wrong", "What to do"], rows)


def _shown(template: str) -> str:
    """With an ellipsis for every value that Prometheus puts in."""
    return re.sub(r"{{.*?}}", "…", template)
