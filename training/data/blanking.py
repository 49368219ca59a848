"""Passages without the name of what they define: does an encoder read code, or only names?"""

import re

BLANK = "_"

_WORD = re.compile(r"[A-Z]+(?![a-z])[0-9]*|[A-Z]?[a-z][a-z0-9]*|[0-9]+[a-z0-9]*")


def blank_name(passage: str, symbol: str) -> str:
    """Replace a unit's own name by `_`, wherever it stands as a whole identifier.

    Args:
        passage: Symbol path and content, as `passage_of` gives them.
        symbol: Dotted symbol path of the unit; its last part is the name. The names around it stay.

    Returns:
        The passage without the name; unchanged where the symbol is empty.
    """
    name = symbol.rpartition(".")[2]
    if not name:
        return passage
    return re.sub(rf"(?<![\w$]){re.escape(name)}(?![\w$])", BLANK, passage)


def words_of(identifier: str) -> list[str]:
    """The words of an identifier, in lower case: `parse_HTTPHeader2` gives parse, http, header2."""
    return [word.lower() for word in _WORD.findall(identifier)]
