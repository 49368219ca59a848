"""Publishing and rolling back on the real Triton, while requests to the old version go on."""

import asyncio
from pathlib import Path

import pytest
from small_encoder import CANARY_IDS, build_small, entries, vector_of
from triton_caller import ENCODER, calling

from export.errors import ExportError
from export.publish import Served, publish_candidate, roll_back, unload
from export.repository import EncoderFolder, ServingState
from export.smoke import SmokeFailure
from export.triton_control import TritonControl, TritonRefused, TritonUnreachable
from gateway.local.triton import Triton


async def publish(folder: EncoderFolder, triton: Triton) -> Served:
    """Publish in a thread, as the command does in its process."""

    def run() -> Served:
        with TritonControl(triton.url) as control:
            return publish_candidate(folder, control)

    return await asyncio.to_thread(run)


def ready(triton: Triton, *versions: int) -> list[bool]:
    """Which versions Triton would answer for."""
    with TritonControl(triton.url) as control:
        return [control.ready(ENCODER, version) for version in versions]


async def test_no_request_fails_while_a_version_is_published_and_rolled_back(
    folder: EncoderFolder, triton: Triton
) -> None:
    """Version 1 answers throughout, and stays loaded for gateways whose space is pinned to it."""
    build_small(folder, seed=2)
    async with calling(triton, 1, seed=1) as old:
        served = await publish(folder, triton)
        assert (served.version.number, served.loaded, served.smoke) == (2, (1, 2), "triton")
        assert folder.state() == ServingState(served=2, loaded=(1, 2), newest=2)
        async with calling(triton, 2, seed=2) as new:
            with TritonControl(triton.url) as control:
                back = await asyncio.to_thread(roll_back, folder, control)
    assert (back.version.number, back.loaded) == (1, (1, 2))
    assert folder.state() == ServingState(served=1, loaded=(1, 2), newest=2)
    # How many answers there were is the machine's speed; `calling` sees to the first and the last.
    assert old.failures == [] and new.failures == []


async def test_the_third_version_lets_go_of_none(folder: EncoderFolder, triton: Triton) -> None:
    """The vectors that are searched may be of the first still; none of them ever stops answering."""
    build_small(folder, seed=2)
    await publish(folder, triton)
    build_small(folder, seed=3)
    async with calling(triton, 1, seed=1) as first, calling(triton, 2, seed=2) as second:
        served = await publish(folder, triton)
    assert served.loaded == (1, 2, 3)
    assert first.failures == second.failures == []
    assert ready(triton, 1, 2, 3) == [True, True, True]
    assert [version.number for version in folder.versions()] == [1, 2, 3]


@pytest.mark.parametrize(
    ("fault", "error", "message", "kept"),
    [
        ({"canary_seed": 9}, SmokeFailure, r"version 2 gives another vector than the gate saw: cosine -?0\.", False),
        (
            {"host": "raise HostError('no such kernel')\n"},
            TritonRefused,
            "cannot load small-code.*no such kernel",
            True,
        ),
        ({"seed": None}, TritonRefused, "values that are not finite for a row of 64 tokens", True),
    ],
)
async def test_a_version_that_fails_leaves_the_old_one_serving(
    folder: EncoderFolder, triton: Triton, fault: dict[str, object], error: type[ExportError], message: str, kept: bool
) -> None:
    """No failed request, the folder of version 2 is gone, and Triton is as it was."""
    build_small(folder, **{"seed": 2, **fault})  # type: ignore[arg-type]
    before = folder.config_path.read_bytes()
    async with calling(triton, 1, seed=1) as caller:
        with pytest.raises(error, match=message):
            await publish(folder, triton)
    assert caller.failures == [] and caller.answers > 10
    assert folder.config_path.read_bytes() == before
    assert entries(folder) == ([".candidate"] if kept else []) + ["1", "config.pbtxt"]
    assert ready(triton, 1, 2) == [True, False]
    # The number was never published, and the next version takes it.
    build_small(folder, seed=4)
    assert (await publish(folder, triton)).version.number == 2


async def test_a_first_version_that_fails_leaves_nothing(folder: EncoderFolder, triton: Triton) -> None:
    """There is no old configuration to go back to: the model is unloaded."""
    other = EncoderFolder(folder.path.parent, "other-code")
    build_small(other, seed=2, canary_seed=3)
    with pytest.raises(SmokeFailure):
        await publish(other, triton)
    assert entries(other) == []
    with TritonControl(triton.url) as control:
        assert not control.ready("other-code", 1)
    build_small(other, seed=2)
    served = await publish(other, triton)
    assert (served.version.number, served.loaded) == (1, (1,))


async def test_a_full_disk_at_the_last_step_leaves_the_old_version_serving(
    folder: EncoderFolder, triton: Triton
) -> None:
    """config.pbtxt cannot be replaced: Triton, which had loaded version 2 already, is told to go back."""
    build_small(folder, seed=2)
    blocker = folder.path / ".config.pbtxt.new"
    blocker.mkdir()  # a folder where the new file would be written: the disk refuses
    (blocker / "full").touch()
    async with calling(triton, 1, seed=1) as caller:
        with pytest.raises(ExportError, match="cannot write .*config.pbtxt.new"):
            await publish(folder, triton)
    assert caller.failures == []
    assert folder.state() == ServingState(served=1, loaded=(1,), newest=1)
    assert ready(triton, 1, 2) == [True, False]


async def test_a_damaged_old_version_does_not_stand_in_the_way(folder: EncoderFolder, triton: Triton) -> None:
    """It runs from memory and could not be loaded again: its successor is published without it."""
    (folder.path / "1" / "model.onnx").write_bytes(b"damaged since it was published")
    build_small(folder, seed=2)
    served = await publish(folder, triton)
    assert (served.version.number, served.loaded) == (2, (2,))
    assert ready(triton, 1, 2) == [False, True]


async def test_an_old_version_that_no_longer_loads_does_not_stand_in_the_way(
    folder: EncoderFolder, triton: Triton
) -> None:
    """Its files are whole, and still it does not load: the second attempt leaves it out."""
    manifest = folder.path / "1" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"precision": "fp32"', '"precision": "bf16"'))
    build_small(folder, seed=2)
    served = await publish(folder, triton)
    assert (served.version.number, served.loaded) == (2, (2,))


async def test_a_candidate_survives_a_triton_that_is_away(folder: EncoderFolder, triton: Triton) -> None:
    """It says nothing about the model; the same candidate is published once Triton is back."""
    build_small(folder, seed=2)
    await triton.stop(grace_s=0)
    with pytest.raises(TritonUnreachable, match=rf"Triton at {triton.url} did not .*; check --triton-url"):
        await publish(folder, triton)
    assert entries(folder) == [".candidate", "1", "config.pbtxt"]
    await triton.start()
    assert (await publish(folder, triton)).version.number == 2


async def test_a_deadline_is_named_and_the_next_attempt_succeeds(folder: EncoderFolder, triton: Triton) -> None:
    """A version that loads for longer than allowed: Triton finishes loading it, and lets it go again."""
    build_small(folder, seed=2, host="import time\ntime.sleep(1.5)\n")

    def impatient() -> None:
        with TritonControl(triton.url, load_timeout_s=0.3) as control:
            publish_candidate(folder, control)

    async with calling(triton, 1, seed=1) as caller:
        with pytest.raises(TritonUnreachable, match=r"did not load small-code within 0\.3 s"):
            await asyncio.to_thread(impatient)
        assert (await publish(folder, triton)).loaded == (1, 2)
    assert caller.failures == []


@pytest.mark.parametrize(
    ("published", "message"),
    [
        (1, "its version 2 is not ready: does it serve this repository?"),
        (2, "its version 3 is not ready: does it serve this repository?"),
    ],
)
async def test_a_triton_of_another_repository_is_noticed(
    folder: EncoderFolder, triton: Triton, tmp_path: Path, published: int, message: str
) -> None:
    """Triton passes over a version that it does not see, and calls that a success if it sees another one."""
    elsewhere = EncoderFolder(tmp_path / "elsewhere", ENCODER)
    for seed in range(published):
        build_small(elsewhere, seed=seed)
        publish_candidate(elsewhere, None)
    build_small(elsewhere, seed=3)
    before = elsewhere.config_path.read_bytes()
    with pytest.raises(ExportError, match=message):
        await publish(elsewhere, triton)
    assert elsewhere.config_path.read_bytes() == before
    assert entries(elsewhere) == [".candidate", *map(str, range(1, published + 1)), "config.pbtxt"]


async def test_a_version_is_unloaded_when_asked(folder: EncoderFolder, triton: Triton) -> None:
    """What prune does before it removes a version that Triton keeps loaded."""
    build_small(folder, seed=2)
    await publish(folder, triton)
    async with calling(triton, 2, seed=2) as caller:
        with TritonControl(triton.url) as control:
            await asyncio.to_thread(unload, folder, [1], control)
    assert caller.failures == []
    assert folder.state() == ServingState(served=2, loaded=(2,), newest=2)
    assert ready(triton, 1, 2) == [False, True]


async def test_triton_reads_the_disk_when_it_starts_again(folder: EncoderFolder, triton: Triton) -> None:
    """What was committed is what a restarted Triton serves."""
    build_small(folder, seed=2)
    await publish(folder, triton)
    await triton.stop(grace_s=0)
    await triton.start()
    with TritonControl(triton.url) as control:
        vector = control.infer(ENCODER, 2, CANARY_IDS, None)
    assert float(vector @ vector_of(2, CANARY_IDS)) == pytest.approx(1.0, abs=1e-6)
    assert ready(triton, 1, 2) == [True, True]
