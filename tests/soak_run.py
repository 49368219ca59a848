"""Whether a run is a long one, by which seed, and what it has seen."""

import json
import random
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class SoakRun:
    """What the tests with a long form ask.

    Attributes:
        is_long: Whether they run it; `make soak` does.
        seed: What everything random comes from; a short run always has the same.
        kills: How often the long form kills something.
        summary: What the tests report, by name.
    """

    is_long: bool
    seed: int
    kills: int
    summary: dict[str, Any] = field(default_factory=dict)

    def chance(self, name: str) -> random.Random:
        """A test's own source of randomness, the same whatever other tests run."""
        return random.Random(f"{self.seed} {name}")

    def progress(self, text: str) -> None:
        """Show where a long form is, in one line."""
        if self.is_long:
            sys.__stderr__.write(f"\r{time.strftime('%H:%M:%S')} {text:<110.110}\n")
            sys.__stderr__.flush()

    def report(self, name: str, figures: dict[str, Any]) -> None:
        """Have figures stand in the summary."""
        self.summary[name] = figures

    def write(self, path: Path | None) -> str:
        """The summary as one JSON line, which is also left in a file."""
        line = json.dumps({"seed": self.seed, "long": self.is_long, **self.summary})
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(line + "\n")
        return line
