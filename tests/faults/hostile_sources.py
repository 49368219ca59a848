"""Source files as somebody would write them to break whoever reads them."""

import random
from collections.abc import Iterator
from pathlib import Path

SUFFIXES = (".py", ".js", ".ts", ".tsx", ".go", ".rs", ".java", ".c", ".cpp", ".md", ".txt")
_BRACKETS = ("()", "[]", "{}", "<>", '""', "''", "``")
_WORDS = (
    *(
        "def",
        "class",
        "function",
        "fn",
        "func",
        "if",
        "else",
        "for",
        "while",
        "return",
        "template<",
        "impl",
        "struct",
        "#if",
    ),
    *(
        "#define",
        "@",
        "=>",
        "->",
        "::",
        "/*",
        "*/",
        "//",
        '"""',
        "'''",
        "`",
        "${",
        "}",
        "{",
        "(",
        ")",
        "[",
        "]",
        "<",
        ">",
    ),
    *(
        ";",
        ",",
        ".",
        "=",
        "+",
        "\\",
        "\n",
        "\n    ",
        "\t",
        "0",
        "1e9",
        "x",
        "name",
        "é",
        "日",
        "\u2028",
        "\r",
        "\ufeff",
    ),
)
# By suffix, a definition as small as they come.
_TINY = {
    ".py": "def f(): 0\n",
    ".js": "function f(){}\n",
    ".ts": "function f(){}\n",
    ".tsx": "const f=()=>0\n",
    ".go": "func f(){}\n",
    ".rs": "fn f(){}\n",
    ".java": "class A{void f(){}}\n",
    ".c": "void f(){}\n",
    ".cpp": "template<class T>void f(){}\n",
}


def sources(chance: random.Random, *, size_bytes: int, random_count: int) -> Iterator[tuple[str, bytes]]:
    """Names and contents; each is UTF-8, and has about as many bytes."""

    def repeated(piece: str, *, half: bool = False) -> bytes:
        data = piece.encode()
        return data * ((size_bytes // 2 if half else size_bytes) // len(data))

    for suffix in SUFFIXES:
        for number, (opening, closing) in enumerate(_BRACKETS):
            yield f"deep-{number}{suffix}", repeated(opening) + b"\n"
            yield f"balanced-{number}{suffix}", repeated(opening, half=True) + repeated(closing, half=True)
            yield f"lines-{number}{suffix}", repeated(f"{opening}\n")
            yield f"rows-{number}{suffix}", repeated(f"{opening * 2} {closing} a {opening} 1 b{closing}\n")
        tiny = _TINY.get(suffix, "# a\n\n")
        yield f"tiny{suffix}", repeated(tiny)
        yield f"one-line{suffix}", repeated(tiny.replace("\n", " "))
        yield f"line{suffix}", repeated("a" * 1000)
        yield f"spaces{suffix}", repeated(" ")
        yield f"newlines{suffix}", repeated("\n")
        yield f"returns{suffix}", repeated("\r")
        yield f"comments{suffix}", repeated("# // /* a\n")
        yield f"nested{suffix}", nested(tiny)
        yield f"combining{suffix}", repeated("e\u0301\u0301\u0301")
        yield f"separators{suffix}", repeated("x\u2028y\u0085z\x0c\n")
        for number in range(random_count):
            yield f"random-{number}{suffix}", " ".join(chance.choices(_WORDS, k=size_bytes // 4)).encode()
    yield "conditions.c", repeated("#if A\n", half=True) + repeated("#endif\n", half=True)
    yield "macros.rs", repeated("m!{", half=True) + repeated("}", half=True)
    yield "templates.cpp", repeated("a<", half=True) + b"int" + repeated(">", half=True)
    yield "generics.java", repeated("A<B,", half=True)
    yield "tags.tsx", repeated("<a>", half=True) + repeated("</a>", half=True)
    yield "regex.js", repeated("a=/[/]/g;b=`${`")
    yield "decorated.py", repeated("@a\n") + b"def f():\n    pass\n"
    yield "declared.c", b"int " + repeated("*", half=True) + repeated("(", half=True)
    yield "strings.py", repeated('"" ""\n""" \'\'\' ')
    yield "shebang", b"#!/usr/bin/env " + repeated("python ")
    yield "headings.md", repeated("# a\n\n")


def nested(definition: str) -> bytes:
    """A definition in a definition in a definition, each indented by one more."""
    opened = definition.replace("{}", "{").replace(": 0", ":")
    lines = [" " * depth + opened for depth in range(1000)]
    return "".join(lines).encode()


NAMES = (
    *(
        "a.zip",
        "a.tar.gz",
        "archive.zip!",
        "x.py:stream",
        "..py",
        "...",
        "-rf",
        "--help",
        "~",
        "$HOME",
        "$(touch pwned).py",
    ),
    *("`touch pwned`.py", "a b.py", "'; DROP TABLE chunks; --.py", "%2e%2e%2fetc%2fpasswd", "con.py", "nul", "a*b?.py"),
    *(
        "[x].py",
        "é.py",
        "e\u0301.py",
        "\u202egpj.py",
        "日本.py",
        "🙂.py",
        "a" * 250 + ".py",
        ".hidden.py",
        "#x#.py",
        "a%00.py",
    ),
    *(
        "new\nline.py",
        "tab\t.py",
        "bell\x07.py",
        "esc\x1b[31m.py",
        "back\\slash.py",
        "..\\..\\up.py",
        "C:\\x.py",
        "null.py",
    ),
)
UNUSABLE = tuple(name for name in NAMES if any(ord(letter) < 32 or letter == "\\" for letter in name))


def hostile_tree(root: Path, secret: Path) -> None:
    """A tree of odd names, loops, links out of it, pipes and folders that cannot end."""
    root.mkdir()
    for name in NAMES:
        (root / name).write_text(f"def of_this_file():\n    return {name!r}\n")
    (root / "loop").symlink_to(root)
    (root / "self").symlink_to("self")
    (root / "up").symlink_to("..")
    (root / "secret.py").symlink_to(secret)
    (root / "gone.py").symlink_to("nowhere")
    (root / "passwd.py").symlink_to("/etc/passwd")
    (root / "zip").mkdir()
    (root / "zip" / "entry.py").write_text("def entry():\n    return 'of a zip'\n")
    (root / "zip" / "bomb.py").write_bytes(b"")
    (root / "big.py").write_bytes(b"x" * (10**6 + 1))
    with (root / "sparse.py").open("wb") as sparse:
        sparse.truncate(2**40)
    (root / "latin.py").write_bytes("caf\xe9 = 1\n".encode("latin-1"))
    (root / "surrogates.py").write_bytes(b"x = '\xed\xa0\x80'\n")
    (root / "overlong.py").write_bytes(b"x = '\xc0\xaf'\n")
    (root / "nulls.py").write_bytes(b"x = 1\0\n")
    deep = root
    for _ in range(200):
        deep /= "d" * 20
    try:
        deep.mkdir(parents=True)
    except OSError:  # a path has an end, here or there
        return
