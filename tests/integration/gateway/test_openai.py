"""The OpenAI-compatible API as OpenAI's own client calls it."""

import base64
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from steady_cache import with_steady_cache
from tokenizers import Tokenizer

from gateway.client.client import Client
from gateway.local.stack import Stack

ROOT = Path(__file__).parents[3]
README_URL = "http://127.0.0.1:8080"
TEXTS = ["def add(a, b):\n    return a + b", "open a socket", "class Stack:\n    def push(self, item): ..."]


@pytest.fixture
def api(stack: Stack) -> Iterator[openai.OpenAI]:
    """As an administrator."""
    with openai.OpenAI(base_url=f"{stack.http_url}/v1", api_key=stack.api_key, max_retries=0) as api:
        yield api


def vectors_of(reply: openai.types.CreateEmbeddingResponse) -> np.ndarray:
    """(B, D), in the order of their indices, which must be that of the list."""
    assert [item.index for item in reply.data] == list(range(len(reply.data)))
    return np.array([item.embedding for item in reply.data], np.float32)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("encoding_format", ["float", "base64", None])
@pytest.mark.parametrize("input_type", ["query", "passage"])
def test_vectors_are_those_of_grpc_to_the_last_bit(
    api: openai.OpenAI, client: Client, input_type: str, encoding_format: str | None
) -> None:
    """Two doors to one service: what was indexed by one is found by the other. The client asks for base64 by itself."""
    form = {} if encoding_format is None else {"encoding_format": encoding_format}

    def both(attempt: int) -> tuple[openai.types.CreateEmbeddingResponse, np.ndarray]:
        reply = api.embeddings.create(model="duovec", input=TEXTS, extra_body={"input_type": input_type}, **form)
        return reply, client.embed(TEXTS, input_type)

    reply, expected = with_steady_cache(client, both)
    if encoding_format == "base64":
        found = np.stack([np.frombuffer(base64.b64decode(item.embedding), "<f4") for item in reply.data])
    else:
        found = vectors_of(reply)
    assert np.array_equal(found, expected)


def test_usage_counts_the_tokens_of_both_encoders(api: openai.OpenAI, client: Client) -> None:
    reply = api.embeddings.create(model="duovec", input=TEXTS)
    embeddings = client.embed_response(TEXTS, "passage").embeddings
    tokens = sum(each.code_token_count + each.text_token_count for each in embeddings)
    assert (reply.model, reply.usage.prompt_tokens, reply.usage.total_tokens) == ("duovec", tokens, tokens)


@pytest.mark.parametrize(
    ("asked", "named", "half"),
    [
        ({"model": "duovec-code"}, "duovec-code", slice(0, 1536)),
        ({"model": "duovec", "dimensions": 1536}, "duovec-code", slice(0, 1536)),
        ({"model": "duovec-text", "dimensions": 1024}, "duovec-text", slice(1536, 2560)),
        ({"model": "duovec", "dimensions": 1024}, "duovec-text", slice(1536, 2560)),
    ],
)
def test_a_half_is_the_part_of_one_encoder_at_norm_1(
    api: openai.OpenAI, client: Client, asked: dict[str, str], named: str, half: slice
) -> None:
    """One encoder alone may be summed in another order than beside the other; to seven digits it is the same."""
    reply = api.embeddings.create(input=TEXTS, **asked)
    assert reply.model == named
    np.testing.assert_allclose(vectors_of(reply), unit(client.embed(TEXTS, "passage")[:, half]), atol=1e-6)


def test_more_texts_than_a_grpc_call_may_have_come_back_in_order(api: openai.OpenAI, client: Client) -> None:
    """OpenAI's clients send up to 2048 at once."""
    texts = [f"def number_{index}(): return {index}" for index in range(600)]

    def both(attempt: int) -> tuple[np.ndarray, np.ndarray]:
        found = vectors_of(api.embeddings.create(model="duovec", input=texts))
        parts = [client.embed(texts[start : start + 200], "passage") for start in range(0, 600, 200)]
        return found, np.concatenate(parts)

    found, expected = with_steady_cache(client, both)
    assert np.array_equal(found, expected)


def test_token_ids_of_an_encoder_are_its_text(api: openai.OpenAI, client: Client, published_models: Path) -> None:
    """Ids by the published tokenizer itself; both of one list and of several."""
    (path,) = published_models.glob("compact-code/1/tokenizer.json")
    tokenizer = Tokenizer.from_file(str(path))
    ids = [tokenizer.encode(text).ids for text in TEXTS]
    mine = {"extra_body": {"tokenizer": "duovec-code"}}

    def by_text_and_by_ids(attempt: int) -> list[np.ndarray]:
        texts = [tokenizer.decode(row) for row in ids]
        replies = [api.embeddings.create(model="duovec", input=texts)]
        replies += [api.embeddings.create(model="duovec", input=given, **mine) for given in (ids, ids[1])]
        return [vectors_of(reply) for reply in replies]

    expected, several, one = with_steady_cache(client, by_text_and_by_ids)
    assert np.array_equal(several, expected)
    assert np.array_equal(one, expected[1:2])


@pytest.mark.parametrize(
    ("ids", "tokenizer", "message"),
    [
        ([[2000, 3000]], None, "is token ids, and no `tokenizer` says whose: send text"),
        ([2000], None, "check_embedding_ctx_length=False"),
        ([[2000], [30522]], "duovec-code", r"input\[1\]\[0\]: is 30522; ids of compact-code are 0 to 30521"),
        ([-1], "duovec-text", r"input\[0\]: is -1; ids of compact-text"),
        ([100], "duovec-code", "which to compact-code is any unknown character"),
        ([2000, 102, 2013], "duovec-code", None),
        ([16344, 16344], "duovec-code", "are not the ids of compact-code of any text"),
        ([101, 102], "duovec-code", "is empty or of whitespace only"),
    ],
)
def test_token_ids_of_nobody_known_are_refused(
    api: openai.OpenAI, ids: list[int], tokenizer: str | None, message: str | None
) -> None:
    """Ids of OpenAI's tokenizer, which langchain sends by itself, would be other words: no vector is better."""
    extra = {} if tokenizer is None else {"extra_body": {"tokenizer": tokenizer}}
    if message is None:
        assert len(api.embeddings.create(model="duovec-code", input=ids, **extra).data) == 1
        return
    with pytest.raises(openai.BadRequestError, match=message):
        api.embeddings.create(model="duovec", input=ids, **extra)


def test_models_are_listed_with_what_they_are(api: openai.OpenAI, client: Client) -> None:
    models = {model.id: model for model in api.models.list()}
    assert {name: model.dimensions for name, model in models.items()} == {
        "duovec": 2560,
        "duovec-code": 1536,
        "duovec-text": 1024,
    }
    assert models["duovec"].encoders == ["compact-code/1", "compact-text/1"]
    assert models["duovec-text"].encoders == ["compact-text/1"]
    assert {model.space for model in models.values()} == {client.embed_response(["a"], "query").space}
    assert api.models.retrieve("duovec-code") == models["duovec-code"]
    with pytest.raises(openai.NotFoundError) as failure:
        api.models.retrieve("gpt-4")
    assert failure.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("asked", "error", "code", "param"),
    [
        ({"model": "text-embedding-3-small"}, openai.NotFoundError, "model_not_found", None),
        ({"dimensions": 512}, openai.BadRequestError, "invalid_input", "dimensions"),
        ({"dimensions": 0}, openai.BadRequestError, "invalid_input", "dimensions"),
        ({"model": "duovec-code", "dimensions": 2560}, openai.BadRequestError, "invalid_input", "dimensions"),
        ({"model": "duovec-code", "dimensions": 1024}, openai.BadRequestError, "invalid_input", "dimensions"),
        ({"encoding_format": "hex"}, openai.BadRequestError, "invalid_input", "encoding_format"),
        ({"extra_body": {"input_type": "document"}}, openai.BadRequestError, "invalid_input", "input_type"),
        ({"extra_body": {"inputtype": "query"}}, openai.BadRequestError, "invalid_input", "inputtype"),
        ({"input": ""}, openai.BadRequestError, "invalid_input", "input"),
        ({"input": []}, openai.BadRequestError, "invalid_input", "input"),
        ({"input": ["fine", " \n"]}, openai.BadRequestError, "invalid_input", "input[1]"),
        ({"input": ["fine", 7]}, openai.BadRequestError, "invalid_input", "input"),
        ({"input": "null \0"}, openai.BadRequestError, "invalid_input", "input"),
        ({"input": "word " * 600}, openai.BadRequestError, "context_length_exceeded", "input"),
        ({"input": ["x"] * 2049}, openai.BadRequestError, "invalid_input", "input"),
    ],
)
def test_what_is_wrong_is_said_as_openai_says_it(
    api: openai.OpenAI, asked: dict[str, object], error: type[openai.APIStatusError], code: str, param: str | None
) -> None:
    """Clients branch on the status and the code; people read which field it is."""
    with pytest.raises(error) as failure:
        api.embeddings.create(**({"model": "duovec", "input": "open a socket"} | asked))
    assert (failure.value.code, failure.value.param) == (code, param)
    assert failure.value.type == "invalid_request_error"


def test_a_long_text_is_cut_where_that_is_asked_for(api: openai.OpenAI, client: Client) -> None:
    text = "word " * 600
    reply = api.embeddings.create(model="duovec", input=text, extra_body={"truncate": True})
    assert np.array_equal(vectors_of(reply), client.embed([text], "passage", truncate=True))


@pytest.mark.parametrize("key", ["sk-of-openai", "duovec_aaaaaaaaaaaa_" + "0" * 64])
def test_a_wrong_key_is_refused(stack: Stack, key: str) -> None:
    with (
        openai.OpenAI(base_url=f"{stack.http_url}/v1", api_key=key, max_retries=0) as api,
        pytest.raises(openai.AuthenticationError) as failure,
    ):
        api.embeddings.create(model="duovec", input="open a socket")
    assert failure.value.code == "invalid_api_key"
    assert failure.value.response.headers["www-authenticate"] == "Bearer"


def readme(*languages: str) -> list[str]:
    """The README's blocks in some languages that are about HTTP."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.findall(rf"^```(?:{'|'.join(languages)})\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [block for block in found if README_URL in block]


def test_the_readme_s_commands_do_what_it_says(stack: Stack) -> None:
    """As they stand there, at this service."""
    (block,) = readme("bash")
    script = block.replace(README_URL, stack.http_url).replace("curl ", "curl --silent --show-error --max-time 30 ")
    environment = {"PATH": os.environ["PATH"], "DUOVEC_API_KEY": stack.api_key}
    separated = re.sub(r"^curl", "echo; curl", script, flags=re.MULTILINE)
    run = subprocess.run(["bash", "-ec", separated], env=environment, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    health, models, embeddings, codebases = (json.loads(line) for line in run.stdout.splitlines() if line)
    assert health == {"status": "SERVING"}
    assert [model["id"] for model in models["data"]] == ["duovec", "duovec-code", "duovec-text"]
    assert len(embeddings["data"][0]["embedding"]) == 2560
    assert "codebases" in codebases


def test_the_readme_s_program_does_what_it_says(stack: Stack, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    (source,) = readme("python")
    monkeypatch.setenv("DUOVEC_API_KEY", stack.api_key)

    def both(attempt: int) -> tuple[list[float], np.ndarray]:
        names: dict[str, Any] = {}
        exec(source.replace(README_URL, stack.http_url), names)
        names["api"].close()
        return names["vector"], client.embed(["open a socket"], "query")[0]

    found, expected_V = with_steady_cache(client, both)
    assert np.array_equal(np.array(found, np.float32), expected_V)
