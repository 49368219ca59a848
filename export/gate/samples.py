"""Real code to measure on: functions of the standard library, as they stand in their files."""

import ast
import functools
import importlib
import inspect

MODULES = ("argparse", "ast", "calendar", "difflib", "inspect", "json.decoder", "shutil", "statistics", "textwrap")


@functools.cache
def real_functions() -> tuple[str, ...]:
    """Source of the functions in a few standard library modules."""
    texts: list[str] = []
    for name in MODULES:
        source = inspect.getsource(importlib.import_module(name))
        functions = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef))
        texts.extend(ast.get_source_segment(source, node) or "" for node in functions)
    return tuple(texts)
