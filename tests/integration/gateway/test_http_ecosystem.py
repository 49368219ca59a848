"""Frameworks that embed by OpenAI's API, with their own clients and by their own tests."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from langchain_openai import OpenAIEmbeddings
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from steady_cache import with_steady_cache

from gateway.client.client import Client
from gateway.local.stack import Stack

TEXTS = ["def add(a, b): return a + b", "open a socket"]


@dataclass(frozen=True)
class HttpClients:
    """Those that frameworks make of their own are closed when somebody collects them."""

    sync: httpx.Client
    asynchronous: httpx.AsyncClient


@pytest.fixture
async def clients() -> AsyncIterator[HttpClients]:
    with httpx.Client() as sync:
        async with httpx.AsyncClient() as asynchronous:
            yield HttpClients(sync, asynchronous)


class TestLangChain(EmbeddingsIntegrationTests):
    """The tests that LangChain has for embeddings, on its OpenAI package."""

    @pytest.fixture(autouse=True)
    def served(self, stack: Stack, clients: HttpClients) -> None:
        self._stack, self._clients = stack, clients

    @property
    def embeddings_class(self) -> type[OpenAIEmbeddings]:
        return OpenAIEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, object]:
        return langchain_parameters(self._stack, self._clients) | {"check_embedding_ctx_length": False}

    def test_vectors_are_those_of_grpc(self, model: OpenAIEmbeddings, client: Client) -> None:
        found, expected = with_steady_cache(
            client, lambda attempt: (model.embed_documents(TEXTS), client.embed(TEXTS, "passage"))
        )
        assert np.array_equal(np.array(found, np.float32), expected)


def langchain_parameters(stack: Stack, clients: HttpClients) -> dict[str, Any]:
    return {
        "model": "duovec",
        "base_url": f"{stack.http_url}/v1",
        "api_key": stack.api_key,
        "http_client": clients.sync,
        "http_async_client": clients.asynchronous,
    }


def llama_index(stack: Stack, clients: HttpClients, **options: Any) -> OpenAILikeEmbedding:
    return OpenAILikeEmbedding(
        api_base=f"{stack.http_url}/v1",
        api_key=stack.api_key,
        http_client=clients.sync,
        async_http_client=clients.asynchronous,
        **options,
    )


def test_langchain_left_to_itself_is_told_what_to_set(
    stack: Stack, clients: HttpClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sends ids of OpenAI's tokenizer, which it would fetch from the network, for models that it does not know."""

    class Words:
        def encode_ordinary(self, text: str) -> list[int]:
            return [2000 + len(word) for word in text.split()]

        encode = encode_ordinary

    monkeypatch.setattr("tiktoken.encoding_for_model", lambda name: Words())
    model = OpenAIEmbeddings(**langchain_parameters(stack, clients))
    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False"):
        model.embed_query("open a socket")


def test_llama_index_has_the_vectors_of_grpc(stack: Stack, clients: HttpClients, client: Client) -> None:
    """Of more texts than it sends at once, and by its way for queries."""
    model = llama_index(stack, clients, model_name="duovec", embed_batch_size=4)
    texts = [f"def number_{index}(): return {index}" for index in range(10)]

    def by_each_way(attempt: int) -> list[Any]:
        return [
            model.get_text_embedding_batch(texts),
            client.embed(texts, "passage"),
            model.get_query_embedding(texts[0]),
        ]

    found, expected, one = (np.array(each, np.float32) for each in with_steady_cache(client, by_each_way))
    assert np.array_equal(found, expected)
    assert np.array_equal(one, found[0])


async def test_llama_index_has_them_asynchronously(stack: Stack, clients: HttpClients, client: Client) -> None:
    model = llama_index(stack, clients, model_name="duovec-code")
    half = client.embed(TEXTS, "passage")[:, :1536]
    found = np.array(await model.aget_text_embedding_batch(TEXTS), np.float32)
    np.testing.assert_allclose(found, half / np.linalg.norm(half, axis=1, keepdims=True), atol=1e-6)
