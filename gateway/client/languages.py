"""What the chunker knows about each language: its grammar, and the node types that matter."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

import tree_sitter_c
import tree_sitter_cpp
import tree_sitter_go
import tree_sitter_java
import tree_sitter_javascript
import tree_sitter_python
import tree_sitter_rust
import tree_sitter_typescript
from tree_sitter import Language, Parser

_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Grammar:
    """A language that is chunked by its syntax.

    Attributes:
        name: As in `Chunk.language`.
        load: Gives the tree-sitter language.
        functions: Node types of functions and methods; only those with a body count.
        classes: Node types of types; those with members of their own are chunked member by member.
        namespaces: Containers that are no type: they lend their name to what they hold.
        wrappers: Nodes that may hold a definition and belong to it (decorators, `export`, `template<…>`).
        imports: Nodes that say nothing about what the file does.
        annotations: Sibling nodes that belong to the next definition, as a doc comment does.
        needs_body: Class node types that are also mere mentions of a type, unless they have a body.
    """

    name: str
    load: Callable[[], object]
    functions: frozenset[str]
    classes: frozenset[str]
    namespaces: frozenset[str] = _NONE
    wrappers: frozenset[str] = _NONE
    imports: frozenset[str] = _NONE
    annotations: frozenset[str] = _NONE
    needs_body: frozenset[str] = _NONE


_PYTHON = Grammar(
    name="python",
    load=tree_sitter_python.language,
    functions=frozenset({"function_definition"}),
    classes=frozenset({"class_definition"}),
    wrappers=frozenset({"decorated_definition"}),
    imports=frozenset({"import_statement", "import_from_statement", "future_import_statement"}),
)
_ECMA_FUNCTIONS = frozenset(
    {
        "function_declaration",
        "generator_function_declaration",
        "method_definition",
        "arrow_function",
        "function_expression",
        "generator_function",
    }
)
_ECMA_WRAPPERS = frozenset(
    {
        "export_statement",
        "lexical_declaration",
        "variable_declaration",
        "expression_statement",
        "field_definition",
        "public_field_definition",
    }
)
_JAVASCRIPT = Grammar(
    name="javascript",
    load=tree_sitter_javascript.language,
    functions=_ECMA_FUNCTIONS,
    classes=frozenset({"class_declaration", "class"}),
    wrappers=_ECMA_WRAPPERS,
    imports=frozenset({"import_statement"}),
    annotations=frozenset({"decorator"}),
)
_TYPESCRIPT = Grammar(
    name="typescript",
    load=tree_sitter_typescript.language_typescript,
    functions=_ECMA_FUNCTIONS,
    classes=frozenset(
        {
            "class_declaration",
            "class",
            "abstract_class_declaration",
            "interface_declaration",
            "enum_declaration",
            "type_alias_declaration",
        }
    ),
    namespaces=frozenset({"internal_module", "module"}),
    wrappers=_ECMA_WRAPPERS | {"ambient_declaration"},
    imports=frozenset({"import_statement"}),
    annotations=frozenset({"decorator"}),
)
_TSX = Grammar(
    name="typescript",
    load=tree_sitter_typescript.language_tsx,
    functions=_TYPESCRIPT.functions,
    classes=_TYPESCRIPT.classes,
    namespaces=_TYPESCRIPT.namespaces,
    wrappers=_TYPESCRIPT.wrappers,
    imports=_TYPESCRIPT.imports,
    annotations=_TYPESCRIPT.annotations,
)
_GO = Grammar(
    name="go",
    load=tree_sitter_go.language,
    functions=frozenset({"function_declaration", "method_declaration"}),
    classes=frozenset({"type_spec", "type_alias"}),
    wrappers=frozenset({"type_declaration"}),
    imports=frozenset({"import_declaration", "package_clause"}),
)
_RUST = Grammar(
    name="rust",
    load=tree_sitter_rust.language,
    functions=frozenset({"function_item", "macro_definition"}),
    classes=frozenset({"struct_item", "enum_item", "union_item", "trait_item", "type_item"}),
    namespaces=frozenset({"impl_item", "mod_item"}),
    imports=frozenset({"use_declaration", "extern_crate_declaration"}),
    annotations=frozenset({"attribute_item"}),
)
_JAVA = Grammar(
    name="java",
    load=tree_sitter_java.language,
    functions=frozenset({"method_declaration", "constructor_declaration", "compact_constructor_declaration"}),
    classes=frozenset(
        {
            "class_declaration",
            "interface_declaration",
            "enum_declaration",
            "record_declaration",
            "annotation_type_declaration",
        }
    ),
    imports=frozenset({"import_declaration", "package_declaration"}),
)
_C_IMPORTS = frozenset({"preproc_include", "using_declaration"})
_C_SPECIFIERS = frozenset({"struct_specifier", "union_specifier", "enum_specifier"})
_C = Grammar(
    name="c",
    load=tree_sitter_c.language,
    functions=frozenset({"function_definition"}),
    classes=_C_SPECIFIERS,
    wrappers=frozenset({"type_definition"}),
    imports=_C_IMPORTS,
    needs_body=_C_SPECIFIERS,
)
_CPP = Grammar(
    name="cpp",
    load=tree_sitter_cpp.language,
    functions=frozenset({"function_definition"}),
    classes=_C_SPECIFIERS | {"class_specifier", "concept_definition"},
    namespaces=frozenset({"namespace_definition"}),
    wrappers=frozenset({"type_definition", "template_declaration"}),
    imports=_C_IMPORTS,
    needs_body=_C_SPECIFIERS | {"class_specifier"},
)

COMMENTS = frozenset({"comment", "line_comment", "block_comment"})

# A child of one of these begins a statement: a good place to cut a definition that is too long.
BLOCKS = frozenset(
    {
        "module", "program", "source_file", "translation_unit",
        "block", "statement_block", "compound_statement", "statement_list", "declaration_list",
        "class_body", "interface_body", "enum_body", "enum_body_declarations", "constructor_body",
        "field_declaration_list", "enumerator_list", "enum_variant_list", "object_type", "interface_type",
        "switch_body", "switch_block", "match_block", "switch_block_statement_group", "case_statement",
        "preproc_ifdef", "preproc_if", "preproc_else", "linkage_specification",
    }
)  # fmt: skip

_GRAMMARS: dict[str, Grammar] = {
    **dict.fromkeys((".py", ".pyi", ".pyw"), _PYTHON),
    **dict.fromkeys((".js", ".mjs", ".cjs", ".jsx"), _JAVASCRIPT),
    **dict.fromkeys((".ts", ".mts", ".cts"), _TYPESCRIPT),
    ".tsx": _TSX,
    ".go": _GO,
    ".rs": _RUST,
    ".java": _JAVA,
    ".c": _C,
    ".h": _C,
    **dict.fromkeys((".cc", ".cpp", ".cxx", ".c++", ".hh", ".hpp", ".hxx", ".inl", ".ipp"), _CPP),
}

# Known by name only: these are chunked by lines.
_PLAIN_LANGUAGES: dict[str, str] = {
    ".bash": "shell", ".sh": "shell", ".zsh": "shell", ".css": "css", ".scss": "css", ".html": "html", ".htm": "html",
    ".json": "json", ".toml": "toml", ".yaml": "yaml", ".yml": "yaml", ".ini": "ini", ".cfg": "ini",
    ".md": "markdown", ".markdown": "markdown", ".rst": "rst", ".sql": "sql", ".proto": "protobuf", ".xml": "xml",
    ".cs": "csharp", ".kt": "kotlin", ".swift": "swift", ".rb": "ruby", ".php": "php", ".scala": "scala",
    ".lua": "lua", ".pl": "perl", ".r": "r", ".jl": "julia", ".hs": "haskell", ".ex": "elixir", ".zig": "zig",
}  # fmt: skip


def grammar_of(path: str, text: str) -> Grammar | None:
    """Choose the grammar of a file.

    Args:
        path: The file's path; its suffix decides.
        text: The file's text; tells C from C++ in a `.h` file.

    Returns:
        The grammar, or None for a file that is chunked by lines.
    """
    suffix = PurePosixPath(path).suffix.lower()
    if suffix == ".h" and any(sign in text for sign in ("namespace ", "class ", "template", "::", "public:")):
        return _CPP
    return _GRAMMARS.get(suffix)


def plain_language(path: str) -> str:
    """Name the language of a file that has no grammar here; "text" where it is not known."""
    name = PurePosixPath(path).name
    if name in {"Dockerfile", "Makefile"}:
        return name.lower()
    return _PLAIN_LANGUAGES.get(PurePosixPath(name).suffix.lower(), "text")


@functools.cache
def _language(load: Callable[[], object]) -> Language:
    return Language(load())


def parser_for(grammar: Grammar) -> Parser:
    """Make a parser. Parsers hold state and are not shared between threads; the loaded languages are."""
    return Parser(_language(grammar.load))
