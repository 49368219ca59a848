"""The vectors that the service answers, against sentence-transformers on the same checkpoints."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

from duovec.v1 import embedding_service_pb2 as pb
from duovec.v1 import embedding_service_pb2_grpc as pb_grpc
from duovec.v1 import vector_pb2
from export.gate.samples import real_functions
from export.source import ADAPTERS_FILE, open_checkpoint
from export.spec import EncoderSpec, Words, load_pair
from export.transformer import quiet_transformers
from export.words import directions
from gateway.client.client import Client
from gateway.local.stack import Stack

# Cosine to the reference that a precision must reach.
MIN_COSINE = {"bf16": 0.999, "fp32": 0.99999}


@pytest.fixture(scope="module")
def functions() -> list[str]:
    """64 functions of the standard library, of mixed length."""
    return [text for text in real_functions() if len(text) < 1500][:64]


def adapters_of(spec: EncoderSpec) -> Path:
    """The weights that come with duovec."""
    assert spec.adapters is not None
    return spec.adapters.path / ADAPTERS_FILE


def beside_words(
    words: Words, meaning_BD: NDArray[np.float64], trained: dict[str, NDArray[np.float64]], ids: list[list[int]]
) -> NDArray[np.float64]:
    """Tokens counted one by one, the n-th of a kind at 1 / n; where they point is drawn by the exporter."""
    weight_V = trained["words.weight"]
    drawn = directions(words, len(weight_V), trained["head.weight"].astype(np.float32))
    rows = []
    for row in ids:
        seen: Counter[int] = Counter()
        row_K = np.zeros(drawn.basis_DK.shape[1])
        for token in row:
            seen[token] += 1
            high, low = divmod(token, len(drawn.high_MK))
            row_K += weight_V[token] / seen[token] * drawn.high_MK[high] * drawn.low_MK[low]
        rows.append(row_K / np.linalg.norm(row_K))
    both_BD = np.sqrt(1 - words.share) * meaning_BD + np.sqrt(words.share) * np.array(rows) @ drawn.basis_DK.T
    return both_BD / np.linalg.norm(both_BD, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def reference(functions: list[str]) -> NDArray[np.float64]:
    """normalize([√½·code ; √½·text]) of passages by sentence-transformers and numpy alone."""
    from sentence_transformers import SentenceTransformer

    parts = []
    for spec in load_pair("compact"):
        with quiet_transformers():
            model = SentenceTransformer(str(open_checkpoint(spec).folder), device="cpu")
        model.max_seq_length = spec.max_tokens
        trained = {name: one.astype(np.float64) for name, one in load_file(adapters_of(spec)).items()}
        task = spec.tasks.index("passage") if spec.tasks else 0
        for name in trained:
            if name.endswith(".A"):
                a_RI, b_OR = trained[name][task], trained[f"{name[:-2]}.B"][task]
                layer = model[0].model.get_submodule(name[len("lora.") : -len(".A")])
                layer.weight.data += torch.from_numpy(spec.lora.alpha / spec.lora.rank * (b_OR @ a_RI)).float()
        base_BH = np.asarray(model.encode(functions), dtype=np.float64)
        part = base_BH @ trained["head.weight"].T
        part /= np.linalg.norm(part, axis=1, keepdims=True)
        if spec.words is not None:
            ids = model.tokenizer(functions, truncation=True, max_length=spec.max_tokens)["input_ids"]
            part = beside_words(spec.words, part, trained, ids)
        parts.append(np.sqrt(0.5) * part)
    joined_BV = np.concatenate(parts, axis=1)
    return joined_BV / np.linalg.norm(joined_BV, axis=1, keepdims=True)


@pytest.fixture
def stranger(stack: Stack, client: Client) -> Iterator[Client]:
    """Another principal, for whom nothing was embedded yet: what it gets is not from the cache."""
    client.access.create_principal("vectors-stranger")
    with Client(stack.endpoint, api_key=client.access.create_api_key("vectors-stranger").key) as stranger:
        yield stranger
    client.access.delete_principal("vectors-stranger")


def test_vectors_equal_the_reference(
    client: Client, functions: list[str], reference: NDArray[np.float64], published_models: Path
) -> None:
    """What comes out of the whole path is what sentence-transformers computes, within the precision's bound."""
    manifest = json.loads((published_models / "compact-code" / "1" / "manifest.json").read_bytes())
    vectors_BV = client.embed(functions, "passage")
    cosines = np.einsum("bv,bv->b", vectors_BV.astype(np.float64), reference)
    assert vectors_BV.shape == (64, 2560)
    assert cosines.min() >= MIN_COSINE[manifest["precision"]]


def test_vectors_have_norm_one(client: Client, functions: list[str]) -> None:
    vectors_BV = client.embed(functions, "passage")
    np.testing.assert_allclose(np.linalg.norm(vectors_BV.astype(np.float64), axis=1), 1.0, atol=1e-5)


def test_a_text_has_one_vector_whatever_its_batch_mates(client: Client, stranger: Client, functions: list[str]) -> None:
    """Alone or among 63 others: the same within 1e-4 cosine distance."""
    together_BV = client.embed(functions, "passage").astype(np.float64)
    for index in range(0, 64, 7):
        response = stranger.embed_response([functions[index]], "passage")
        assert not response.embeddings[0].cached
        alone_V = np.frombuffer(response.embeddings[0].vector.float32_le, "<f4").astype(np.float64)
        assert 1 - alone_V @ together_BV[index] <= 1e-4


def test_unrelated_texts_have_different_vectors(client: Client) -> None:
    vectors_BV = client.embed(["def add(a, b): return a + b", "class HttpServer: pass"], "passage")
    assert float(vectors_BV[0] @ vectors_BV[1]) < 0.8


def bearer(stack: Stack) -> tuple[tuple[str, str], ...]:
    """The stack's own key, as a caller without our client sends it."""
    return (("authorization", f"Bearer {stack.api_key}"),)


async def test_all_forms_of_a_vector_hold_the_same_numbers(stack: Stack, functions: list[str]) -> None:
    """The two of float32 to the bit; that of float16 as numpy rounds, which the proto's figures are about."""
    import grpc

    async with grpc.aio.insecure_channel(stack.endpoint) as channel:
        stub = pb_grpc.EmbeddingServiceStub(channel)
        replies = [
            await stub.Embed(
                pb.EmbedRequest(texts=functions, input_type=2, vector_format=vector_format),
                timeout=60,
                metadata=bearer(stack),
            )
            for vector_format in (
                vector_pb2.VECTOR_FORMAT_FLOATS,
                vector_pb2.VECTOR_FORMAT_FLOAT32_LE,
                vector_pb2.VECTOR_FORMAT_FLOAT16_LE,
            )
        ]
    floats, raw, half = ([embedding.vector for embedding in reply.embeddings] for reply in replies)
    for vectors, field in ((floats, "values"), (raw, "float32_le"), (half, "float16_le")):
        assert {tuple(name.name for name, _ in vector.ListFields()) for vector in vectors} == {(field,)}
    floats_BV = np.array([vector.values for vector in floats], dtype=np.float32)
    raw_BV = np.array([np.frombuffer(vector.float32_le, "<f4") for vector in raw])
    half_BV = np.array([np.frombuffer(vector.float16_le, "<f2") for vector in half])
    np.testing.assert_array_equal(floats_BV, raw_BV)
    assert half_BV.shape == (64, 2560)
    np.testing.assert_array_equal(half_BV, raw_BV.astype(np.float16))
    exact_BV, rounded_BV = raw_BV.astype(np.float64), half_BV.astype(np.float64)
    norms_B = np.linalg.norm(exact_BV, axis=1) * np.linalg.norm(rounded_BV, axis=1)
    assert 1 - ((exact_BV * rounded_BV).sum(axis=1) / norms_B).min() < 1e-7
    # A component of up to 0.125 is off by half a step of 2^-13 at most.
    assert np.abs(exact_BV).max() < 0.125
    assert np.abs(exact_BV - rounded_BV).max() <= 2**-15


def test_the_client_reads_half_precision(client: Client, functions: list[str]) -> None:
    exact_BV, rounded_BV = (client.embed(functions[:3], "passage", precision=one) for one in ("float32", "float16"))
    assert rounded_BV.dtype == np.float32
    np.testing.assert_array_equal(rounded_BV, exact_BV.astype(np.float16).astype(np.float32))


def test_a_long_text_is_cut_only_when_that_was_asked_for(client: Client) -> None:
    response = client.embed_response(["x = 1\n" * 2000], "passage", truncate=True)
    embedding = response.embeddings[0]
    assert embedding.truncated
    assert embedding.code_token_count == 512


async def test_a_stream_answers_every_item(
    stack: Stack, client: Client, stranger: Client, functions: list[str]
) -> None:
    """Good and bad items in one stream: each gets its own reply, and the vectors are those of Embed."""
    import grpc

    expected_BV = stranger.embed(functions, "passage")
    requests = [
        pb.StreamEmbedRequest(item_id=str(index), text=text, input_type=2, vector_format=2)
        for index, text in enumerate(functions)
    ]
    requests.insert(5, pb.StreamEmbedRequest(item_id="blank", text=" \n", input_type=2))
    requests.insert(9, pb.StreamEmbedRequest(item_id="long", text="word " * 3000, input_type=2))
    async with grpc.aio.insecure_channel(stack.endpoint) as channel:
        call = pb_grpc.EmbeddingServiceStub(channel).StreamEmbed(iter(requests), timeout=60, metadata=bearer(stack))
        replies = {reply.item_id: reply async for reply in call}
    assert len(replies) == 66
    assert "text: is empty" in replies["blank"].error.message
    assert replies["long"].error.message.startswith("text: 15000 characters")
    for index in range(64):
        vector_V = np.frombuffer(replies[str(index)].embedding.vector.float32_le, "<f4")
        assert float(vector_V @ expected_BV[index]) > 0.9999
