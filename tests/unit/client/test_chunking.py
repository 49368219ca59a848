"""Symbols, kinds and lines of every language, and what holds for any source."""

import json
from pathlib import Path

import pytest

from gateway.client import chunking
from gateway.client.chunking import SourceChunk, chunk_file
from gateway.rpc.validation import label

Row = tuple[int, int, str, str]


def rows(path: str, source: str, **options: int) -> list[Row]:
    chunks = chunk_file(path, source.encode(), **options)
    return [(chunk.start_line, chunk.end_line, chunk.kind, chunk.symbol) for chunk in chunks]


def assert_contents_are_lines(source: str, chunks: list[SourceChunk]) -> None:
    lines = source.split("\n")
    for chunk in chunks:
        assert chunk.content == "\n".join(lines[chunk.start_line - 1 : chunk.end_line])


PYTHON = '''\
"""What the module does."""

import os
from a import b

LIMIT = 100_000


# Waits.
@retry(3)
async def wait():
    def inner():
        return 1

    return inner()


class Pool(Base):
    """A pool."""

    size: int = 3

    def acquire(self):
        return self._items.pop()

    # --- private ---

    @property
    def idle(self):
        return 1

    timeout_s = 30.0


if __name__ == "__main__":
    wait()
'''


def test_python() -> None:
    assert rows("a/b.py", PYTHON) == [
        (1, 1, "text", ""),
        (6, 6, "text", ""),
        (9, 15, "function", "wait"),
        (18, 21, "class", "Pool"),
        (23, 24, "method", "Pool.acquire"),
        (28, 30, "method", "Pool.idle"),
        (32, 32, "class", "Pool"),
        (35, 36, "text", ""),
    ]
    chunks = chunk_file("a/b.py", PYTHON.encode())
    assert {(chunk.path, chunk.language) for chunk in chunks} == {("a/b.py", "python")}
    assert_contents_are_lines(PYTHON, chunks)


def test_javascript() -> None:
    source = """\
import x from "y";
const LIMIT = 1000;

/** Adds. */
export default function () {
  return 1;
}

export const mul = (a, b) => {
  return a * b;
};

Foo.prototype.bar = function () {
  return 2;
};

module.exports.run = async function () {
  return 3;
};

class Pool extends Base {
  #items = [];
  handler = () => {
    this.x();
  };

  static async acquire() {
    return this.items.pop();
  }
}
"""
    assert rows("a.mjs", source) == [
        (2, 2, "text", ""),
        (4, 7, "function", "default"),
        (9, 11, "function", "mul"),
        (13, 15, "method", "Foo.bar"),
        (17, 19, "function", "run"),
        (21, 22, "class", "Pool"),
        (23, 25, "method", "Pool.handler"),
        (27, 29, "method", "Pool.acquire"),
    ]


def test_typescript_with_jsx() -> None:
    source = """\
import React from "react";

export interface Props {
  name: string;
}

export enum Color {
  Red,
}

namespace inner.deep {
  export function f(): void {
    g();
  }
}

abstract class Shape<T> {
  abstract area(): number;

  @log()
  describe(): string {
    return "x";
  }
}

export const View: React.FC<Props> = ({ name }) => {
  return <div>{name}</div>;
};
"""
    expected = [
        (3, 5, "class", "Props"),
        (7, 9, "class", "Color"),
        (12, 14, "function", "inner.deep.f"),
        (17, 18, "class", "Shape"),
        (20, 23, "method", "Shape.describe"),
        (26, 28, "function", "View"),
    ]
    assert rows("a.tsx", source) == expected
    assert rows("a.ts", source)[:5] == expected[:5]
    assert chunk_file("a.tsx", source.encode())[0].language == "typescript"


def test_go() -> None:
    source = """\
// Package p pools.
package p

import "fmt"

// Pool pools.
type Pool[T any] struct {
	items []T
}

// Acquire takes one.
func (p *Pool[T]) Acquire() T {
	return p.items[0]
}

func Free() { fmt.Println() }

type (
	// A is a.
	A struct {
		x int
	}
	B interface {
		Get() int
	}
)
"""
    assert rows("a.go", source) == [
        (6, 9, "class", "Pool"),
        (11, 14, "method", "Pool.Acquire"),
        (16, 16, "function", "Free"),
        (19, 22, "class", "A"),
        (23, 25, "class", "B"),
    ]


def test_rust() -> None:
    source = """\
use std::fmt;

/// Doc.
#[derive(Debug)]
pub struct Pool<T> {
    items: Vec<T>,
}

impl<T> Pool<T> {
    const MAX: usize = 10_000;

    /// Takes.
    pub fn acquire(&mut self) -> Option<T> {
        self.items.pop()
    }
}

impl fmt::Display for Pool<u8> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "x")
    }
}

trait Shape {
    fn area(&self) -> f64;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn works() {
        assert!(true);
    }
}
"""
    assert rows("a.rs", source) == [
        (3, 7, "class", "Pool"),
        (9, 10, "text", "Pool"),
        (12, 15, "method", "Pool.acquire"),
        (19, 21, "method", "Pool.fmt"),
        (24, 26, "class", "Shape"),
        (32, 35, "function", "tests.works"),
    ]


def test_java() -> None:
    source = """\
package a.b;

import java.util.List;

/** A pool. */
@Deprecated
public final class Pool<T> implements Base {
    private final List<T> items;

    public Pool(List<T> items) {
        this.items = items;
    }

    /** Takes. */
    @Override
    public T acquire() {
        return items.get(0);
    }

    enum Mode { A, B }

    interface Hook {
        void run();

        default void stop() {
            run();
        }
    }
}
"""
    assert rows("Pool.java", source) == [
        (5, 8, "class", "Pool"),
        (10, 12, "method", "Pool.Pool"),
        (14, 18, "method", "Pool.acquire"),
        (20, 20, "class", "Pool.Mode"),
        (22, 23, "class", "Pool.Hook"),
        (25, 27, "method", "Pool.Hook.stop"),
    ]


def test_c() -> None:
    source = """\
#ifndef A_H
#define A_H
#include <stdio.h>

#define LIMIT 1000

typedef struct node {
    int value;
} node_t;

typedef struct {
    int x;
} point_t;

enum color { RED, GREEN };

/* Adds. */
static int *add(struct plain *a,
                int b)
{
    return 0;
}

#endif
"""
    assert rows("a.h", source) == [
        (5, 5, "text", ""),
        (7, 9, "class", "node"),
        (11, 13, "class", "point_t"),
        (15, 15, "class", "color"),
        (17, 22, "function", "add"),
    ]
    assert chunk_file("a.h", source.encode())[0].language == "c"


def test_cpp() -> None:
    source = """\
#include <vector>

namespace net::io {

/// A pool.
template <class T>
class Pool : public Base {
 public:
  int size() const { return n_; }

  /// Takes one.
  T acquire() {
    return items_.back();
  }

 private:
  std::vector<T> items_;
};

int& Pool::get(int i) {
  return x[i];
}

}  // namespace net::io

Pool::~Pool() {
  clear();
}
"""
    assert rows("a.cc", source) == [
        (5, 9, "class", "net.io.Pool"),
        (11, 14, "method", "net.io.Pool.acquire"),
        (16, 18, "class", "net.io.Pool"),
        (20, 22, "method", "net.io.Pool.get"),
        (26, 28, "method", "Pool.~Pool"),
    ]
    assert chunk_file("a.h", source.encode())[0].language == "cpp"


def test_other_text_is_cut_between_paragraphs() -> None:
    source = "# One\n\n" + "word " * 30 + "\n\n# Two\n\n" + "term " * 30 + "\n"
    chunks = chunk_file("notes.md", source.encode(), max_chars=200)
    assert [(chunk.kind, chunk.language, chunk.start_line) for chunk in chunks] == [
        ("text", "markdown", 1),
        ("text", "markdown", 5),
    ]
    assert chunk_file("LICENSE", b"Permission is granted.")[0].language == "text"


def test_a_long_function_is_cut_between_statements() -> None:
    body = "".join(
        f"    if step_{number}:\n        first({number})\n        second({number})\n" for number in range(40)
    )
    source = f"def long():\n{body}"
    chunks = chunk_file("a.py", source.encode(), max_chars=600)
    assert len(chunks) > 3
    assert {(chunk.symbol, chunk.kind) for chunk in chunks} == {("long", "function")}
    assert all(chunk.content.startswith("    if step_") for chunk in chunks[1:])
    assert all(len(chunk.content) <= 600 for chunk in chunks)
    assert "\n".join(chunk.content for chunk in chunks) == source.rstrip("\n")
    assert_contents_are_lines(source, chunks)


def test_a_nested_function_is_a_chunk_only_where_its_parent_is_cut() -> None:
    inner = "    def inner():\n" + "".join(f"        call_{number}()\n" for number in range(20))
    source = f"def outer():\n{inner}    return inner\n"
    assert [row[3] for row in rows("a.py", source, max_chars=1000)] == ["outer"]
    assert rows("a.py", source, max_chars=390) == [(1, 1, "function", "outer"), (2, 23, "function", "outer.inner")]


@pytest.mark.parametrize(
    ("path", "header", "footer"),
    [
        ("a.js", "export const outer = () => {\n", "};\n"),
        ("a.cpp", "template <class T>\ntemplate <class U>\nvoid outer(U u) {\n", "}\n"),
    ],
)
def test_a_definition_in_several_wrappers_counts_once(path: str, header: str, footer: str) -> None:
    """A long one is looked into again, and must not be found in itself as `outer.outer`."""
    struct = "struct Inner {\n  int go() {\n" if path == "a.cpp" else "class Inner {\n  go() {\n"
    inner = struct + "    step(alpha, beta);\n" * 40 + "  }\n};\n"
    symbols = {row[3] for row in rows(path, header + inner + "  after(alpha, beta);\n" * 40 + footer)}
    assert symbols == {"outer", "outer.Inner", "outer.Inner.go"}


def test_a_statement_keeps_the_comment_above_it() -> None:
    body = "".join(f"    # Why step {number} is taken.\n    step({number})\n" for number in range(30))
    chunks = chunk_file("a.py", f"def f():\n{body}".encode(), max_chars=300)
    assert all(chunk.content.startswith("    # Why") for chunk in chunks[1:])


def test_a_syntax_error_still_gives_chunks() -> None:
    source = "def good():\n    return 1\n\n\ndef broken(:\n    return (((\n\n\ndef also_good():\n    return 2\n"
    chunks = chunk_file("a.py", source.encode())
    text = "\n".join(chunk.content for chunk in chunks)
    assert "good" in {chunk.symbol for chunk in chunks}
    assert "return (((" in text
    assert "def also_good" in text
    assert_contents_are_lines(source, chunks)


def test_line_ends_and_byte_order_mark_do_not_matter() -> None:
    plain = chunk_file("a.py", PYTHON.encode())
    assert chunk_file("a.py", PYTHON.replace("\n", "\r\n").encode()) == plain
    assert chunk_file("a.py", b"\xef\xbb\xbf" + PYTHON.encode()) == plain


def test_characters_of_several_bytes_do_not_shift_anything() -> None:
    source = 'X = "größe"; Y = "日本語"\n\n\ndef größe():\n    return "日本語"\n'
    assert rows("a.py", source) == [(1, 1, "text", ""), (4, 5, "function", "größe")]


@pytest.mark.parametrize("source", [b"", b"\n\n", b"import os\n", b"# A comment.\n", b"\xef\xbb\xbf"])
def test_a_file_without_substance_has_no_chunks(source: bytes) -> None:
    assert chunk_file("a.py", source) == []


@pytest.mark.parametrize(
    "source",
    [
        b"x = " + b"[" * 20_000 + b"]" * 20_000,
        b"int f(){" + b"{" * 20_000 + b"}" * 20_000 + b"}",
        b"(\n" * 20_000,
        b"class A {\n" * 3_000 + b"}\n" * 3_000,
        b"".join(b" " * depth + b"class A:\n" for depth in range(1_000)),
    ],
    ids=["lists", "braces", "open brackets", "classes", "indented classes"],
)
@pytest.mark.parametrize("name", ["a.py", "a.js", "a.cpp"])
def test_deep_nesting_is_survived(name: str, source: bytes) -> None:
    chunks = chunk_file(name, source)
    assert all(len(chunk.content) <= 1500 for chunk in chunks)
    assert all(len(chunk.symbol) <= 1024 for chunk in chunks)


@pytest.mark.parametrize("name", ["a.js", "a.txt"])
def test_a_line_of_a_million_characters_is_cut_by_characters(name: str) -> None:
    source = "a = 1;" * 166_000
    chunks = chunk_file(name, source.encode())
    assert "".join(chunk.content for chunk in chunks) == source
    assert max(len(chunk.content) for chunk in chunks) == 1500
    assert {(chunk.start_line, chunk.end_line) for chunk in chunks} == {(1, 1)}


def test_minified_code_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parser would take seconds for rows of which no definition owns one; shorter rows are parsed."""
    row = "function f(a){return a+1}" * 50 + "\n"
    expected = row * 100
    monkeypatch.setattr(chunking, "parser_for", lambda grammar: pytest.fail("it was parsed"))
    chunks = chunk_file("a.js", expected.encode())
    assert "\n".join(chunk.content for chunk in chunks) + "\n" == expected
    assert {(chunk.language, chunk.kind, chunk.symbol) for chunk in chunks} == {("javascript", "text", "")}
    assert [chunk.start_line for chunk in chunks] == list(range(1, 101))
    with pytest.raises(pytest.fail.Exception, match="it was parsed"):
        chunk_file("a.js", (row[:900] + "\n").encode() * 150)


def test_very_many_short_rows_are_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No definition is shorter, and half a million rows take seconds."""
    monkeypatch.setattr(chunking, "parser_for", lambda grammar: pytest.fail("it was parsed"))
    chunks = chunk_file("a.c", b"0x12,\n" * 20_000)
    assert {(chunk.language, chunk.kind, chunk.symbol) for chunk in chunks} == {("c", "text", "")}
    with pytest.raises(pytest.fail.Exception, match="it was parsed"):
        chunk_file("a.c", b"0x1234, 0x5678,\n" * 20_000)


def test_what_takes_long_to_parse_is_cut_between_paragraphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its grammar's errors cost: the parser is stopped, and the next file has one of its own."""
    source = "fn a() {}\n\n" + "(< a b >\n" * 1000
    assert chunk_file("a.rs", source.encode())[0].symbol == "a"
    monkeypatch.setattr(chunking, "_PARSE_MOST_S", 0.0)
    chunks = chunk_file("a.rs", source.encode())
    assert {(chunk.language, chunk.kind, chunk.symbol) for chunk in chunks} == {("rust", "text", "")}
    assert "\n".join(chunk.content for chunk in chunks).replace("\n", "") == source.replace("\n", "")
    monkeypatch.undo()
    assert chunk_file("a.rs", b"fn a() {}\n")[0].symbol == "a"


def test_definitions_that_share_a_line_lose_no_text() -> None:
    chunks = chunk_file("a.js", b"function a(){return 1} function b(){return 2}\n")
    assert [chunk.content for chunk in chunks] == ["function a(){return 1} function b(){return 2}"]


@pytest.mark.parametrize(
    ("path", "header", "symbols"),
    [
        ("a.js", "class A {\n\n  'go\x01od'() {", {"A", "A.'good'"}),
        ("a.js", "class A {\n\n  ['x\x7fy']() {", {"A", "A.['xy']"}),
        ("a.ts", "declare module 'x\x02y' {\n  export class Q {", {"xy", "xy.Q"}),
        ("a.cc", "struct B {};\ntemplate<> void f<'\x9b'>() {", {"B", "f<''>"}),
        ("a.cc", "struct B {};\ntemplate<> void f<1,\n\t2>() {", {"B", "f<1, 2>"}),
    ],
)
def test_a_symbol_has_no_control_characters(path: str, header: str, symbols: set[str]) -> None:
    """The service refuses such a label: the file would be incomplete at every run."""
    footer = "\n}" * (header.count("{") - header.count("{}"))
    chunks = chunk_file(path, f"{header}\n{'  a = 1;' * 9}{footer}\n".encode())
    found = {chunk.symbol for chunk in chunks}
    assert found - {""} <= symbols
    assert max(symbols, key=len) in found
    assert all(label("chunk.symbol", symbol) == symbol for symbol in found)


def test_a_budget_that_is_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 100, not 99"):
        chunk_file("a.py", b"x = 1", max_chars=99)


@pytest.mark.parametrize("max_chars", [300, 1500])
def test_the_standard_library_is_covered(max_chars: int) -> None:
    for path in sorted(Path(json.__file__).parent.glob("*.py")):
        source = path.read_text()
        lines = source.split("\n")
        chunks = chunk_file(str(path), source.encode(), max_chars=max_chars)
        assert_contents_are_lines(source, chunks)
        covered = [line for chunk in chunks for line in range(chunk.start_line, chunk.end_line + 1)]
        assert len(covered) == len(set(covered)), "a line is in two chunks"
        assert covered == sorted(covered)
        for number, line in enumerate(lines, 1):
            if line.lstrip().startswith(("def ", "return", "class ", "raise ", "@", "yield")):
                assert number in set(covered), f"{path}:{number}: {line}"
