"""Training: the part of the client for administrators who have encoders trained."""

from collections.abc import Callable, Iterator
from typing import Any, cast

import grpc

from duovec.v1 import training_service_pb2 as pb
from duovec.v1.training_service_pb2_grpc import TrainingServiceStub
from gateway.client.paging import pages


class Training:
    """Every method raises ClientError when its call fails."""

    def __init__(self, channel: grpc.Channel, call: Callable[..., Any]) -> None:
        """Use `Client.training`."""
        # The generated stubs carry no annotations.
        self._stub = cast(Callable[[grpc.Channel], Any], TrainingServiceStub)(channel)
        self._call = call

    def start(self, spec: pb.TrainingSpec) -> pb.TrainingRun:
        """Queue a run for a worker."""
        response: pb.StartTrainingRunResponse = self._call(
            self._stub.StartTrainingRun, pb.StartTrainingRunRequest(spec=spec), repeatable=False
        )
        return response.run

    def get(self, run_id: int) -> pb.TrainingRun:
        """One run, with how far it is."""
        response: pb.GetTrainingRunResponse = self._call(
            self._stub.GetTrainingRun, pb.GetTrainingRunRequest(run_id=run_id)
        )
        return response.run

    def list(self) -> Iterator[pb.TrainingRun]:
        """Yield runs, newest first, page by page."""
        request = pb.ListTrainingRunsRequest()
        for response in pages(self._call, self._stub.ListTrainingRuns, request):
            yield from response.runs

    def cancel(self, run_id: int) -> pb.TrainingRun:
        """Cancel a run; a running one ends when its worker sees it."""
        response: pb.CancelTrainingRunResponse = self._call(
            self._stub.CancelTrainingRun, pb.CancelTrainingRunRequest(run_id=run_id)
        )
        return response.run

    def create_schedule(self, spec: pb.TrainingSpec, *, min_feedback_count: int) -> pb.TrainingSchedule:
        """Have a run queued whenever so many hits were judged since the last one."""
        schedule = pb.TrainingSchedule(spec=spec, min_feedback_count=min_feedback_count)
        response: pb.CreateTrainingScheduleResponse = self._call(
            self._stub.CreateTrainingSchedule, pb.CreateTrainingScheduleRequest(schedule=schedule), repeatable=False
        )
        return response.schedule

    def list_schedules(self) -> Iterator[pb.TrainingSchedule]:
        """Yield schedules by id, page by page."""
        request = pb.ListTrainingSchedulesRequest()
        for response in pages(self._call, self._stub.ListTrainingSchedules, request):
            yield from response.schedules

    def delete_schedule(self, schedule_id: int) -> None:
        """Delete a schedule; its runs stay."""
        request = pb.DeleteTrainingScheduleRequest(schedule_id=schedule_id)
        self._call(self._stub.DeleteTrainingSchedule, request, repeatable=False)
