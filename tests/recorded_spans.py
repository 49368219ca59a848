"""Spans that are kept in a list, for tests of what begins and ends them."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class RecordedSpan:
    """A span and its parts."""

    name: str
    attributes: Mapping[str, str | int] = field(default_factory=dict)
    parts: list["RecordedSpan"] = field(default_factory=list)
    began_s_ago: float = 0.0
    ended: bool = False
    error: BaseException | None = None
    code: str = ""
    trace_id: str = "0af7651916cd43dd8448eb211c80319c"

    @property
    def headers(self) -> dict[str, str]:
        return {"traceparent": f"00-{self.trace_id}-b7ad6b7169203331-01"}

    def begin(self, name: str, attributes: Mapping[str, str | int], *, began_s_ago: float = 0.0) -> "RecordedSpan":
        part = RecordedSpan(name, attributes, began_s_ago=began_s_ago)
        self.parts.append(part)
        return part

    def end(self, error: BaseException | None = None) -> None:
        self.ended, self.error = True, error

    def end_call(self, code: str) -> None:
        self.ended, self.code = True, code
