"""The client asks Triton for exactly one version, and every answer is vectors or a named error."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.grpc.service_pb2_grpc import add_GRPCInferenceServiceServicer_to_server

from export.python_backend.host import group_by_length
from gateway.embedding.lane import ALONE, BESIDE_CALLERS, INTERACTIVE
from gateway.embedding.space import Encoder, InputType
from gateway.embedding.triton import ROWS_PER_REQUEST, Priority, TritonClient
from gateway.errors import BackendFault, BadVector, DeadlineExceeded, DuovecError, Overloaded, TritonUnavailable
from gateway.telemetry.stages import Recorder, Stage, record

from .fake_triton import DIMENSION, Answer, Call, FakeTriton, hang, one_hot, refuse

ENCODER = Encoder(
    name="tiny",
    version=7,
    role="text",
    dimension=DIMENSION,
    max_tokens=32,
    append_eos=None,
    prompts={InputType.QUERY: "", InputType.PASSAGE: ""},
    task_ids={InputType.QUERY: 0, InputType.PASSAGE: 1},
    max_batch_size=64,
    length_buckets=(),
    token_budget=0,
    instances=1,
    names_rows=False,
    folder=Path("1"),
    identity={},
)
WAIT_S = 20.0


@pytest.fixture
def triton() -> FakeTriton:
    return FakeTriton()


@pytest.fixture
async def url(triton: FakeTriton) -> AsyncIterator[str]:
    server = grpc.aio.server()
    add_GRPCInferenceServiceServicer_to_server(triton, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


@pytest.fixture
async def client(url: str) -> AsyncIterator[TritonClient]:
    client = TritonClient(url, concurrency=2)
    yield client
    await client.close()


def row(first_id: int, length: int) -> NDArray[np.int64]:
    return np.full(length, first_id, dtype=np.int64)


async def encode(
    client: TritonClient,
    rows: list[NDArray[np.int64]],
    *,
    encoder: Encoder = ENCODER,
    priority: Priority = Priority.BULK,
    timeout_s: float = WAIT_S,
) -> tuple[NDArray[np.float32], dict[int, BadVector]]:
    return await client.encode(encoder, rows, InputType.PASSAGE, priority=priority, timeout_s=timeout_s)


async def failure(client: TritonClient, **options: Any) -> DuovecError:
    with pytest.raises(DuovecError) as caught:
        await encode(client, [row(1, 2)], **options)
    return caught.value


def replaced(index: int, values: Any) -> Any:
    """An answer like `one_hot`, but for one row."""

    async def answer(call: Call, context: Any) -> NDArray[Any]:
        vectors = await one_hot(call, context)
        vectors[call.ids_BT[:, 0] == index] = values
        return vectors

    return answer


def once_at_once(triton: FakeTriton, in_flight: int) -> Answer:
    """Answer like `one_hot`, once so many requests have been there at the same time, and late enough for more."""
    reached = asyncio.Event()

    async def answer(call: Call, context: Any) -> NDArray[Any]:
        if triton.most_in_flight >= in_flight:
            reached.set()
        await reached.wait()
        await asyncio.sleep(0.002)
        return await one_hot(call, context)

    return answer


async def test_vectors_come_in_the_order_of_the_rows(client: TritonClient, triton: FakeTriton) -> None:
    """Rows of mixed length go in groups by length, and come back where they were."""
    lengths = np.random.default_rng(1).integers(1, 30, size=DIMENSION)
    vectors_BD, errors = await encode(client, [row(index, length) for index, length in enumerate(lengths)])
    np.testing.assert_array_equal(vectors_BD, np.eye(DIMENSION, dtype=np.float32))
    assert errors == {}
    assert [len(call.ids_BT) for call in triton.calls] == [ROWS_PER_REQUEST] * (DIMENSION // ROWS_PER_REQUEST)


async def test_bulk_requests_are_cut_by_what_the_backend_runs_at_a_time(
    client: TritonClient, triton: FakeTriton
) -> None:
    """Whoever waits is next after that many tokens; in larger ones, after all of them."""
    triton.answer = once_at_once(triton, ALONE.in_flight)
    budget = 20
    encoder = replace(ENCODER, token_budget=budget)
    rows = [row(index, 2 + index % 29) for index in range(DIMENSION)]
    vectors_BD, _ = await encode(client, rows, encoder=encoder, priority=Priority.BULK)
    np.testing.assert_array_equal(vectors_BD, np.eye(DIMENSION, dtype=np.float32))
    lengths = [call.mask_BT.sum(axis=1) for call in triton.calls]
    assert sum(map(len, lengths)) == DIMENSION
    # As the backend itself cuts them: all are full but the last.
    assert [len(group_by_length(one, budget)) for one in lengths[:-1]] == [ALONE.budgets] * (len(lengths) - 1)
    assert len(group_by_length(lengths[-1], budget)) <= ALONE.budgets
    assert triton.most_in_flight == ALONE.in_flight


@pytest.mark.parametrize(("instances", "in_flight"), [(1, 2), (2, 2), (4, 4)])
async def test_each_process_of_an_encoder_has_work(
    client: TritonClient, triton: FakeTriton, instances: int, in_flight: int
) -> None:
    triton.answer = once_at_once(triton, in_flight)
    encoder = replace(ENCODER, token_budget=20, instances=instances)
    await encode(client, [row(index, 10) for index in range(DIMENSION)], encoder=encoder, priority=Priority.BULK)
    assert triton.most_in_flight == in_flight


async def test_calls_share_requests_that_are_cut_so_too(client: TritonClient, triton: FakeTriton) -> None:
    """Of 32 callers with two texts each, one short and one long; each by itself would pad the short one."""
    budget = 48
    encoder = replace(ENCODER, token_budget=budget)
    triton.answer = once_at_once(triton, INTERACTIVE.in_flight)

    async def ask(number: int) -> None:
        rows = [row(2 * number, 4), row(2 * number + 1, 24)]
        vectors_BD, _ = await encode(client, rows, encoder=encoder, priority=Priority.INTERACTIVE)
        np.testing.assert_array_equal(vectors_BD.argmax(axis=1), [2 * number, 2 * number + 1])

    await asyncio.gather(*(ask(number) for number in range(32)))
    lengths = [call.mask_BT.sum(axis=1) for call in triton.calls]
    assert sum(map(len, lengths)) == 64
    # The first went as they came.
    assert all(len(set(one)) == 1 for one in lengths[INTERACTIVE.in_flight :])
    assert all(len(group_by_length(one, budget)) <= INTERACTIVE.budgets for one in lengths)
    assert triton.most_in_flight == INTERACTIVE.in_flight


async def test_bulk_requests_are_fewer_and_smaller_while_somebody_asks(
    client: TritonClient, triton: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the next request on, though the rows came before the question."""
    # For as long as the test takes, another question is expected.
    monkeypatch.setattr("gateway.embedding.lane._CALLER_S", 60.0)
    budget = 20
    encoder = replace(ENCODER, token_budget=budget)
    asked: list[tuple[int, int]] = []
    question: asyncio.Task[Any] | None = None
    running = 0

    async def answer(call: Call, context: Any) -> NDArray[Any]:
        nonlocal question, running
        if call.priority == Priority.BULK:
            running += 1
            if question is not None and question.done():
                asked.append((call.ids_BT.size, running))
            elif question is None and len(triton.calls) > 2:
                question = asyncio.create_task(
                    encode(client, [row(1, 2)], encoder=encoder, priority=Priority.INTERACTIVE)
                )
            if question is not None:
                await asyncio.wait([question])
            await asyncio.sleep(0.01)
            running -= 1
        return await one_hot(call, context)

    triton.answer = answer
    vectors_BD, _ = await encode(client, [row(index, 4) for index in range(DIMENSION)], encoder=encoder)
    np.testing.assert_array_equal(vectors_BD, np.eye(DIMENSION, dtype=np.float32))
    # The request that was on its way when the question came may still be counted.
    assert len(asked) > 4
    assert max(size for size, _ in asked[2:]) == BESIDE_CALLERS.budgets * budget
    assert max(at_once for _, at_once in asked[2:]) == BESIDE_CALLERS.in_flight


async def test_a_request_that_triton_sleeps_over_is_woken_by_another(
    client: TritonClient, triton: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is answered when a second one comes, as Triton does it; nobody but the client itself sends one."""
    monkeypatch.setattr("gateway.embedding.triton._PATIENCE_S", 0.1)
    second = asyncio.Event()

    async def answer(call: Call, context: Any) -> NDArray[Any]:
        if call.ids_BT.tolist() == [[0]]:
            second.set()
            await asyncio.Event().wait()  # it is given up
        await second.wait()
        return await one_hot(call, context)

    triton.answer = answer
    recorder = Recorder("request")
    record(recorder)
    vectors_BD, errors = await encode(client, [row(3, 5), row(4, 5)])
    assert (vectors_BD.argmax(axis=1).tolist(), errors) == ([3, 4], {})
    # The other one is still under way, and no part of the call.
    assert recorder.seconds[Stage.INFER] > 0
    woken = triton.calls[1]
    assert (woken.ids_BT.tolist(), woken.priority) == ([[0]], Priority.INTERACTIVE)
    # An alert looks at what failed: what nobody asked for is no failure.
    load = client.loads[ENCODER.name]
    assert (load.failed_count, load.rows.count, load.token_count) == (0, 1, 10)


async def test_after_a_process_was_given_up_no_answer_is_taken(client: TritonClient, triton: FakeTriton) -> None:
    """It may be the vectors of other texts: neither who waits nor who comes gets any, until Triton is started anew."""
    given_up = asyncio.Event()

    async def answer(call: Call, context: Any) -> NDArray[Any]:
        if call.ids_BT[0, 0] == 7:
            given_up.set()
            await context.abort(grpc.StatusCode.INTERNAL, "Stub process 'tiny_0_0' is not healthy.")
        await given_up.wait()
        await asyncio.sleep(0.05)  # behind the other answer
        return await one_hot(call, context)

    triton.answer = answer
    waiting = asyncio.create_task(failure(client, priority=Priority.INTERACTIVE))
    with pytest.raises(TritonUnavailable, match="is not healthy"):
        await encode(client, [row(7, 2)], priority=Priority.INTERACTIVE)
    for error in (await waiting, await failure(client)):
        assert isinstance(error, TritonUnavailable)
        assert "may be the vectors of other texts; restart Triton" in str(error)
    client.lost_count += 1
    vectors_BD, errors = await encode(client, [row(3, 2)])
    assert (vectors_BD.argmax(axis=1).tolist(), errors) == ([3], {})


async def test_the_vectors_of_other_rows_are_not_taken(client: TritonClient, triton: FakeTriton) -> None:
    """Where an answer says whose it is, that decides, each time anew: nothing has to be remembered."""
    encoder = replace(ENCODER, names_rows=True)
    rows = [row(3, 2), row(4, 5)]
    vectors_BD, _ = await encode(client, rows, encoder=encoder)
    assert vectors_BD.argmax(axis=1).tolist() == [3, 4]
    for others in ([row(3, 2), row(5, 5)], [row(4, 5), row(3, 2)], [row(3, 2)]):
        triton.answers_for = others
        with pytest.raises(TritonUnavailable, match="may be the vectors of other texts; restart Triton"):
            await encode(client, rows, encoder=encoder)
        triton.answers_for = None
        assert not (await encode(client, rows, encoder=encoder))[1]


async def test_rows_of_similar_length_share_a_request(client: TritonClient, triton: FakeTriton) -> None:
    """Sixteen short rows are not padded to the length of sixteen long ones."""
    await encode(client, [row(1, 2 if index % 2 else 30) for index in range(32)])
    assert sorted(call.ids_BT.shape for call in triton.calls) == [(16, 2), (16, 30)]


async def test_rows_are_padded_on_the_right(client: TritonClient, triton: FakeTriton) -> None:
    """Zeros stand behind the shorter rows, and the mask says so."""
    await encode(client, [np.array([5, 6, 7]), np.array([8]), np.array([9, 10])])
    (call,) = triton.calls
    assert call.ids_BT.tolist() == [[8, 0, 0], [9, 10, 0], [5, 6, 7]]
    assert call.mask_BT.tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]


async def test_a_backend_that_merges_equal_shapes_gets_buckets(client: TritonClient, triton: FakeTriton) -> None:
    """Rows are padded to the next bucket, in requests of at most the model's batch."""
    encoder = replace(ENCODER, length_buckets=(4, 8, 32), max_batch_size=2)
    lengths = [3, 4, 5, 8, 9, 32]
    vectors, _ = await encode(client, [row(index, length) for index, length in enumerate(lengths)], encoder=encoder)
    assert sorted(call.ids_BT.shape for call in triton.calls) == [(2, 4), (2, 8), (2, 32)]
    assert sorted(call.mask_BT.sum(axis=1).tolist() for call in triton.calls) == [[3, 4], [5, 8], [9, 32]]
    assert vectors.argmax(axis=1).tolist() == list(range(6))


async def test_the_version_is_pinned(client: TritonClient, triton: FakeTriton) -> None:
    """A version that Triton loads later is not asked by accident."""
    await encode(client, [row(1, 2)])
    assert [(call.model, call.version) for call in triton.calls] == [("tiny", "7")]


@pytest.mark.parametrize(("input_type", "task_id"), [(InputType.QUERY, 0), (InputType.PASSAGE, 1)])
async def test_the_task_is_sent_for_every_row(
    client: TritonClient, triton: FakeTriton, input_type: InputType, task_id: int
) -> None:
    """The task id chooses the adapter, one number a row."""
    await client.encode(ENCODER, [row(1, 2), row(2, 2)], input_type, priority=Priority.BULK, timeout_s=WAIT_S)
    assert triton.calls[0].task_id_B1 is not None
    assert triton.calls[0].task_id_B1.tolist() == [[task_id], [task_id]]


async def test_an_encoder_without_adapters_gets_no_task(client: TritonClient, triton: FakeTriton) -> None:
    """Its graph has no such input."""
    await encode(client, [row(1, 2)], encoder=replace(ENCODER, task_ids={}))
    assert triton.calls[0].task_id_B1 is None


async def test_no_rows_are_no_request(client: TritonClient, triton: FakeTriton) -> None:
    """Nothing in, nothing asked, nothing out."""
    vectors_BD, errors = await encode(client, [])
    assert (vectors_BD.shape, errors, triton.calls) == ((0, DIMENSION), {}, [])


async def test_requests_in_flight_have_a_limit(client: TritonClient, triton: FakeTriton) -> None:
    """Two at once were allowed, over several calls together."""
    reached = asyncio.Event()

    async def answer(call: Call, context: Any) -> NDArray[Any]:
        if triton.most_in_flight == 2:
            reached.set()
        await reached.wait()
        await asyncio.sleep(0.02)  # a third one would come meanwhile
        return await one_hot(call, context)

    triton.answer = answer
    await asyncio.gather(*(encode(client, [row(1, 2)] * 48) for _ in range(3)))
    assert len(triton.calls) == 9
    assert triton.most_in_flight == 2


async def test_a_query_does_not_wait_for_the_slots_of_bulk_work(client: TritonClient, triton: FakeTriton) -> None:
    """All slots are taken by bulk requests that nobody answers yet; the query is answered, at its own priority."""
    released = asyncio.Event()

    async def answer(call: Call, context: Any) -> NDArray[Any]:
        if call.priority == Priority.BULK:
            await released.wait()
        return await one_hot(call, context)

    triton.answer = answer
    bulk = asyncio.create_task(encode(client, [row(1, 2)] * 64))
    while triton.most_in_flight < 2:
        await asyncio.sleep(0.001)
    await client.encode(ENCODER, [row(5, 2)], InputType.QUERY, priority=Priority.INTERACTIVE, timeout_s=WAIT_S)
    assert triton.calls[-1].priority == Priority.INTERACTIVE
    released.set()
    await bulk
    assert [call.priority for call in triton.calls].count(Priority.BULK) == 4


@pytest.mark.parametrize(
    ("values", "norm"), [(np.nan, "nan"), (np.inf, "inf"), (3e38, "inf"), (0.0, "0.0"), (0.25, "2.0")]
)
async def test_a_bad_row_spoils_only_itself(client: TritonClient, triton: FakeTriton, values: float, norm: str) -> None:
    """A row that is no unit vector is named, and its neighbours are good."""
    triton.answer = replaced(3, values)
    vectors_BD, errors = await encode(client, [row(index, 2) for index in range(20)])
    assert list(errors) == [3]
    assert str(errors[3]) == f"encoder tiny version 7 answered a vector of norm {norm}"
    good = [index for index in range(20) if index != 3]
    np.testing.assert_array_equal(vectors_BD[good], np.eye(DIMENSION, dtype=np.float32)[good])


async def test_a_single_nan_spoils_its_row(client: TritonClient, triton: FakeTriton) -> None:
    """One number of many is enough."""
    values = np.zeros(DIMENSION)
    values[[0, 9]] = 1.0, np.nan
    triton.answer = replaced(0, values)
    _, errors = await encode(client, [row(0, 2), row(1, 2)])
    assert list(errors) == [0]


@pytest.mark.parametrize(
    ("vectors", "found"),
    [
        (np.zeros((1, DIMENSION - 1), dtype=np.float32), f"float32 (1, {DIMENSION - 1})"),
        (np.zeros((2, DIMENSION), dtype=np.float32), f"float32 (2, {DIMENSION})"),
        (np.zeros((1, DIMENSION), dtype=np.float16), f"float16 (1, {DIMENSION})"),
        (np.zeros((1, DIMENSION), dtype=np.int64), f"int64 (1, {DIMENSION})"),
    ],
)
async def test_an_answer_of_another_shape_or_type_is_refused(
    client: TritonClient, triton: FakeTriton, vectors: NDArray[Any], found: str
) -> None:
    """The message has what came and what was due."""

    async def answer(call: Call, context: Any) -> NDArray[Any]:
        return vectors

    triton.answer = answer
    error = await failure(client)
    assert type(error) is BadVector
    assert str(error) == f"encoder tiny version 7 answered {found} for float32 (1, {DIMENSION})"


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, "Request for unavailable model", TritonUnavailable),
        (grpc.StatusCode.NOT_FOUND, "Request for unknown version", TritonUnavailable),
        (grpc.StatusCode.CANCELLED, "shutting down", TritonUnavailable),
        (grpc.StatusCode.INVALID_ARGUMENT, "Request for unknown model: 'tiny' is not found", TritonUnavailable),
        (grpc.StatusCode.UNAVAILABLE, "Request for model 'tiny': exceeds maximum queue size", Overloaded),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", DeadlineExceeded),
        (grpc.StatusCode.INTERNAL, "Stub process 'tiny_0_0' is not healthy.", TritonUnavailable),
        (grpc.StatusCode.INTERNAL, "Failed to obtain the health mutex.", TritonUnavailable),
        (grpc.StatusCode.INTERNAL, "onnx runtime error", BackendFault),
        (grpc.StatusCode.INVALID_ARGUMENT, "unexpected shape", BackendFault),
    ],
)
async def test_a_refusal_is_translated(
    client: TritonClient, triton: FakeTriton, code: grpc.StatusCode, text: str, kind: type[DuovecError]
) -> None:
    """Down, full, late and broken are four errors, each with the encoder's name."""
    triton.answer = refuse(code, text)
    error = await failure(client)
    assert type(error) is kind
    assert "encoder tiny version 7 at 127.0.0.1:" in str(error)


async def test_a_full_queue_says_when_to_retry(
    client: TritonClient, triton: FakeTriton, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton is up: the caller comes back in a second, or when what was asked for is done, once a rate is known."""
    triton.answer = refuse(grpc.StatusCode.UNAVAILABLE, "[request id: 1] Exceeds maximum queue size")
    error = await failure(client)
    assert isinstance(error, Overloaded)
    assert error.retry_after_s == 1.0
    assert str(error) == f"the queue of encoder tiny version 7 at {url} is full"
    for tokens_per_s, delay_s in ((1.0, 4.0), (1e6, 0.1), (1e-3, 30.0)):
        monkeypatch.setattr(type(client.meter), "tokens_per_s", tokens_per_s)
        error = await failure(client)
        assert isinstance(error, Overloaded)
        # Two tokens, of half the rate of both encoders.
        assert error.retry_after_s == delay_s


async def test_a_port_that_nobody_serves_is_unavailable() -> None:
    """Nothing listens on port 1."""
    client = TritonClient("127.0.0.1:1", concurrency=1)
    async with asyncio.timeout(WAIT_S):
        assert type(await failure(client)) is TritonUnavailable
    await client.close()


async def test_a_server_that_hangs_costs_no_more_than_the_budget(client: TritonClient, triton: FakeTriton) -> None:
    """The call ends long before the test would give up."""
    triton.answer = hang
    async with asyncio.timeout(WAIT_S):
        error = await failure(client, timeout_s=0.2)
    assert type(error) is DeadlineExceeded


async def test_the_budget_is_that_of_the_whole_call(client: TritonClient, triton: FakeTriton) -> None:
    """Ten groups of 0.3 s in two slots do not fit 0.6 s, though each alone does."""

    async def slow(call: Call, context: Any) -> NDArray[Any]:
        await asyncio.sleep(0.3)
        return await one_hot(call, context)

    triton.answer = slow
    with pytest.raises(DeadlineExceeded):
        await encode(client, [row(1, 2)] * 160, timeout_s=0.6)
    assert len(triton.calls) < 10


async def test_slots_are_free_again_after_a_failure(triton: FakeTriton, url: str) -> None:
    """What is never answered holds its slot until the request's own time is over, and no longer."""
    client = TritonClient(url, concurrency=2, request_timeout_s=1.0)
    triton.answer = hang
    for _ in range(3):
        await failure(client, timeout_s=0.05)
    triton.answer = one_hot
    async with asyncio.timeout(WAIT_S):
        vectors_BD, _ = await encode(client, [row(1, 2)])
    assert vectors_BD.argmax() == 1
    await client.close()


@pytest.mark.parametrize("token_budget", [0, 64])
@pytest.mark.parametrize("ending", ["cancelled", "expired"])
async def test_a_request_that_triton_has_is_never_taken_back(
    client: TritonClient, triton: FakeTriton, ending: str, token_budget: int
) -> None:
    """Triton before 25.04 can crash of a cancellation; a deadline that passes is one, too."""
    begun, released, answered = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def answer(call: Call, context: Any) -> NDArray[Any]:
        begun.set()
        await released.wait()
        answered.set()
        return await one_hot(call, context)

    triton.answer = answer
    timeout_s = 1.0 if ending == "expired" else WAIT_S
    encoder = replace(ENCODER, token_budget=token_budget)
    asked = asyncio.create_task(encode(client, [row(1, 2)], encoder=encoder, timeout_s=timeout_s))
    await begun.wait()
    if ending == "cancelled":
        asked.cancel()
    with pytest.raises((asyncio.CancelledError, DeadlineExceeded)):
        await asked
    await asyncio.sleep(0.2)  # a cancellation would have arrived
    released.set()
    async with asyncio.timeout(WAIT_S):
        await answered.wait()
        while client._requests:
            await asyncio.sleep(0.001)
    assert client.loads["tiny"].failed_count == 0


async def test_a_served_version_is_ready(client: TritonClient, triton: FakeTriton) -> None:
    """The very version is asked for."""
    await client.check_ready(ENCODER, timeout_s=WAIT_S)
    assert triton.ready_calls == [("tiny", "7")]


async def test_a_version_that_is_not_served_is_unavailable(client: TritonClient, triton: FakeTriton, url: str) -> None:
    """The message has the server, the encoder and the version."""
    triton.ready = False
    with pytest.raises(TritonUnavailable) as caught:
        await client.check_ready(ENCODER, timeout_s=WAIT_S)
    assert str(caught.value) == f"Triton at {url} does not serve tiny version 7"
