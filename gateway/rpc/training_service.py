"""TrainingService: queues runs for workers."""

import re
import tomllib
from typing import Any

import grpc
from google.protobuf.struct_pb2 import Struct

from duovec.v1 import training_service_pb2 as pb
from duovec.v1 import training_service_pb2_grpc as pb_grpc
from gateway.errors import InvalidInput
from gateway.rpc import paging, validation
from gateway.rpc.timestamps import timestamp
from gateway.store.training import TrainingRunRow, TrainingScheduleRow, TrainingSpec, TrainingStore

Context = grpc.aio.ServicerContext[Any, Any]

MAX_RECIPE_CHARS = 65_536
MAX_CODEBASES = 100
MAX_FEEDBACK_COUNT = 1_000_000
_NEWEST = 2**63 - 1
_ENCODER = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_DEVICE = re.compile(r"auto|cpu|cuda(:[0-9]{1,3})?")
_PREFIX = "TRAINING_PRECISION_"
_PRECISIONS = {number: name.removeprefix(_PREFIX).lower() for name, number in pb.TrainingPrecision.items()}


class TrainingServicer(pb_grpc.TrainingServiceServicer):
    """Translates between the protos and the store, which lets administrators in."""

    def __init__(self, training: TrainingStore, *, timeout_s: float) -> None:
        """Args: timeout_s: Budget of a call, seconds."""
        self._training = training
        self._timeout_s = timeout_s

    async def StartTrainingRun(  # noqa: N802
        self, request: pb.StartTrainingRunRequest, context: Context
    ) -> pb.StartTrainingRunResponse:
        """Queue a run."""
        row = await self._training.start(_spec("spec", request.spec), timeout_s=self._timeout_s)
        return pb.StartTrainingRunResponse(run=_run(row))

    async def GetTrainingRun(  # noqa: N802
        self, request: pb.GetTrainingRunRequest, context: Context
    ) -> pb.GetTrainingRunResponse:
        """Get one run."""
        row = await self._training.get(_id("run_id", request.run_id), timeout_s=self._timeout_s)
        return pb.GetTrainingRunResponse(run=_run(row))

    async def ListTrainingRuns(  # noqa: N802
        self, request: pb.ListTrainingRunsRequest, context: Context
    ) -> pb.ListTrainingRunsResponse:
        """List runs, newest first."""
        page_size = validation.page_size(request.page_size, default=100, limit=1000)
        before = _place(paging.decode_for(request, 1), _NEWEST)
        rows = await self._training.list(before, page_size + 1, timeout_s=self._timeout_s)
        more, rows = len(rows) > page_size, rows[:page_size]
        return pb.ListTrainingRunsResponse(
            runs=[_run(row) for row in rows],
            next_page_token=paging.encode_for(request, str(rows[-1].run_id)) if more else "",
        )

    async def CancelTrainingRun(  # noqa: N802
        self, request: pb.CancelTrainingRunRequest, context: Context
    ) -> pb.CancelTrainingRunResponse:
        """Cancel a run."""
        row = await self._training.cancel(_id("run_id", request.run_id), timeout_s=self._timeout_s)
        return pb.CancelTrainingRunResponse(run=_run(row))

    async def CreateTrainingSchedule(  # noqa: N802
        self, request: pb.CreateTrainingScheduleRequest, context: Context
    ) -> pb.CreateTrainingScheduleResponse:
        """Add a schedule."""
        count = request.schedule.min_feedback_count
        if not 1 <= count <= MAX_FEEDBACK_COUNT:
            raise InvalidInput("schedule.min_feedback_count", f"is {count}; use 1 to {MAX_FEEDBACK_COUNT}")
        spec = _spec("schedule.spec", request.schedule.spec)
        row = await self._training.create_schedule(spec, count, timeout_s=self._timeout_s)
        return pb.CreateTrainingScheduleResponse(schedule=_schedule(row))

    async def ListTrainingSchedules(  # noqa: N802
        self, request: pb.ListTrainingSchedulesRequest, context: Context
    ) -> pb.ListTrainingSchedulesResponse:
        """List schedules."""
        page_size = validation.page_size(request.page_size, default=100, limit=1000)
        after = _place(paging.decode_for(request, 1), 0)
        rows = await self._training.list_schedules(after, page_size + 1, timeout_s=self._timeout_s)
        more, rows = len(rows) > page_size, rows[:page_size]
        return pb.ListTrainingSchedulesResponse(
            schedules=[_schedule(row) for row in rows],
            next_page_token=paging.encode_for(request, str(rows[-1].schedule_id)) if more else "",
        )

    async def DeleteTrainingSchedule(  # noqa: N802
        self, request: pb.DeleteTrainingScheduleRequest, context: Context
    ) -> pb.DeleteTrainingScheduleResponse:
        """Delete a schedule."""
        await self._training.delete_schedule(_id("schedule_id", request.schedule_id), timeout_s=self._timeout_s)
        return pb.DeleteTrainingScheduleResponse()


def _spec(field: str, spec: pb.TrainingSpec) -> TrainingSpec:
    recipe = validation.text(f"{field}.recipe", spec.recipe)
    if len(recipe) > MAX_RECIPE_CHARS:
        raise InvalidInput(f"{field}.recipe", f"has {len(recipe)} characters, the limit is {MAX_RECIPE_CHARS}")
    if len(spec.codebase_ids) > MAX_CODEBASES:
        raise InvalidInput(f"{field}.codebase_ids", f"has {len(spec.codebase_ids)}, the limit is {MAX_CODEBASES}")
    if spec.HasField("seed") and spec.seed < 0:
        raise InvalidInput(f"{field}.seed", f"is {spec.seed}; use 0 or more, or leave it out")
    device = spec.device or "auto"
    if not _DEVICE.fullmatch(device):
        raise InvalidInput(f"{field}.device", f"is {device[:80]!r}; use auto, cpu, cuda or cuda:N")
    if spec.precision not in _PRECISIONS:
        raise InvalidInput(f"{field}.precision", f"is {spec.precision}, which is none of TrainingPrecision")
    return TrainingSpec(
        recipe=recipe,
        encoder=_encoder(f"{field}.recipe", recipe),
        codebase_ids=tuple(validation.codebase_id(codebase_id) for codebase_id in spec.codebase_ids),
        seed=spec.seed if spec.HasField("seed") else None,
        device=device,
        precision=_PRECISIONS[spec.precision] if spec.precision else None,
        publish=spec.publish,
    )


def _encoder(field: str, recipe: str) -> str:
    """The recipe's encoder: a name, and no path, so that nobody has a worker read a file of its choice."""
    try:
        encoder = tomllib.loads(recipe).get("encoder")
    except (ValueError, RecursionError) as exc:  # a number of 5,000 digits is no TOMLDecodeError
        raise InvalidInput(field, f"is not TOML: {exc}") from exc
    if not isinstance(encoder, str) or not _ENCODER.fullmatch(encoder):
        raise InvalidInput(field, "must say `encoder`, the name of a built-in encoder or of a spec file of the workers")
    return encoder


def _id(field: str, value: int) -> int:
    if value < 1:
        raise InvalidInput(field, f"is {value}; ids count from 1")
    return value


def _place(key: list[str] | None, first: int) -> int:
    if key is None:
        return first
    if not key[0].isascii() or not key[0].isdigit() or len(key[0]) > 18:
        raise paging.foreign_token()
    return int(key[0])


def _spec_message(spec: TrainingSpec) -> pb.TrainingSpec:
    return pb.TrainingSpec(
        recipe=spec.recipe,
        codebase_ids=spec.codebase_ids,
        seed=spec.seed,
        device=spec.device,
        precision=f"{_PREFIX}{spec.precision.upper()}" if spec.precision else None,
        publish=spec.publish,
    )


def _run(row: TrainingRunRow) -> pb.TrainingRun:
    return pb.TrainingRun(
        run_id=row.run_id,
        spec=_spec_message(row.spec),
        encoder=row.spec.encoder,
        principal_id=row.principal_id,
        schedule_id=row.schedule_id or 0,
        state=f"TRAINING_STATE_{row.state}",
        stage=f"TRAINING_STAGE_{row.stage.upper()}" if row.stage else None,
        cancel_requested=row.cancel_requested,
        attempt=row.attempt,
        worker=row.worker or "",
        step=row.step,
        step_count=row.step_count,
        loss=row.loss,
        tokens_per_second=row.tokens_per_s,
        error_reason=row.error_reason or "",
        error=row.error or "",
        lineage=_struct(row.lineage),
        metrics=_struct(row.metrics) if row.metrics is not None else None,
        space=row.space or "",
        create_time=timestamp(row.create_time),
        start_time=timestamp(row.start_time),
        finish_time=timestamp(row.finish_time),
    )


def _schedule(row: TrainingScheduleRow) -> pb.TrainingSchedule:
    return pb.TrainingSchedule(
        schedule_id=row.schedule_id,
        spec=_spec_message(row.spec),
        min_feedback_count=row.min_feedback_count,
        encoder=row.spec.encoder,
        principal_id=row.principal_id,
        create_time=timestamp(row.create_time),
    )


def _struct(value: dict[str, Any]) -> Struct:
    struct = Struct()
    struct.update(value)
    return struct
