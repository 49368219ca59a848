"""The Dockerfile as stages of instructions. Its syntax is hadolint's business."""

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass
class Stage:
    """One FROM and what follows: instructions in order, the environment of the image, with what it was based on."""

    name: str
    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)

    def all(self, instruction: str) -> list[str]:
        """The arguments of every such instruction."""
        return [rest for name, rest in self.instructions if name == instruction]

    def words(self, instruction: str) -> list[str]:
        """The words of the last such instruction, which is in exec form."""
        words: list[str] = json.loads(self.all(instruction)[-1])
        return words

    def health_check(self) -> list[str]:
        """The command of HEALTHCHECK; empty where there is none."""
        found = self.all("HEALTHCHECK")
        return json.loads(found[-1].partition("CMD")[2]) if found else []


def stages() -> dict[str, Stage]:
    """The stages of ./Dockerfile by name; each has the environment of the stage that it is based on."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    found: dict[str, Stage] = {}
    for line in text.replace("\\\n", " ").splitlines():
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            base, _, name = rest.partition(" AS ")
            stage = found[name] = Stage(name, base)
            if base in found:
                stage.environment |= found[base].environment
        elif instruction:
            stage.instructions.append((instruction, rest.strip()))
            if instruction == "ENV":
                stage.environment |= dict(word.split("=", 1) for word in shlex.split(rest))
    return found
