"""`duovec-train evaluate`: is the pair better than its base, its halves and BM25?"""

import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from export.spec import PAIRS, EncoderSpec, load_builtin, load_pair, load_spec
from training.errors import TrainingError
from training.evaluation.questions import CONDITIONS


def evaluate(
    data: Annotated[Path, typer.Option(help="Folder of a mined data set.")],
    pair: Annotated[str, typer.Option(help=f"Built-in pair: {', '.join(PAIRS)}.")] = "compact",
    code: Annotated[Path | None, typer.Option(help="Checkpoint of the code encoder instead of the spec's own.")] = None,
    text: Annotated[Path | None, typer.Option(help="Checkpoint of the text encoder instead of the spec's own.")] = None,
    code_spec: Annotated[str | None, typer.Option(help="Built-in encoder or spec file, instead of the pair's.")] = None,
    text_spec: Annotated[str | None, typer.Option(help="Built-in encoder or spec file, instead of the pair's.")] = None,
    code_base: Annotated[Path | None, typer.Option(help="What the code encoder was trained from.")] = None,
    text_base: Annotated[Path | None, typer.Option(help="What the text encoder was trained from.")] = None,
    split: Annotated[str, typer.Option(help="dev or test; test only for what is reported.")] = "test",
    limit: Annotated[int, typer.Option(min=2, help="Queries to ask, evenly over the styles.")] = 2000,
    seed: Annotated[int, typer.Option(help="Draws the queries.")] = 0,
    precision: Annotated[str, typer.Option(help="fp32, or bf16: 2.5 times faster where the CPU has it.")] = "fp32",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    html: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the report as a page.")] = None,
    metrics: Annotated[
        list[Path] | None,
        typer.Option(exists=True, dir_okay=False, help="metrics.jsonl of a run, for the page's curves."),
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="A gateway: what it searches now stands in the table, as `live space`.")
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="DUOVEC_API_KEY", help="A key for it; else the one that is kept.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, for programs.")] = False,
) -> None:
    """Measure a pair on packages held out: MRR@10, nDCG@10, recall, triplet accuracy, by style and language.

    Examples:

        duovec-train evaluate --data data

        duovec-train evaluate --data data --code runs/7/result --html report.html --metrics runs/7/metrics.jsonl

        duovec-train evaluate --data data --code runs/7/result --endpoint 127.0.0.1:50051
    """
    from gateway.client.client import Client
    from gateway.client.errors import ClientError
    from training.evaluation.evaluate import EvaluationRequest
    from training.evaluation.evaluate import evaluate as measure
    from training.evaluation.page import write_page
    from training.progress import read_metrics
    from training.publication.measure import LiveSpace

    if pair not in PAIRS:
        raise typer.BadParameter(f"--pair must be one of {', '.join(PAIRS)}")
    if split not in ("dev", "test"):
        raise typer.BadParameter("--split must be dev or test")
    if precision not in ("fp32", "bf16"):
        raise typer.BadParameter("--precision must be fp32 or bf16")
    if html is not None and not (html.parent.is_dir() and os.access(html.parent, os.W_OK)):
        raise typer.BadParameter(f"--html {html}: {html.parent} is no folder that can be written in")
    if metrics and html is None:
        raise typer.BadParameter("--metrics is drawn on the page: give --html")
    curves = [(path.parent.name, read_metrics(path)) for path in metrics or []]
    specs = load_pair(pair)
    request = EvaluationRequest(
        code=_spec(code_spec) or specs[0],
        text=_spec(text_spec) or specs[1],
        code_checkpoint=code,
        text_checkpoint=text,
        data=data,
        split=split,
        limit=limit,
        seed=seed,
        precision=precision,
        device=device,
        code_base=code_base,
        text_base=text_base,
    )
    console = Console(stderr=True)
    try:
        with console.status("evaluate") as status, ExitStack() as stack:
            live = None
            if endpoint is not None:
                live = LiveSpace(stack.enter_context(Client(endpoint, api_key=api_key, timeout_s=300.0)))
            evaluation = measure(request, lambda step: status.update(f"evaluate: {step}"), live=live)
    except ClientError as exc:
        raise TrainingError(f"{exc} [{exc.reason or exc.code.name}]") from exc
    result = evaluation.as_dict()
    if html is not None:
        write_page(evaluation, curves, html)
    if as_json:
        typer.echo(json.dumps(result, indent=2))
        return
    for line in table_of(result):
        typer.echo(line)


def table_of(result: dict[str, Any]) -> list[str]:
    """The document of `--json` as lines for a terminal: every condition, then what the vectors are like."""
    from training.evaluation.evaluate import SPREAD

    lines = []
    for condition in CONDITIONS:
        lines.append(f"names {condition}: {result['queries'][condition]} queries")
        for system, values in result["systems"].items():
            whole = values[condition]["all"]
            figures = "  ".join(f"{name} {whole[name]:.3f}" for name in ("mrr@10", "ndcg@10", "recall@10"))
            lines.append(f"  {system:<15} {figures}")
    lines.append("vectors, names as they are; of alignment and uniformity less is better")
    for system, values in result["systems"].items():
        if figures := "  ".join(f"{name.replace('_', ' ')} {values[name]:.3f}" for name in SPREAD if name in values):
            lines.append(f"  {system:<15} {figures}")
    return lines


def _spec(name: str | None) -> EncoderSpec | None:
    if name is None:
        return None
    return load_spec(Path(name)) if name.endswith(".toml") else load_builtin(name)
