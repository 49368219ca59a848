import datetime

from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TrainingState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TRAINING_STATE_UNSPECIFIED: _ClassVar[TrainingState]
    TRAINING_STATE_QUEUED: _ClassVar[TrainingState]
    TRAINING_STATE_RUNNING: _ClassVar[TrainingState]
    TRAINING_STATE_SUCCEEDED: _ClassVar[TrainingState]
    TRAINING_STATE_FAILED: _ClassVar[TrainingState]
    TRAINING_STATE_CANCELLED: _ClassVar[TrainingState]

class TrainingStage(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TRAINING_STAGE_UNSPECIFIED: _ClassVar[TrainingStage]
    TRAINING_STAGE_MINE: _ClassVar[TrainingStage]
    TRAINING_STAGE_TRAIN: _ClassVar[TrainingStage]
    TRAINING_STAGE_EVALUATE: _ClassVar[TrainingStage]
    TRAINING_STAGE_EXPORT: _ClassVar[TrainingStage]
    TRAINING_STAGE_BUILD_SPACE: _ClassVar[TrainingStage]
    TRAINING_STAGE_REEMBED: _ClassVar[TrainingStage]
    TRAINING_STAGE_ACTIVATE: _ClassVar[TrainingStage]

class TrainingPrecision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TRAINING_PRECISION_UNSPECIFIED: _ClassVar[TrainingPrecision]
    TRAINING_PRECISION_FP32: _ClassVar[TrainingPrecision]
    TRAINING_PRECISION_BF16: _ClassVar[TrainingPrecision]
    TRAINING_PRECISION_FP16: _ClassVar[TrainingPrecision]
TRAINING_STATE_UNSPECIFIED: TrainingState
TRAINING_STATE_QUEUED: TrainingState
TRAINING_STATE_RUNNING: TrainingState
TRAINING_STATE_SUCCEEDED: TrainingState
TRAINING_STATE_FAILED: TrainingState
TRAINING_STATE_CANCELLED: TrainingState
TRAINING_STAGE_UNSPECIFIED: TrainingStage
TRAINING_STAGE_MINE: TrainingStage
TRAINING_STAGE_TRAIN: TrainingStage
TRAINING_STAGE_EVALUATE: TrainingStage
TRAINING_STAGE_EXPORT: TrainingStage
TRAINING_STAGE_BUILD_SPACE: TrainingStage
TRAINING_STAGE_REEMBED: TrainingStage
TRAINING_STAGE_ACTIVATE: TrainingStage
TRAINING_PRECISION_UNSPECIFIED: TrainingPrecision
TRAINING_PRECISION_FP32: TrainingPrecision
TRAINING_PRECISION_BF16: TrainingPrecision
TRAINING_PRECISION_FP16: TrainingPrecision

class TrainingSpec(_message.Message):
    __slots__ = ("recipe", "codebase_ids", "seed", "device", "precision", "publish")
    RECIPE_FIELD_NUMBER: _ClassVar[int]
    CODEBASE_IDS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    PUBLISH_FIELD_NUMBER: _ClassVar[int]
    recipe: str
    codebase_ids: _containers.RepeatedScalarFieldContainer[str]
    seed: int
    device: str
    precision: TrainingPrecision
    publish: bool
    def __init__(self, recipe: _Optional[str] = ..., codebase_ids: _Optional[_Iterable[str]] = ..., seed: _Optional[int] = ..., device: _Optional[str] = ..., precision: _Optional[_Union[TrainingPrecision, str]] = ..., publish: _Optional[bool] = ...) -> None: ...

class TrainingRun(_message.Message):
    __slots__ = ("run_id", "spec", "encoder", "principal_id", "schedule_id", "state", "stage", "cancel_requested", "attempt", "worker", "step", "step_count", "loss", "tokens_per_second", "error_reason", "error", "lineage", "metrics", "space", "create_time", "start_time", "finish_time")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    ENCODER_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_ID_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    CANCEL_REQUESTED_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    STEP_COUNT_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    ERROR_REASON_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    SPACE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    FINISH_TIME_FIELD_NUMBER: _ClassVar[int]
    run_id: int
    spec: TrainingSpec
    encoder: str
    principal_id: str
    schedule_id: int
    state: TrainingState
    stage: TrainingStage
    cancel_requested: bool
    attempt: int
    worker: str
    step: int
    step_count: int
    loss: float
    tokens_per_second: float
    error_reason: str
    error: str
    lineage: _struct_pb2.Struct
    metrics: _struct_pb2.Struct
    space: str
    create_time: _timestamp_pb2.Timestamp
    start_time: _timestamp_pb2.Timestamp
    finish_time: _timestamp_pb2.Timestamp
    def __init__(self, run_id: _Optional[int] = ..., spec: _Optional[_Union[TrainingSpec, _Mapping]] = ..., encoder: _Optional[str] = ..., principal_id: _Optional[str] = ..., schedule_id: _Optional[int] = ..., state: _Optional[_Union[TrainingState, str]] = ..., stage: _Optional[_Union[TrainingStage, str]] = ..., cancel_requested: _Optional[bool] = ..., attempt: _Optional[int] = ..., worker: _Optional[str] = ..., step: _Optional[int] = ..., step_count: _Optional[int] = ..., loss: _Optional[float] = ..., tokens_per_second: _Optional[float] = ..., error_reason: _Optional[str] = ..., error: _Optional[str] = ..., lineage: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., metrics: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., space: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., finish_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class TrainingSchedule(_message.Message):
    __slots__ = ("schedule_id", "spec", "min_feedback_count", "encoder", "principal_id", "create_time")
    SCHEDULE_ID_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    MIN_FEEDBACK_COUNT_FIELD_NUMBER: _ClassVar[int]
    ENCODER_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_ID_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    schedule_id: int
    spec: TrainingSpec
    min_feedback_count: int
    encoder: str
    principal_id: str
    create_time: _timestamp_pb2.Timestamp
    def __init__(self, schedule_id: _Optional[int] = ..., spec: _Optional[_Union[TrainingSpec, _Mapping]] = ..., min_feedback_count: _Optional[int] = ..., encoder: _Optional[str] = ..., principal_id: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class StartTrainingRunRequest(_message.Message):
    __slots__ = ("spec",)
    SPEC_FIELD_NUMBER: _ClassVar[int]
    spec: TrainingSpec
    def __init__(self, spec: _Optional[_Union[TrainingSpec, _Mapping]] = ...) -> None: ...

class StartTrainingRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: TrainingRun
    def __init__(self, run: _Optional[_Union[TrainingRun, _Mapping]] = ...) -> None: ...

class GetTrainingRunRequest(_message.Message):
    __slots__ = ("run_id",)
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    run_id: int
    def __init__(self, run_id: _Optional[int] = ...) -> None: ...

class GetTrainingRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: TrainingRun
    def __init__(self, run: _Optional[_Union[TrainingRun, _Mapping]] = ...) -> None: ...

class ListTrainingRunsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListTrainingRunsResponse(_message.Message):
    __slots__ = ("runs", "next_page_token")
    RUNS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    runs: _containers.RepeatedCompositeFieldContainer[TrainingRun]
    next_page_token: str
    def __init__(self, runs: _Optional[_Iterable[_Union[TrainingRun, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class CancelTrainingRunRequest(_message.Message):
    __slots__ = ("run_id",)
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    run_id: int
    def __init__(self, run_id: _Optional[int] = ...) -> None: ...

class CancelTrainingRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: TrainingRun
    def __init__(self, run: _Optional[_Union[TrainingRun, _Mapping]] = ...) -> None: ...

class CreateTrainingScheduleRequest(_message.Message):
    __slots__ = ("schedule",)
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    schedule: TrainingSchedule
    def __init__(self, schedule: _Optional[_Union[TrainingSchedule, _Mapping]] = ...) -> None: ...

class CreateTrainingScheduleResponse(_message.Message):
    __slots__ = ("schedule",)
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    schedule: TrainingSchedule
    def __init__(self, schedule: _Optional[_Union[TrainingSchedule, _Mapping]] = ...) -> None: ...

class ListTrainingSchedulesRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListTrainingSchedulesResponse(_message.Message):
    __slots__ = ("schedules", "next_page_token")
    SCHEDULES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    schedules: _containers.RepeatedCompositeFieldContainer[TrainingSchedule]
    next_page_token: str
    def __init__(self, schedules: _Optional[_Iterable[_Union[TrainingSchedule, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteTrainingScheduleRequest(_message.Message):
    __slots__ = ("schedule_id",)
    SCHEDULE_ID_FIELD_NUMBER: _ClassVar[int]
    schedule_id: int
    def __init__(self, schedule_id: _Optional[int] = ...) -> None: ...

class DeleteTrainingScheduleResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
