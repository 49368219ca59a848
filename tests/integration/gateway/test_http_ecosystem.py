"""Frameworks that embed by OpenAI's API, with their own clients and by their own tests."""

import numpy as np
import openai
import pytest
from langchain_openai import OpenAIEmbeddings
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from llama_index.embeddings.openai_like import OpenAILikeEmbedding

from gateway.client.client import Client
from gateway.local.stack import Stack

TEXTS = ["def add(a, b): return a + b", "open a socket"]


class TestLangChain(EmbeddingsIntegrationTests):
    """The tests that LangChain has for embeddings, on its OpenAI package."""

    @pytest.fixture(autouse=True)
    def served(self, stack: Stack) -> None:
        self._stack = stack

    @property
    def embeddings_class(self) -> type[OpenAIEmbeddings]:
        return OpenAIEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, object]:
        return {
            "model": "duovec",
            "base_url": f"{self._stack.http_url}/v1",
            "api_key": self._stack.api_key,
            "check_embedding_ctx_length": False,
        }

    def test_vectors_are_those_of_grpc(self, model: OpenAIEmbeddings, client: Client) -> None:
        found = np.array(model.embed_documents(TEXTS), np.float32)
        assert np.array_equal(found, client.embed(TEXTS, "passage"))


def test_langchain_left_to_itself_is_told_what_to_set(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """It sends ids of OpenAI's tokenizer, which it would fetch from the network, for models that it does not know."""

    class Words:
        def encode_ordinary(self, text: str) -> list[int]:
            return [2000 + len(word) for word in text.split()]

        encode = encode_ordinary

    monkeypatch.setattr("tiktoken.encoding_for_model", lambda name: Words())
    model = OpenAIEmbeddings(model="duovec", base_url=f"{stack.http_url}/v1", api_key=stack.api_key)
    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False"):
        model.embed_query("open a socket")


def test_llama_index_has_the_vectors_of_grpc(stack: Stack, client: Client) -> None:
    """Of more texts than it sends at once, and by its way for queries."""
    model = OpenAILikeEmbedding(
        model_name="duovec", api_base=f"{stack.http_url}/v1", api_key=stack.api_key, embed_batch_size=4
    )
    texts = [f"def number_{index}(): return {index}" for index in range(10)]
    found = np.array(model.get_text_embedding_batch(texts), np.float32)
    assert np.array_equal(found, client.embed(texts, "passage"))
    assert np.array_equal(np.array(model.get_query_embedding(texts[0]), np.float32), found[0])


async def test_llama_index_has_them_asynchronously(stack: Stack, client: Client) -> None:
    model = OpenAILikeEmbedding(model_name="duovec-code", api_base=f"{stack.http_url}/v1", api_key=stack.api_key)
    half = client.embed(TEXTS, "passage")[:, :1536]
    found = np.array(await model.aget_text_embedding_batch(TEXTS), np.float32)
    np.testing.assert_allclose(found, half / np.linalg.norm(half, axis=1, keepdims=True), atol=1e-6)
