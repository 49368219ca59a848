"""What a call or a batch costs its caller, whether it is embedded or not."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gateway.embedding.meter import TokenMeter
from gateway.embedding.space import InputType
from gateway.embedding.vectors import Vectors
from gateway.errors import BadVector, DuovecError, TritonUnavailable
from gateway.rpc import quotas
from gateway.rpc.admission import Admission
from gateway.rpc.embedding_call import EmbeddingCalls, Row, StreamedText, whole
from gateway.store.access import Quota


class Texts(list[str]):
    """A token a character."""

    @property
    def token_count(self) -> int:
        return sum(len(text) for text in self)

    def select(self, indices: Sequence[int]) -> "Texts":
        return Texts(self[index] for index in indices)


class Embedder:
    """A test double: it runs no model."""

    def __init__(self) -> None:
        self.failures: list[DuovecError] = []
        self.errors: dict[int, BadVector] = {}

    def guess_tokens(self, texts: Sequence[str]) -> int:
        return Texts(texts).token_count

    async def tokenize(self, texts: Sequence[str], input_type: InputType) -> Texts:
        return Texts(texts)

    def excess(self, tokenized: Texts, index: int, field: str) -> None:
        return None

    async def embed(self, tokenized: Texts, **options: Any) -> Vectors:
        if self.failures:
            raise self.failures.pop(0)
        return Vectors(np.zeros((len(tokenized), 1), dtype=np.float32), self.errors)


class Serving:
    """One space, for ever."""

    def __init__(self, embedder: Embedder) -> None:
        self.active: Any = SimpleNamespace(embedder=embedder, fingerprint="ab", mismatch=lambda relied_on: None)

    async def expect(self, fingerprint: str) -> Any:
        return self.active


@pytest.fixture
def embedder() -> Embedder:
    return Embedder()


@pytest.fixture
def calls(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> EmbeddingCalls:
    """Those of a principal with ten tokens a minute."""
    monkeypatch.setattr(quotas, "current_principal_key", lambda: 1)
    return EmbeddingCalls(
        Serving(embedder),  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
        Admission(TokenMeter(), max_pending_tokens=1000, max_streams=1),
        quotas.Quotas(Quota(tokens_per_minute=10)),
        timeout_s=30.0,
    )


async def embed(calls: EmbeddingCalls, text: str) -> None:
    await calls.embed(whole, [text], InputType.PASSAGE, fields=["text"], truncate=False)


async def test_a_call_that_is_not_embedded_costs_no_tokens(calls: EmbeddingCalls, embedder: Embedder) -> None:
    embedder.failures = [TritonUnavailable("Triton is away") for _ in range(3)]
    for _ in range(3):
        with pytest.raises(TritonUnavailable):
            await embed(calls, "ten tokens")
    embedder.errors = {0: BadVector("NaN")}
    with pytest.raises(BadVector):
        await embed(calls, "ten tokens")
    embedder.errors = {}
    await embed(calls, "ten tokens")
    with pytest.raises(DuovecError, match="exceed your quota"):
        await embed(calls, "x")


async def test_a_batch_that_is_not_embedded_costs_no_tokens(calls: EmbeddingCalls, embedder: Embedder) -> None:
    embedder.failures = [TritonUnavailable("Triton is away") for _ in range(3)]
    outcomes = []
    async with asyncio.timeout(10):
        for _ in range(4):
            _, [outcome] = await calls.embed_batch(whole, [StreamedText("ten tokens")], InputType.PASSAGE)
            outcomes.append(type(outcome))
    assert outcomes == [TritonUnavailable] * 3 + [Row]
