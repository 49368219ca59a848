"""What Triton is told about a version: planned from the spec, read back from the manifest, compared for a rollback."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from deployments import SMALL, deployed

from export.deployment import LARGEST_SCORES, batch_limit, buckets_up_to, deployment_of
from export.errors import ExportError
from export.serving import Runtime


def test_the_last_bucket_is_the_longest_row() -> None:
    """No padding beyond what the encoder takes."""
    assert buckets_up_to(512) == (16, 32, 64, 128, 256, 512)
    assert buckets_up_to(500) == (16, 32, 64, 128, 256, 500)
    assert buckets_up_to(10) == (10,)
    assert buckets_up_to(32768)[-2:] == (8192, 32768)


def test_the_batch_limit_falls_with_the_square_of_the_length() -> None:
    """Attention's scores of the longest batch stay within one card."""
    assert [batch_limit(length) for length in (512, 2048, 4096, 8192, 32768)] == [64, 64, 16, 4, 1]
    for length in (100, 3000, 9000):
        limit = batch_limit(length)
        assert limit * length**2 <= LARGEST_SCORES
        assert limit == 64 or 2 * limit * length**2 > LARGEST_SCORES


def test_the_python_backend_takes_rows_as_they_are() -> None:
    """It undoes padding, and makes micro-batches of its own."""
    hosted = deployed("compact-text", Runtime.OPENVINO, num_threads=3)
    assert (hosted.length_buckets, hosted.max_batch_size, hosted.num_threads) == ((), 64, 3)
    assert hosted.as_manifest() == {
        "backend": "python",
        "num_threads": 3,
        "max_batch_size": 64,
        "length_buckets": [],
        "names_rows": True,
    }


@pytest.mark.parametrize(
    ("change", "follows"),
    [
        ({}, True),
        ({"num_threads": 9}, True),
        ({"runtime": Runtime.ONNXRUNTIME_CUDA}, False),
        ({"max_batch_size": 4}, False),
        ({"length_buckets": (16, 48)}, False),
        ({"takes_task": False}, False),
        ({"dimension": 512}, False),
        ({"names_rows": True}, True),
    ],
)
def test_an_older_version_stays_loaded_only_where_the_config_fits_both(change: dict[str, Any], follows: bool) -> None:
    """One config.pbtxt rules all loaded versions: another profile list would break the old engine."""
    assert SMALL.can_follow(dataclasses.replace(SMALL, **change)) is follows


def test_hosted_runtimes_follow_each_other() -> None:
    """The host reads its runtime from its own version folder."""
    assert deployed("compact-text", Runtime.OPENVINO).can_follow(deployed("compact-text", Runtime.ONNXRUNTIME))


def manifest_of(**changes: Any) -> dict[str, Any]:
    """A manifest of `SMALL`, with some keys of `serving` changed, or removed by None."""
    serving = {**SMALL.as_manifest(), **changes}
    return {
        "encoder": "tiny",
        "runtime": "tensorrt",
        "dimension": 1024,
        "spec": {"tasks": ["query", "passage"], "max_tokens": 48},
        "serving": {key: value for key, value in serving.items() if value is not None},
    }


def test_a_manifest_gives_the_deployment_back() -> None:
    """Exactly: a rollback writes what was published."""
    assert deployment_of(manifest_of(), Path("manifest.json")) == SMALL


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"max_batch_size": None},
            r"m/manifest\.json does not say how its version is served \(KeyError\('max_batch_size'",
        ),
        ({"num_threads": "two"}, "does not say how its version is served"),
        ({"length_buckets": [16, 32]}, r"length_buckets must ascend to max_tokens \(48\), not \[16, 32\]"),
        ({"length_buckets": [32, 16, 48]}, r"not \[32, 16, 48\]; publish the encoder again"),
        ({"length_buckets": []}, r"not \[\]"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(changes: dict[str, Any], message: str) -> None:
    """Before a config.pbtxt is written that Triton would not load."""
    with pytest.raises(ExportError, match=message):
        deployment_of(manifest_of(**changes), Path("m/manifest.json"))
