"""What a call or a batch costs its caller, whether it is embedded or not."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gateway.embedding.meter import TokenMeter
from gateway.embedding.space import InputType
from gateway.embedding.vectors import Vectors
from gateway.errors import BadVector, DuovecError, QuotaExceeded, TritonUnavailable
from gateway.rpc import quotas
from gateway.rpc.admission import Admission
from gateway.rpc.embedding_call import EmbeddingCalls, Row, StreamedText, whole
from gateway.rpc.tei_service import TeiEmbedServicer
from gateway.store.access import Quota
from tei.v1 import tei_pb2


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


class Principals:
    """Counts how often the key was looked at. A test double."""

    def __init__(self) -> None:
        self.checks = 0

    async def check_key(self, *, timeout_s: float) -> None:
        self.checks += 1


@pytest.fixture
def principals() -> Principals:
    return Principals()


@pytest.fixture
def embedder() -> Embedder:
    return Embedder()


@pytest.fixture
def calls(embedder: Embedder, principals: Principals, monkeypatch: pytest.MonkeyPatch) -> EmbeddingCalls:
    """Those of a principal with ten tokens a minute."""
    monkeypatch.setattr(quotas, "current_principal_key", lambda: 1)
    return EmbeddingCalls(
        Serving(embedder),  # type: ignore[arg-type]
        principals,  # type: ignore[arg-type]
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


async def test_a_batch_whose_turn_does_not_come_is_refused_item_by_item(
    calls: EmbeddingCalls, principals: Principals
) -> None:
    """Its stream goes on, and its caller learns why nothing comes."""
    texts = [StreamedText("a hundred times what a minute brings" * 30), StreamedText("x")]
    _, outcomes = await calls.embed_batch(whole, texts, InputType.PASSAGE)
    assert [type(outcome) for outcome in outcomes] == [Row, Row]
    _, outcomes = await calls.embed_batch(whole, texts, InputType.PASSAGE)
    assert [(type(outcome), outcome.retry_after_s) for outcome in outcomes] == [(QuotaExceeded, 60.0)] * 2  # type: ignore[union-attr]


async def test_a_stream_of_tei_waits_for_its_quota(
    calls: EmbeddingCalls, principals: Principals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would end by an error: replies have no names there, and no item is sent again."""
    clock = [0.0]
    real_sleep = asyncio.sleep

    async def sleep(seconds: float) -> None:
        clock[0] += seconds
        await real_sleep(0)

    monkeypatch.setattr(quotas, "monotonic", lambda: clock[0])
    monkeypatch.setattr(asyncio, "sleep", sleep)

    async def requests() -> AsyncIterator[tei_pb2.EmbedRequest]:
        for _ in range(3):
            yield tei_pb2.EmbedRequest(inputs="x" * 70_000)

    replies = [reply async for reply in TeiEmbedServicer(calls).EmbedStream(requests(), None)]  # type: ignore[arg-type]
    assert len(replies) == 3
    # What two of them owe at ten a minute; the key is proven, and its limits are looked at, each time.
    assert clock[0] == pytest.approx(2 * 70_000 * 6, rel=0.01)
    assert principals.checks == pytest.approx(2 * 70_000 / 10, rel=0.01)
