"""Real code to measure on: functions of the standard library, as they stand in their files.

Three sets of modules that do not overlap: measured numerically, searched, and for calibrating int8.
"""

import ast
import functools
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from export.errors import ExportError

MODULES = ("argparse", "ast", "calendar", "difflib", "inspect", "json.decoder", "shutil", "statistics", "textwrap")
_PAIR = """
    asyncio.base_events asyncio.locks asyncio.queues asyncio.streams bdb bz2 cmd codecs collections
    concurrent.futures._base configparser contextlib copy ctypes.util dataclasses decimal dis doctest
    email.message email.utils enum filecmp fileinput fractions ftplib functools gettext glob gzip heapq
    http.client http.cookiejar http.server imaplib importlib.metadata ipaddress linecache locale mailbox
    mimetypes multiprocessing.managers multiprocessing.pool ntpath numbers os pathlib pdb pickletools pkgutil
    platform plistlib posixpath pprint profile pydoc queue random sched shelve smtplib socket sqlite3.dbapi2
    string subprocess symtable sysconfig tarfile tempfile threading zipfile tokenize traceback typing
    unittest.case unittest.mock urllib.parse urllib.request uuid warnings weakref webbrowser wsgiref.util
    xml.dom.minidom xml.etree.ElementTree
"""
PAIR_MODULES = tuple(_PAIR.split())
_CALIBRATION = """
    asyncio.sslproto asyncio.unix_events cgi csv curses.textpad datetime email.header hmac html.parser
    idlelib.editor logging logging.handlers nntplib optparse pickle poplib selectors smtpd socketserver ssl
    tkinter.ttk trace tty turtle xmlrpc.client zipimport
"""
CALIBRATION_MODULES = tuple(_CALIBRATION.split())
# Longer functions are few, and cost more time to compare than they tell.
_MAX_PAIR_CHARS = 3000


@dataclass(frozen=True)
class Pair:
    """A query and the one function that answers it.

    Attributes:
        query: First paragraph of the function's docstring.
        code: The function without its docstring.
        name: Where it stands, such as `heapq.merge`.
    """

    query: str
    code: str
    name: str


@functools.cache
def module_source(name: str) -> str:
    """Source of a standard library module, read without importing it; empty where this Python has no such module."""
    path = Path(sysconfig.get_path("stdlib"), *name.split("."))
    for file in (path.with_name(f"{path.name}.py"), path / "__init__.py"):
        if file.is_file():
            return file.read_text(encoding="utf-8")
    return ""


@functools.cache
def real_functions(modules: tuple[str, ...] = MODULES) -> tuple[str, ...]:
    """Source of the functions in standard library modules."""
    texts: list[str] = []
    for name in modules:
        source = module_source(name)
        lines = source.splitlines()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                first = lines[node.lineno - 1][node.col_offset :]
                texts.append("\n".join([first, *lines[node.lineno : node.end_lineno]]))
    return tuple(texts)


@functools.cache
def long_text() -> str:
    """Whole modules one after the other: more tokens than any encoder reads."""
    return "\n".join(module_source(name) for name in MODULES)


def retrieval_pairs(count: int) -> tuple[Pair, ...]:
    """(docstring, function) pairs of the standard library, evenly spread over its modules.

    Raises:
        ExportError: This Python's library has fewer of them.
    """
    found = all_pairs()
    if count > len(found):
        raise ExportError(f"the gate was asked for {count} retrieval pairs, this Python's library has {len(found)}")
    return tuple(found[index * len(found) // count] for index in range(count))


@functools.cache
def all_pairs() -> tuple[Pair, ...]:
    """Every pair of the modules, no query twice."""
    pairs: dict[str, Pair] = {}
    for module in PAIR_MODULES:
        source = module_source(module)
        lines = source.splitlines()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                pair = _pair(module, lines, node)
                # Of functions that share a docstring none answers it alone; the first one stands for them.
                if pair is not None and pair.query not in pairs:
                    pairs[pair.query] = pair
    return tuple(pairs.values())


def _pair(module: str, lines: list[str], node: ast.FunctionDef | ast.AsyncFunctionDef) -> Pair | None:
    docstring = ast.get_docstring(node)
    if docstring is None or len(node.body) < 2:
        return None
    query = " ".join(docstring.split("\n\n")[0].split())
    quoted = node.body[0]
    # A docstring that shares a line with other code cannot be cut out by lines.
    if (quoted.end_lineno or 0) >= node.body[1].lineno or quoted.lineno <= node.lineno:
        return None
    code = "\n".join(lines[node.lineno - 1 : quoted.lineno - 1] + lines[quoted.end_lineno : node.end_lineno])
    if len(query.split()) < 4 or len(code) > _MAX_PAIR_CHARS:
        return None
    return Pair(query, code, f"{module}.{node.name}")
