"""Runs whose learning rate is far too high: the encoder forgets what it knew, and the run says so and stops."""

import json
import math
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest
from mined_data import write_data
from small_recipe import write_base, write_recipe

from training.errors import TrainingError
from training.run import RunRequest, train

_CHANCE = math.log(8)  # of batches of 8


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each query is its own passage: the small random encoder finds it before it has learned anything."""
    data = write_data(tmp_path_factory.mktemp("mined"), limit=120)
    rows = [{**row, "positive": row["query"]} for row in parquet.read_table(data / "train.parquet").to_pylist()]
    parquet.write_table(pyarrow.Table.from_pylist(rows), data / "train.parquet")
    return data


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without the random adapters, which would turn a query and its passage apart."""
    base = write_base(tmp_path_factory.mktemp("base"))
    (base / "adapters.safetensors").unlink()
    return base


def _request(folder: Path, data: Path, base: Path, extra: str) -> RunRequest:
    recipe = write_recipe(folder, extra=extra, learning_rate=0.3, warmup=0.5, max_steps=50, epochs=8)
    recipe.write_text(recipe.read_text().replace("[data]", "[loss]\ntemperature = 0.02\n[data]"))
    return RunRequest(recipe, data, folder / "run", base, "cpu")


def _losses(output: Path) -> list[float]:
    lines = (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["loss"] for line in lines]


def test_a_run_that_diverges_is_stopped_at_once(data: Path, base: Path, tmp_path: Path) -> None:
    """At its first loss above chance, of a batch that was not learned from; the message names its rows."""
    request = _request(tmp_path, data, base, "divergence = 2")
    told = r"step \d+: the loss .* is above 2\.079, the larger of 2 times its start and chance; .*\.py:\d+-\d+"
    with pytest.raises(TrainingError, match=told):
        train(request)
    losses = _losses(request.output)
    assert 4 < len(losses) < 20
    assert np.mean(losses[:3]) < 0.3 * _CHANCE
    assert max(losses) <= _CHANCE
    assert not (request.output / "result").exists()


def test_an_encoder_that_collapses_stops_the_run(data: Path, base: Path, tmp_path: Path) -> None:
    """It gives every text one vector, whose loss passes no limit; taken up, the run still knows its start."""
    request = _request(tmp_path, data, base, "divergence = 1000")
    told = r"step \d+: the encoder has collapsed: .* one vector, 2\.079, after 0\.\d+\. Lower optimizer\.learning_rate"
    for _ in range(2):
        with pytest.raises(TrainingError, match=told) as stopped:
            train(request)
        losses = _losses(request.output)
        assert stopped.match(f"step {len(losses)}: ")
        assert len(losses) < 40
        assert min(losses[-20:]) > 0.95 * _CHANCE > losses[-21]
        assert not (request.output / "result").exists()
