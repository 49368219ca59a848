"""The code that examples are made of, and the examples."""

import hashlib
import re
from dataclasses import dataclass
from typing import Literal

Style = Literal["docstring", "comment", "test_name", "commit", "symbol", "code", "feedback"]
Split = Literal["train", "dev", "test"]

STYLES: tuple[Style, ...] = ("docstring", "comment", "test_name", "commit", "symbol", "code", "feedback")
SPLITS: tuple[Split, ...] = ("train", "dev", "test")

_TEST_FOLDERS = frozenset({"test", "tests", "_tests", "idle_test", "testsuite", "__tests__"})
_TEST_FILE = re.compile(r"(test_.*|.*_tests?|conftest)\.[a-z+]+|.*\.(test|spec)\.[a-z]+")


@dataclass(frozen=True, slots=True)
class Unit:
    """A definition as it stands in its file, whole: what was stored in several chunks is one again.

    Attributes:
        package: What it belongs to; sets are split by this.
        path: Path of the file below its source, with `/`.
        language: As in `Chunk.language`.
        symbol: Dotted path of the enclosing symbols.
        kind: "function", "method", "class" or "text".
        start_line: First line, counted from 1.
        end_line: Last line, inclusive.
        content: These lines, without the last line end.
        rows: What it was made from: `path:start-end` of a file, or `chunk:ID` of the database.
        scope: Codebases that one must be allowed to read; empty for local source.
    """

    package: str
    path: str
    language: str
    symbol: str
    kind: str
    start_line: int
    end_line: int
    content: str
    rows: tuple[str, ...]
    scope: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Names the unit within a set; another one after an edit above it in its file, which moves its lines."""
        return f"{self.package}:{self.path}:{self.start_line}-{self.end_line}:{self.symbol}"

    @property
    def name(self) -> str:
        """The last part of the symbol."""
        return self.symbol.rpartition(".")[2]

    @property
    def is_test(self) -> bool:
        """Whether it tests other code, by the names of its file and folders."""
        return is_test_path(self.path)


@dataclass(frozen=True, slots=True)
class Example:
    """A query, the passage that answers it, and passages that do not; one row of a data set.

    Attributes:
        query: What somebody might type, or code.
        positive: The unit as the gateway embeds a chunk, the query's own text cut out.
        positive_blanked: The same with the unit's name blanked.
        negatives: Passages of other units of the same split, hardest first.
        query_style: Where the query comes from.
        unit: Names the unit; examples that share it have the same right answer.
        rows: What query and answer were made from.
        negative_rows: What the negatives were made from.
        scope: Codebases that one must be allowed to read, for the answer, the query or a negative.
    """

    query: str
    positive: str
    positive_blanked: str
    negatives: tuple[str, ...]
    query_style: Style
    language: str
    package: str
    path: str
    symbol: str
    start_line: int
    end_line: int
    unit: str
    rows: tuple[str, ...]
    negative_rows: tuple[str, ...]
    scope: tuple[str, ...]


def is_test_path(path: str) -> bool:
    """Whether a file holds tests, by its name and those of its folders."""
    *folders, name = path.lower().split("/")
    return not _TEST_FOLDERS.isdisjoint(folders) or _TEST_FILE.fullmatch(name) is not None


def passage_of(symbol: str, content: str) -> str:
    """The text that the gateway embeds for a chunk (`gateway.embedding.space`)."""
    return f"{symbol}\n{content}" if symbol else content


def rank(seed: int, *parts: str) -> float:
    """A number in [0, 1) that depends on its arguments alone: a choice by it stays when other units come or go."""
    digest = hashlib.sha256("\0".join((str(seed), *parts)).encode()).digest()
    return int.from_bytes(digest[:7]) / (1 << 56)
