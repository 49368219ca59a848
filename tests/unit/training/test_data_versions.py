"""A unit asks for itself in another version or language."""

import dataclasses

from mined_sources import unit_of

from training.data.unit import Unit
from training.data.versions import same_symbol_queries

_NEW = """def parse_header_line(line):
    name, separator, value = line.partition(":")
    if not separator:
        raise ValueError(f"no colon in {line!r}")
    return name.strip().lower(), value.strip()"""
_OLD = """def parse_header_line(line):
    name, separator, value = line.partition(":")
    assert separator, "a header has a colon"
    key = name.strip()
    return key, value.lstrip()"""
_JAVASCRIPT = """function parseHeaderLine(line) {
  const at = line.indexOf(":");
  return [line.slice(0, at), line.slice(at + 1)];
}"""


def _unit(content: str, path: str, symbol: str = "parse_header_line", language: str = "python") -> Unit:
    return dataclasses.replace(unit_of(content, path=path, symbol=symbol), language=language)


def test_a_vendored_version_asks_for_the_other() -> None:
    """Same file and folder below another origin, alike and not nearly equal."""
    new, old = _unit(_NEW, "lib/http/headers.py"), _unit(_OLD, "vendored/http/headers.py")
    ((key, query),) = same_symbol_queries([new, old])
    assert (key, query.text, query.style, query.rows) == (new.key, _OLD, "code", old.rows)


def test_what_is_nearly_equal_or_elsewhere_is_no_version() -> None:
    """A copy would be asked by its own text; a namesake in another file is another thing."""
    new = _unit(_NEW, "lib/http/headers.py")
    assert same_symbol_queries([new, _unit(_NEW, "vendored/http/headers.py")]) == []
    assert same_symbol_queries([new, _unit(_OLD, "vendored/mail/parser.py")]) == []
    assert same_symbol_queries([new, _unit(_OLD, "lib/other/http/headers.py")]) == []  # of one origin
    three = [_unit(_OLD, f"vendored_{n}/http/headers.py") for n in range(2)]
    assert same_symbol_queries([new, *three]) == []


def test_the_words_of_a_name_lead_into_another_language_both_ways() -> None:
    """Three words at least, one unit a language; tests are none."""
    python = _unit(_NEW, "lib/headers.py")
    script = _unit(_JAVASCRIPT, "web/headers.js", "parseHeaderLine", "javascript")
    found = dict(same_symbol_queries([python, script]))
    assert {key: query.text for key, query in found.items()} == {python.key: _JAVASCRIPT, script.key: _NEW}
    assert same_symbol_queries([python, script, _unit(_OLD, "lib/other.py")]) == []
    assert same_symbol_queries([python, _unit(_JAVASCRIPT, "tests/headers.js", "parseHeaderLine", "javascript")]) == []
    short = [dataclasses.replace(one, symbol=name) for one, name in ((python, "parse_line"), (script, "parseLine"))]
    assert same_symbol_queries(short) == []
    both = [dataclasses.replace(one, language=name) for one, name in ((python, "c"), (script, "cpp"))]
    assert same_symbol_queries(both) == []


def test_a_long_unit_asks_by_its_first_rows() -> None:
    """Whole rows, a thousand characters at most."""
    long = _OLD + "\n" + "\n".join(f"    checked_{n} = value.strip() and key.lower()" for n in range(40))
    script = _unit(_JAVASCRIPT, "web/headers.js", "parseHeaderLine", "javascript")
    query = dict(same_symbol_queries([_unit(long, "lib/headers.py"), script]))[script.key]
    assert 900 < len(query.text) <= 1000
    assert long.startswith(query.text + "\n")
