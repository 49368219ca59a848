"""`duovec doctor`: what this machine lacks, and how to mend it."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from gateway.cli.up import DEFAULT_DATA_DIR, DataDir, Listen, Pair, Repository, WhichPair, stack_settings

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    repository: Repository = None,
    listen: Listen = "127.0.0.1:50051",
    pair: WhichPair = Pair.COMPACT,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object with every finding.")] = False,
) -> None:
    """Check what `duovec up` needs on this machine; exit code 1 when it could not run.

    Examples:

        duovec doctor

        duovec doctor --data-dir .duovec

        duovec doctor --json | jq '.findings[] | select(.level == "fail")'
    """
    from gateway.local.doctor import Level, examine, gather_facts

    settings = stack_settings(data_dir, repository, listen, pair)
    findings = examine(gather_facts(settings.data_dir, settings.repository, settings.encoders, settings.listen))
    failed = [finding for finding in findings if finding.level is Level.FAIL]
    if as_json:
        typer.echo(json.dumps({"ok": not failed, "findings": [asdict(finding) for finding in findings]}))
    else:
        from rich.console import Console
        from rich.text import Text

        console = Console(highlight=False, soft_wrap=True)
        for finding in findings:
            line = Text(f"{finding.level:<5}", style=_STYLES[finding.level])
            line.append(f"{finding.check:<15}{finding.detail}", style="default")
            console.print(line)
            if finding.fix:
                console.print(Text(f"                    fix: {finding.fix}", style="bright_black"))
        verdict = f"{len(failed)} to mend before `duovec up` can run" if failed else "`duovec up` can run here"
        console.print(Text(verdict, style="bold red" if failed else "bold green"))
    if failed:
        raise typer.Exit(1)
