"""`duovec embed`: turn texts into vectors."""

import enum
import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from duovec.v1 import vector_pb2 as vector_pb
from gateway.cli.failures import one_line_failures
from gateway.cli.options import DEFAULT_ENDPOINT, ApiKey, AsJson, Endpoint
from gateway.cli.terminal import harmless
from gateway.client.client import Client

_TEXTS_PER_CALL = 256


class InputType(enum.StrEnum):
    """What the texts are for."""

    QUERY = "query"
    PASSAGE = "passage"


class Precision(enum.StrEnum):
    """How the numbers travel, and how a file of them is written."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"


@one_line_failures
def embed(
    text: Annotated[list[str], typer.Argument(help="Texts; `-` stands for all of stdin.")],
    input_type: Annotated[InputType, typer.Option(help="What the texts are for.")] = InputType.PASSAGE,
    truncate: Annotated[bool, typer.Option("--truncate", help="Cut what is too long, instead of failing.")] = False,
    precision: Annotated[
        Precision, typer.Option(help="float16: half the bytes, by the wire and in the file; rounded.")
    ] = Precision.FLOAT32,
    output: Annotated[Path | None, typer.Option(help="Write the vectors, (B, 2560), as a .npy file.")] = None,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Embed texts as vectors of 2560 numbers.

    Examples:

        duovec embed "open a socket" --input-type query --json

        duovec embed - --output vector.npy < main.py

        duovec embed - --precision float16 --output half_the_size.npy < main.py
    """
    texts = [typer.get_text_stream("stdin").read() if item == "-" else item for item in text]
    parts: list[NDArray[np.float32]] = []
    rows: list[vector_pb.Embedding] = []
    space = ""
    with Client(endpoint, api_key=api_key) as client:
        for start in range(0, len(texts), _TEXTS_PER_CALL):
            response = client.embed_response(
                texts[start : start + _TEXTS_PER_CALL],
                input_type.value,
                truncate=truncate,
                precision=precision.value,
            )
            parts.append(client.vectors_of(response))
            rows += response.embeddings
            space = response.space
    vectors_BD = np.concatenate(parts)
    if output is not None:
        with output.open("wb") as file:  # np.save would add a suffix to a path, behind the caller's back.
            np.save(file, vectors_BD.astype(precision.value))
    if as_json:
        embeddings = [
            {
                "vector": vector.tolist(),
                "code_token_count": row.code_token_count,
                "text_token_count": row.text_token_count,
                "truncated": row.truncated,
            }
            for vector, row in zip(vectors_BD, rows, strict=True)
        ]
        typer.echo(json.dumps({"space": space, "embeddings": embeddings}))
        return
    table = Table("text", "code tokens", "text tokens", "cut", "vector")
    for item, vector, row in zip(texts, vectors_BD, rows, strict=True):
        shown = escape(harmless(item.strip().split("\n")[0][:40]))
        numbers = " ".join(f"{number:+.4f}" for number in vector[:4])
        table.add_row(
            shown, str(row.code_token_count), str(row.text_token_count), "yes" if row.truncated else "", f"{numbers} …"
        )
    console = Console()
    console.print(table, markup=False)
    console.print(
        f"space {space[:12]}, shape {vectors_BD.shape}{f', written to {output}' if output else ''}", markup=False
    )
