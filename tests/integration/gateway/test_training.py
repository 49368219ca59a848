"""TrainingService over RPC and by `duovec training`: what was asked for is what a worker would claim."""

import json
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from click.testing import Result
from typer.testing import CliRunner

from duovec.v1 import training_service_pb2 as pb
from gateway.cli.main import app
from gateway.client.client import Client
from gateway.client.errors import ClientError
from gateway.local.stack import Stack

RECIPE = 'encoder = "compact-code"\n[optimizer]\nlearning_rate = 0.001\n'


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


Command = Callable[..., Result]


@pytest.fixture
def run(stack: Stack) -> Command:
    def invoke(*words: str) -> Result:
        options = ["--endpoint", stack.endpoint, "--api-key", stack.api_key]
        return CliRunner().invoke(app, ["training", *words, *options])

    return invoke


def spec(**fields: object) -> pb.TrainingSpec:
    return pb.TrainingSpec(**{"recipe": RECIPE, **fields})


def test_a_run_is_queued_shown_and_cancelled(client: Client) -> None:
    asked = spec(
        codebase_ids=["mine", "other"],
        seed=0,
        device="cuda:1",
        precision="TRAINING_PRECISION_BF16",
        publish=True,
    )
    run = client.training.start(asked)
    assert run.spec == asked
    assert (run.state, run.encoder, run.principal_id) == (pb.TRAINING_STATE_QUEUED, "compact-code", "admin")
    assert (run.attempt, run.worker, run.stage, run.space, run.HasField("metrics")) == (0, "", 0, "", False)
    assert not run.HasField("start_time")
    assert client.training.get(run.run_id) == run
    later = client.training.start(spec())
    assert (later.spec.device, later.spec.HasField("seed")) == ("auto", False)
    newest = list(client.training.list())[:2]
    assert [one.run_id for one in newest] == [later.run_id, run.run_id]
    for _ in range(2):
        cancelled = client.training.cancel(run.run_id)
        assert cancelled.state == pb.TRAINING_STATE_CANCELLED
        assert cancelled.HasField("finish_time")
    client.training.cancel(later.run_id)


def test_pages_hold_each_run_once(client: Client, stack: Stack) -> None:
    made = [client.training.start(spec()).run_id for _ in range(5)]
    listed: list[int] = []
    token = ""
    with grpc.insecure_channel(stack.endpoint) as channel:
        call = channel.unary_unary(
            "/duovec.v1.TrainingService/ListTrainingRuns",
            request_serializer=pb.ListTrainingRunsRequest.SerializeToString,
            response_deserializer=pb.ListTrainingRunsResponse.FromString,
        )
        while len(listed) < 5:
            request = pb.ListTrainingRunsRequest(page_size=2, page_token=token)
            reply = call(request, metadata=[("authorization", f"Bearer {stack.api_key}")], timeout=30)
            listed += [run.run_id for run in reply.runs]
            token = reply.next_page_token
    assert listed[:5] == made[::-1]
    for run_id in made:
        client.training.cancel(run_id)


def test_schedules_are_made_listed_and_deleted(client: Client) -> None:
    made = client.training.create_schedule(spec(publish=True), min_feedback_count=500)
    assert (made.min_feedback_count, made.encoder, made.principal_id) == (500, "compact-code", "admin")
    assert made in list(client.training.list_schedules())
    client.training.delete_schedule(made.schedule_id)
    assert made not in list(client.training.list_schedules())
    with pytest.raises(ClientError) as failure:
        client.training.delete_schedule(made.schedule_id)
    assert failure.value.reason == "TRAINING_SCHEDULE_NOT_FOUND"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"recipe": ""}, "spec.recipe"),
        ({"recipe": "encoder = "}, "spec.recipe"),
        ({"recipe": "seed = 3"}, "spec.recipe"),
        ({"recipe": "encoder = 3"}, "spec.recipe"),
        ({"recipe": "encoder = '../../etc/passwd.toml'"}, "spec.recipe"),
        ({"recipe": "encoder = '/etc/x.toml'"}, "spec.recipe"),
        ({"recipe": "a = " + "[" * 5000}, "spec.recipe"),
        ({"recipe": "encoder = " + "9" * 5000}, "spec.recipe"),
        ({"recipe": RECIPE + "#" * 65_536}, "spec.recipe"),
        ({"recipe": RECIPE + "#\x00"}, "spec.recipe"),
        ({"codebase_ids": ["no such id!"]}, "codebase_id"),
        ({"codebase_ids": ["a"] * 101}, "spec.codebase_ids"),
        ({"seed": -1}, "spec.seed"),
        ({"device": "tpu"}, "spec.device"),
        ({"device": "cuda:"}, "spec.device"),
        ({"precision": 17}, "spec.precision"),
    ],
)
def test_what_no_worker_could_do_is_refused(client: Client, fields: dict[str, object], field: str) -> None:
    """The field is named; nothing is queued."""
    before = [run.run_id for run in client.training.list()]
    with pytest.raises(ClientError) as failure:
        client.training.start(spec(**fields))
    assert failure.value.code == grpc.StatusCode.INVALID_ARGUMENT
    assert failure.value.violations[0].field == field
    assert [run.run_id for run in client.training.list()] == before


def test_the_command_queues_shows_and_cancels(run: Command, recipe: Path) -> None:
    started = run("start", str(recipe), "--seed", "5", "--precision", "bf16", "--publish", "--json")
    assert started.exit_code == 0, started.stderr
    queued = json.loads(started.stdout)
    assert (queued["state"], queued["spec"]["seed"], queued["spec"]["precision"]) == (
        "QUEUED",
        5,
        "TRAINING_PRECISION_BF16",
    )
    number = str(queued["run_id"])
    assert "QUEUED" in run("list").stdout
    assert f"run {number}, compact-code: QUEUED" in run("get", number).stdout
    assert "is cancelled" in run("cancel", number).stdout
    assert json.loads(run("get", number, "--json").stdout)["state"] == "CANCELLED"
    made = run("schedule", str(recipe), "--feedback", "500")
    schedule = made.stdout.split()[-1]
    assert "500" in run("schedules").stdout
    assert run("unschedule", schedule).exit_code == 0
    missing = run("get", "999999999")
    assert (missing.exit_code, "[TRAINING_RUN_NOT_FOUND]" in missing.stderr) == (1, True)
    assert run("start", str(recipe), "--precision", "int8").exit_code == 2
