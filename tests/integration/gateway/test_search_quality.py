"""Search on real code: docstrings as queries for their own functions, against BM25 on the same set."""

import ast
import hashlib
import re
import sysconfig
from pathlib import Path

import bm25s
import numpy as np
import pytest

from duovec.v1 import chunk_pb2, index_service_pb2
from gateway.client.client import Client

PAIR_COUNT = 200
MODULES = """
    argparse ast asyncio/base_events asyncio/streams base64 calendar cgi codecs collections/__init__
    configparser contextlib copy csv datetime difflib dis email/message fractions functools gettext gzip heapq
    http/client http/cookiejar imaplib inspect ipaddress json/decoder logging/__init__ mailbox os pathlib
    pickletools random shutil smtplib statistics string tarfile tempfile textwrap threading tokenize traceback
    unittest/case urllib/parse urllib/request zipfile
""".split()


def documented_functions() -> list[tuple[str, str, str]]:
    """(name, first paragraph of the docstring, source without docstring) of functions, spread over the modules."""
    stdlib = Path(sysconfig.get_path("stdlib"))
    found: list[tuple[str, str, str]] = []
    for module in MODULES:
        tree = ast.parse((stdlib / f"{module}.py").read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef) or len(node.body) < 3:
                continue
            docstring = ast.get_docstring(node)
            if not docstring or len(docstring) < 40:
                continue
            name, query = node.name, docstring.split("\n\n")[0]
            node.body = node.body[1:]
            found.append((name, query, ast.unparse(node)))
    # Every k-th, so that every module has its share; the order is that of the files.
    step = len(found) / PAIR_COUNT
    chosen = [found[int(index * step)] for index in range(PAIR_COUNT)]
    assert len({code for _, _, code in chosen}) == PAIR_COUNT
    return chosen


def words(text: str) -> list[str]:
    """Words of prose and of identifiers: snake_case and camelCase split."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", text)]


def scores(ranks: list[int | None]) -> tuple[float, float]:
    """Recall@10 and MRR@10 of ranks that count from 1, None being not among the ten."""
    found = [rank for rank in ranks if rank is not None]
    return len(found) / len(ranks), sum(1 / rank for rank in found) / len(ranks)


def bm25_ranks(pairs: list[tuple[str, str, str]]) -> list[int | None]:
    retriever = bm25s.BM25()
    retriever.index([words(code) for _, _, code in pairs], show_progress=False)
    hits, _ = retriever.retrieve([words(query) for _, query, _ in pairs], k=10, show_progress=False)
    ranks: list[int | None] = []
    for index, row in enumerate(np.asarray(hits)):
        at = np.flatnonzero(row == index)
        ranks.append(int(at[0]) + 1 if at.size else None)
    return ranks


def service_ranks(client: Client, pairs: list[tuple[str, str, str]]) -> list[int | None]:
    client.create_codebase("pairs")
    requests = (
        index_service_pb2.IndexChunksRequest(
            codebase_id="pairs",
            item_id=str(index),
            truncate=True,
            chunk=chunk_pb2.Chunk(
                path=f"{index}.py",
                language="python",
                symbol=name,
                kind="function",
                start_line=1,
                end_line=code.count("\n") + 1,
                content=code,
                file_sha256=hashlib.sha256(code.encode()).digest(),
                ordinal=0,
                file_chunk_count=1,
            ),
        )
        for index, (name, _, code) in enumerate(pairs)
    )
    assert all(reply.HasField("indexed") for reply in client.index_chunks(requests))
    ranks: list[int | None] = []
    for index, (_, query, _) in enumerate(pairs):
        paths = [hit.chunk.path for hit in client.search("pairs", query, limit=10, truncate=True).hits]
        ranks.append(paths.index(f"{index}.py") + 1 if f"{index}.py" in paths else None)
    client.delete_codebase("pairs")
    return ranks


def test_search_beats_bm25(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    """Of 200 docstrings, more find their function among ten hits, and higher, than by BM25."""
    pairs = documented_functions()
    dense, lexical = scores(service_ranks(client, pairs)), scores(bm25_ranks(pairs))
    with capsys.disabled():
        print(f"\n        recall@10  MRR@10\nduovec  {dense[0]:9.3f}  {dense[1]:6.3f}")
        print(f"BM25    {lexical[0]:9.3f}  {lexical[1]:6.3f}")
    assert dense[0] > lexical[0]
    assert dense[1] > lexical[1]
