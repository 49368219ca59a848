"""Cuts row ranges that are too long, between statements where there are any."""

import itertools
import re

from tree_sitter import Node

from gateway.client.languages import BLOCKS, COMMENTS

# Ranks from here on are not between statements, but inside one.
_INSIDE_STATEMENT = 1_000_000


class Rows:
    """The rows of a file, and how long ranges of them are."""

    def __init__(self, text: str) -> None:
        """Split a text at `\\n`; nothing else ends a row."""
        self.texts = text.split("\n")
        self._ends = [0, *itertools.accumulate(len(row) + 1 for row in self.texts)]

    def char_count(self, first: int, last: int) -> int:
        """Count the characters of rows `first` to `last`, inclusive, without the last line end."""
        return self._ends[last + 1] - self._ends[first] - 1

    def join(self, first: int, last: int) -> str:
        """Give the text of rows `first` to `last`, inclusive."""
        return "\n".join(self.texts[first : last + 1])

    def is_blank(self, row: int) -> bool:
        """Tell whether a row holds nothing but space."""
        return not self.texts[row].strip()


def statement_ranks(root: Node) -> dict[int, int]:
    """Rank the rows of a file as places to cut before: the lower, the better.

    Args:
        root: Root of the syntax tree.

    Returns:
        Rank by row. Rows where a statement begins have the number of blocks around it; rows where only a part of a
        statement begins rank behind all of these; other rows, such as those inside a string, are missing.
    """
    ranks: dict[int, int] = {}
    comment_rows: set[int] = set()
    last_row = -1
    stack: list[tuple[Node, int, int]] = [(root, 0, 0)]
    while stack:
        node, blocks, depth = stack.pop()
        first, last = node.start_point.row, node.end_point.row
        if first != last_row:
            # The walk is in the order of the text: a row's first node is at the beginning of the row.
            ranks.setdefault(first, blocks if depth == blocks else _INSIDE_STATEMENT + depth)
            last_row = first
        if node.type in COMMENTS:
            comment_rows.update(range(first, max(last, first + 1)))
        if last > first:
            if node.type in BLOCKS:
                blocks, depth = blocks + 1, blocks + 1
            else:
                depth += 1
            stack.extend((child, blocks, depth) for child in reversed(node.children))
    # A comment stays with the statement below it.
    return {row: rank for row, rank in ranks.items() if row - 1 not in comment_rows}


def paragraph_ranks(rows: Rows) -> dict[int, int]:
    """Rank the rows of a plain text: Markdown headings first, then what follows a blank line."""
    ranks: dict[int, int] = {}
    for row in range(1, len(rows.texts)):
        if re.match(r"#{1,6} ", rows.texts[row]):
            ranks[row] = 0
        elif rows.is_blank(row - 1) and not rows.is_blank(row):
            ranks[row] = 1
    return ranks


def split_rows(rows: Rows, first: int, last: int, ranks: dict[int, int], *, max_chars: int) -> list[tuple[int, int]]:
    """Cut rows into contiguous ranges that fit a budget.

    Args:
        rows: The file.
        first: First row.
        last: Last row, inclusive.
        ranks: Places to cut before, as `statement_ranks` gives them.
        max_chars: Budget of a range; a single row that is longer makes a range of its own.

    Returns:
        Ranges (first, last), inclusive, in order, that cover all rows.
    """
    parts: list[tuple[int, int]] = []
    while first < last and rows.char_count(first, last) > max_chars:
        end = first + 1
        while rows.char_count(first, end) <= max_chars:
            end += 1
        cut = _best_cut(rows, first, end, last, ranks, max_chars)
        parts.append((first, cut - 1))
        first = cut
    parts.append((first, last))
    return parts


def _best_cut(rows: Rows, first: int, end: int, last: int, ranks: dict[int, int], max_chars: int) -> int:
    """Choose the row that begins the next part, from `first + 1` to `end`."""
    window = range(first + 1, end + 1)
    balanced = [
        row
        for row in window
        if rows.char_count(first, row - 1) >= max_chars // 4 and rows.char_count(row, last) >= max_chars // 10
    ]
    for rows_to_try, worst in ((balanced, _INSIDE_STATEMENT), (window, _INSIDE_STATEMENT), (balanced, None)):
        ranked = [row for row in rows_to_try if row in ranks and (worst is None or ranks[row] < worst)]
        if ranked:
            return min(ranked, key=lambda row: (ranks[row], -row))
    return end
