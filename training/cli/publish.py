"""`duovec-train publish`: from a checkpoint that is better to the space that is searched."""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from export.cli.options import DEFAULT_GATE, DEFAULT_TRITON_TIMEOUT_S, GateLongest, GatePairs, TritonTimeout, TritonUrl
from export.cli.output import steps
from export.gate.settings import GateSettings
from export.spec import EncoderSpec, load_builtin, load_pair, load_spec
from training.errors import TrainingError
from training.publication.unfinished import gateway_failure

OWN = "own"


def publish(
    data: Annotated[Path, typer.Option(help="Folder of the mined data set; its test split decides.")],
    repository: Annotated[Path, typer.Option(help="Model repository that the gateway's Triton serves.")],
    code: Annotated[Path | None, typer.Option(help="Checkpoint of the code encoder, such as runs/7/result.")] = None,
    text: Annotated[Path | None, typer.Option(help="Checkpoint of the text encoder.")] = None,
    pair: Annotated[str, typer.Option(help="Built-in pair that the specs are of: compact or full.")] = "compact",
    code_spec: Annotated[str | None, typer.Option(help="Built-in encoder or spec file, instead of the pair's.")] = None,
    text_spec: Annotated[str | None, typer.Option(help="Built-in encoder or spec file, instead of the pair's.")] = None,
    endpoint: Annotated[
        str, typer.Option(envvar="DUOVEC_ENDPOINT", help="Where the gateway listens.")
    ] = "127.0.0.1:50051",
    api_key: Annotated[
        str | None, typer.Option(envvar="DUOVEC_API_KEY", help="An administrator's key; else the one that is kept.")
    ] = None,
    database_url: Annotated[
        str | None,
        typer.Option(envvar="DUOVEC_DATABASE_URL", show_envvar=True, help="The gateway's database, for the record."),
    ] = None,
    triton_url: TritonUrl = None,
    triton_timeout: TritonTimeout = DEFAULT_TRITON_TIMEOUT_S,
    baseline: Annotated[
        str | None,
        typer.Option(
            help="Compare with this checkpoint instead of the live space; `own` for what the spec is, its trained "
            "adapters included, or for --code-base or --text-base."
        ),
    ] = None,
    code_base: Annotated[
        Path | None, typer.Option(help="What the code encoder was trained from, instead of the spec's source.")
    ] = None,
    text_base: Annotated[
        Path | None, typer.Option(help="What the text encoder was trained from, instead of the spec's source.")
    ] = None,
    min_gain: Annotated[
        float, typer.Option(min=-1, max=1, help="The gain in MRR@10 must be above it with its whole interval.")
    ] = 0.0,
    slice_tolerance: Annotated[
        float, typer.Option(min=0, max=1, help="What a style or language may lose, or half its interval if wider.")
    ] = 0.02,
    names: Annotated[str, typer.Option(help="Condition that must gain: named or blanked.")] = "named",
    limit: Annotated[int, typer.Option(min=2, help="Queries to ask, evenly over the styles.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Draws the queries.")] = 0,
    unseen_data: Annotated[
        bool, typer.Option("--unseen-data", help="The checkpoint was not trained on this set's test split; I know.")
    ] = False,
    gate_pairs: GatePairs = DEFAULT_GATE.pairs,
    gate_longest: GateLongest = DEFAULT_GATE.longest_bucket,
    rate: Annotated[float, typer.Option(min=0, help="Chunks a second to embed again; 0 for as many as go.")] = 0.0,
    wait: Annotated[float, typer.Option(min=0, help="How long to wait for the new vectors, seconds.")] = 24 * 3600.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Measure, say what would happen, change nothing.")] = False,
    take_back: Annotated[
        bool, typer.Option("--take-back", help="Undo what a publication did that did not reach its end.")
    ] = False,
    run: Annotated[str | None, typer.Option(hidden=True, help="RUN:ATTEMPT that a worker publishes for.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, for programs.")] = False,
) -> None:
    """Publish checkpoints if they are better than the live space, up to a new active space.

    Asks the test split's questions of the candidate, of the live space through the gateway, of the untrained base and
    of BM25. If the candidate is better by more than the interval, and no query style or language loses more than
    --slice-tolerance, or than half its interval where that is wider (fewer than 10 queries are not judged): exports and
    proves it, publishes it through Triton beside the live version, builds a space, has every chunk embedded again,
    waits for the verification, and activates. Otherwise: NOT_BETTER, exit code 1, nothing published. Run again after a
    failure, it goes on where it was.

    Examples:

        duovec-train publish --code runs/7/result --data data --repository models --dry-run

        duovec-train publish --code runs/7/result --text runs/8/result --data data --repository models
        --triton-url 127.0.0.1:8001 --database-url postgresql://...
    """
    specs = _specs(pair, code_spec, text_spec)
    folders = {role: folder for role, folder in (("code", code), ("text", text)) if folder is not None}
    bases = {role: base for role, base in (("code", code_base), ("text", text_base)) if base is not None}
    if not folders:
        raise typer.BadParameter("give --code, --text or both: they say what to publish")
    if not repository.is_dir():
        raise TrainingError(f"--repository {repository} is no folder; it is the one that the gateway's Triton serves")
    if not dry_run and (triton_url is None or database_url is None):
        raise typer.BadParameter("publishing takes --triton-url and --database-url; --dry-run does without")
    from gateway.client.client import Client
    from gateway.client.errors import ClientError
    from training.publication.candidacy import Candidacy
    from training.publication.gate import GateLimits
    from training.publication.ledger import Ledger
    from training.publication.measure import Baseline, Candidate
    from training.publication.publish import Publisher, connect_triton
    from training.publication.request import NotBetter, PublishRequest

    try:
        limits = GateLimits(min_gain=min_gain, slice_tolerance=slice_tolerance, names=names)
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc
    claim = _claim(run)
    try:
        with ExitStack() as stack:
            on_step = stack.enter_context(steps("publish"))
            opponent = None
            if baseline is not None:
                if baseline != OWN and len(folders) == 2:
                    raise typer.BadParameter("--baseline is one checkpoint: publish the encoders one by one")
                chosen = {role: specs[role] for role in folders}
                opponent = Baseline(opponents_of(baseline, chosen, bases), f"baseline {baseline}")
            request = PublishRequest(
                {role: Candidate(specs[role], folder) for role, folder in folders.items()},
                data,
                repository,
                limits=limits,
                limit=limit,
                seed=seed,
                unseen_data=unseen_data,
                baseline=opponent,
                bases=bases,
                export_gate=GateSettings(gate_longest, gate_pairs),
                rate=rate,
                wait_s=wait,
            )
            client = stack.enter_context(Client(endpoint, api_key=api_key, timeout_s=300.0))
            if dry_run or triton_url is None or database_url is None:
                result = Candidacy(request, client, on_step).look()
            else:
                ledger = stack.enter_context(Ledger(database_url, claim))
                triton = connect_triton(stack, triton_url, triton_timeout)
                publisher = Publisher(request, client, ledger, triton, on_step)
                if take_back:
                    publisher.withdraw()
                    return
                result = publisher.publish()
    except NotBetter as exc:
        _show({"published": False, "verdict": exc.verdict}, as_json)
        raise
    except ClientError as exc:
        raise gateway_failure(exc) from exc
    _show(result, as_json)
    if as_json:
        return
    if dry_run:
        typer.echo("\n".join(("better", *describe_plan(result["plan"]))))
    else:
        typer.echo(f"space {result['space']} is the active one; back: duovec space rollback")


def opponents_of(
    baseline: str, specs: Mapping[str, EncoderSpec], bases: Mapping[str, Path]
) -> dict[str, tuple[EncoderSpec, Path | None]]:
    """What each encoder is compared with, by role: a spec, and the checkpoint that it reads; None for its own weights.

    `own` is what the spec is today, trained adapters included, since a gain over an untrained base is no reason to
    replace a trained encoder. Where it was trained from another base it is that one, with the adapters that it holds.
    """
    if baseline != OWN:
        return {role: (spec, Path(baseline)) for role, spec in specs.items()}
    return {role: (spec.untrained, bases[role]) if role in bases else (spec, None) for role, spec in specs.items()}


def _show(result: dict[str, Any], as_json: bool) -> None:
    from training.publication.gate import table_of

    typer.echo(json.dumps(result, indent=2) if as_json else table_of(result["verdict"]))


def describe_plan(plan: dict[str, Any] | None) -> list[str]:
    """What a publication would do, a line a step."""
    if plan is None:
        return ["what it would change is not known: against a checkpoint no gateway was asked"]
    if "refused" in plan:
        return [f"it would not be published: {plan['refused']}"]
    lines = []
    for one in plan["exports"].values():
        how = "serve it again" if one["is_built"] else f"export and prove it for {one['runtime']} in {one['precision']}"
        lines.append(f"{one['encoder']}: version {one['version']} beside version {one['live']}, {how}")
    return [
        *lines,
        f"a new space beside {plan['live_space'][:12]}: {plan['chunks']:,} chunks would be embedded anew, "
        "then verified and activated",
    ]


def _specs(pair: str, code: str | None, text: str | None) -> dict[str, EncoderSpec]:
    specs = dict(zip(("code", "text"), load_pair(pair), strict=True))
    for role, name in (("code", code), ("text", text)):
        if name is not None:
            specs[role] = load_spec(Path(name)) if name.endswith(".toml") else load_builtin(name)
            if specs[role].role != role:
                raise typer.BadParameter(f"--{role}-spec: {specs[role].name} is a {specs[role].role} encoder")
    return specs


def _claim(run: str | None) -> Any:
    if run is None:
        return None
    from training.publication.ledger import RunClaim

    number, _, attempt = run.partition(":")
    if not (number.isdigit() and attempt.isdigit()):
        raise typer.BadParameter("--run is RUN:ATTEMPT")
    return RunClaim(int(number), int(attempt))
