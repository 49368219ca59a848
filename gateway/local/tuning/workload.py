"""What is measured with: real code in chunks of its natural lengths, and one short text."""

import random
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from gateway.client.chunking import chunk_file
from gateway.client.files import SkippedFile, find_files, read_source
from gateway.embedding.space import InputType, Space, passage_of
from gateway.embedding.tokenizer import Tokenizer, Tokens
from gateway.errors import StartupError

QUERY = "where are cookies signed"
LEAST_CHUNKS = 64
_MOST_CHUNKS = 2048
_SEED = 0
# Folders of the standard library that hold tests and tables rather than code as people write it.
_UNUSUAL = ("test/", "site-packages/", "dist-packages/", "idlelib/idle_test/", "lib2to3/", "encodings/", "pydoc_data/")


@dataclass(frozen=True)
class Workload:
    """Rows of tokens for both encoders.

    Attributes:
        code: Chunks as the code encoder reads them.
        text: The same chunks as the text encoder reads them.
        query: One short text, as each of them reads it.
    """

    code: list[Tokens]
    text: list[Tokens]
    query: tuple[Tokens, Tokens]

    @property
    def tokens_per_chunk(self) -> float:
        """Tokens of both encoders, mean."""
        return sum(len(row.ids_T) for rows in (self.code, self.text) for row in rows) / len(self.code)


def find_passages(source: Path | None) -> list[str]:
    """Distinct passages of real code, in an order that depends on nothing but the code.

    Args:
        source: A source tree; None for the standard library of this Python.

    Raises:
        StartupError: There are fewer than 64.
    """
    root = source or Path(sysconfig.get_path("stdlib"))
    try:
        tree = find_files(root)
    except FileNotFoundError as exc:
        raise StartupError(f"--source {root} does not exist: name a folder with source code") from exc
    paths = [path for path in tree.paths if source is not None or (path.endswith(".py") and not _is_unusual(path))]
    random.Random(_SEED).shuffle(paths)  # noqa: S311  # the same files each time, and none of them of one folder alone
    passages: dict[str, None] = {}
    for path in paths:
        content = read_source(tree, path)
        if not isinstance(content, SkippedFile):
            passages.update(dict.fromkeys(passage_of(one.symbol, one.content) for one in chunk_file(path, content)))
        if len(passages) >= _MOST_CHUNKS:
            break
    if len(passages) < LEAST_CHUNKS:
        raise StartupError(
            f"{root} has {len(passages)} chunks of code, and measuring takes at least {LEAST_CHUNKS}: "
            "name a larger folder with --source"
        )
    return list(passages)[:_MOST_CHUNKS]


def _is_unusual(path: str) -> bool:
    return any(f"/{folder}" in f"/{path}" for folder in _UNUSUAL)


async def tokenize(space: Space, passages: list[str]) -> Workload:
    """The passages and the query as both encoders of a space read them, cut at their limits."""
    tokenizers = [Tokenizer(encoder) for encoder in (space.code, space.text)]
    code, text = [await one.tokenize(passages, InputType.PASSAGE) for one in tokenizers]
    queries = [(await one.tokenize([QUERY], InputType.QUERY))[0] for one in tokenizers]
    return Workload(code, text, (queries[0], queries[1]))
