"""A stand-in for TensorRT's Python package, which needs a GPU: it records what a build asks of it.

Class, method and enumeration names are those that the bindings of TensorRT 11.4.0.106 export; a name that is not here
fails as it would there.
"""

from collections.abc import Callable
from enum import IntEnum
from types import SimpleNamespace


class Severity(IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2


class ILogger:
    Severity = Severity

    def log(self, severity: Severity, message: str) -> None:
        raise NotImplementedError


class IProgressMonitor:
    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        raise NotImplementedError

    def step_complete(self, phase_name: str, step: int) -> bool:
        raise NotImplementedError

    def phase_finish(self, phase_name: str) -> None:
        raise NotImplementedError


class Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, tuple[object, object, object]] = {}

    def set_shape(self, input: str, min: object, opt: object, max: object) -> None:
        self.shapes[input] = (min, opt, max)


class TimingCache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> bytes:
        return self.content + b"+measured"


class Config:
    def __init__(self) -> None:
        self.limits: dict[str, int] = {}
        self.flags: set[str] = set()
        self.profiles: list[Profile] = []
        self.cache: TimingCache | None = None
        self.progress_monitor: IProgressMonitor | None = None

    def set_memory_pool_limit(self, pool: str, pool_size: int) -> None:
        self.limits[pool] = pool_size

    def set_flag(self, flag: str) -> None:
        self.flags.add(flag)

    def create_timing_cache(self, serialized_timing_cache: bytes) -> TimingCache:
        return TimingCache(serialized_timing_cache)

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        self.cache = cache
        return True

    def get_timing_cache(self) -> TimingCache:
        assert self.cache is not None
        return self.cache

    def add_optimization_profile(self, profile: Profile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1


class Recorder:
    """The package, as `import tensorrt` would give it.

    Attributes:
        parser_errors: What the ONNX parser objects to; nothing when empty.
        fails: Whether no engine comes out.
        network_flags: What the network was created with.
        parsed: The file that was parsed.
        config: Of the last build.
    """

    __version__ = "11.4.0.106"
    ILogger = ILogger
    IProgressMonitor = IProgressMonitor
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
    BuilderFlag = SimpleNamespace(VERSION_COMPATIBLE="version compatible")

    def __init__(self) -> None:
        self.parser_errors: list[str] = []
        self.fails = False
        self.network_flags = 0
        self.parsed = ""
        self.config = Config()

    @property
    def Builder(self) -> Callable[[ILogger], "Builder"]:  # noqa: N802  # TensorRT's name
        return lambda logger: Builder(self, logger)

    @property
    def OnnxParser(self) -> Callable[[object, ILogger], "OnnxParser"]:  # noqa: N802  # TensorRT's name
        return lambda network, logger: OnnxParser(self)


class OnnxParser:
    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    @property
    def num_errors(self) -> int:
        return len(self._recorder.parser_errors)

    def get_error(self, index: int) -> str:
        return self._recorder.parser_errors[index]

    def parse_from_file(self, model: str) -> bool:
        self._recorder.parsed = model
        return not self._recorder.parser_errors


class Builder:
    def __init__(self, recorder: Recorder, logger: ILogger) -> None:
        self._recorder = recorder
        self._logger = logger

    def create_network(self, flags: int = 0) -> object:
        self._recorder.network_flags = flags
        return object()

    def create_builder_config(self) -> Config:
        return self._recorder.config

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: object, config: Config) -> bytes | None:
        monitor = config.progress_monitor
        assert monitor is not None
        monitor.phase_start("Building engine", None, 2)
        monitor.phase_start("Timing", "Building engine", 9)
        assert monitor.step_complete("Timing", 0)
        assert monitor.step_complete("Building engine", 0)
        monitor.phase_finish("Timing")
        monitor.phase_finish("Building engine")
        self._logger.log(Severity.WARNING, "a warning")
        if self._recorder.fails:
            self._logger.log(Severity.ERROR, "no tactic\nfits")
            return None
        return b"engine"
