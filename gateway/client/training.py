"""Training: the part of the client for administrators who have encoders trained."""

from collections.abc import AsyncGenerator

from duovec.v1 import training_service_pb2 as pb
from gateway.client.dual import Mode, Part, dual, dual_iterator
from gateway.client.rpc import Rpc

_CANCEL_TRAINING_RUN = Rpc("duovec.v1.TrainingService/CancelTrainingRun", pb.CancelTrainingRunResponse)
_CREATE_TRAINING_SCHEDULE = Rpc(
    "duovec.v1.TrainingService/CreateTrainingSchedule", pb.CreateTrainingScheduleResponse, repeatable=False
)
_DELETE_TRAINING_SCHEDULE = Rpc(
    "duovec.v1.TrainingService/DeleteTrainingSchedule", pb.DeleteTrainingScheduleResponse, repeatable=False
)
_GET_TRAINING_RUN = Rpc("duovec.v1.TrainingService/GetTrainingRun", pb.GetTrainingRunResponse)
_LIST_TRAINING_RUNS = Rpc("duovec.v1.TrainingService/ListTrainingRuns", pb.ListTrainingRunsResponse)
_LIST_TRAINING_SCHEDULES = Rpc("duovec.v1.TrainingService/ListTrainingSchedules", pb.ListTrainingSchedulesResponse)
_START_TRAINING_RUN = Rpc("duovec.v1.TrainingService/StartTrainingRun", pb.StartTrainingRunResponse, repeatable=False)


class Training(Part[Mode]):
    """Every method raises ClientError when its call fails."""

    @dual
    async def start(self, spec: pb.TrainingSpec) -> pb.TrainingRun:
        """Queue a run for a worker."""
        response = await self._connection.call(_START_TRAINING_RUN, pb.StartTrainingRunRequest(spec=spec))
        return response.run

    @dual
    async def get(self, run_id: int) -> pb.TrainingRun:
        """One run, with how far it is."""
        response = await self._connection.call(_GET_TRAINING_RUN, pb.GetTrainingRunRequest(run_id=run_id))
        return response.run

    @dual_iterator
    async def list(self) -> AsyncGenerator[pb.TrainingRun]:
        """Yield runs, newest first, page by page."""
        request = pb.ListTrainingRunsRequest()
        async for response in self._connection.pages(_LIST_TRAINING_RUNS, request):
            for item in response.runs:
                yield item

    @dual
    async def cancel(self, run_id: int) -> pb.TrainingRun:
        """Cancel a run; a running one ends when its worker sees it."""
        response = await self._connection.call(_CANCEL_TRAINING_RUN, pb.CancelTrainingRunRequest(run_id=run_id))
        return response.run

    @dual
    async def create_schedule(self, spec: pb.TrainingSpec, *, min_feedback_count: int) -> pb.TrainingSchedule:
        """Have a run queued whenever feedback gave so many examples since the last one."""
        schedule = pb.TrainingSchedule(spec=spec, min_feedback_count=min_feedback_count)
        response = await self._connection.call(
            _CREATE_TRAINING_SCHEDULE, pb.CreateTrainingScheduleRequest(schedule=schedule)
        )
        return response.schedule

    @dual_iterator
    async def list_schedules(self) -> AsyncGenerator[pb.TrainingSchedule]:
        """Yield schedules by id, page by page."""
        request = pb.ListTrainingSchedulesRequest()
        async for response in self._connection.pages(_LIST_TRAINING_SCHEDULES, request):
            for item in response.schedules:
                yield item

    @dual
    async def delete_schedule(self, schedule_id: int) -> None:
        """Delete a schedule; its runs stay."""
        request = pb.DeleteTrainingScheduleRequest(schedule_id=schedule_id)
        await self._connection.call(_DELETE_TRAINING_SCHEDULE, request)
