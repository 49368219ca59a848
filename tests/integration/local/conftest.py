"""A tiny model repository for the real Triton, and data directories."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from open_folder import open_folder

CONFIG = """
name: "%s"
backend: "python"
max_batch_size: 8
input [{ name: "x" data_type: TYPE_FP32 dims: [-1] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [-1] }]
instance_group [{ count: 1 kind: KIND_CPU }]
"""
DOUBLER = """
import onnxruntime  # only this environment has it: proves whose packages the model sees
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        inputs = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", x * 2)]) for x in inputs]
"""
NAMED_CONFIG = """
name: "%s"
backend: "python"
max_batch_size: 8
input [{ name: "input_ids" data_type: TYPE_INT64 dims: [-1] }]
input [{ name: "attention_mask" data_type: TYPE_INT64 dims: [-1] }]
output [{ name: "row_digest" data_type: TYPE_INT64 dims: [1] }]
instance_group [{ count: 1 kind: KIND_CPU }]
"""
# Says of which rows its answers are, as the encoders do; `late` of those before.
NAMED = """
import time
import zlib

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.is_late, self.before = args["model_name"] == "late", 0

    def execute(self, requests):
        return [self.answer(pb_utils.get_input_tensor_by_name(request, "input_ids").as_numpy()) for request in requests]

    def answer(self, ids):
        if 7777 in ids:
            time.sleep(0.5)
        before, self.before = self.before, zlib.crc32(ids[0].tobytes())
        digest = np.array([[before if self.is_late else self.before]], dtype=np.int64)
        return pb_utils.InferenceResponse([pb_utils.Tensor("row_digest", digest)])
"""
BROKEN = "import no_such_package\n"


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the models `doubler`, `named`, `late`, and `broken`, which does not load."""
    repository = tmp_path_factory.mktemp("tiny-models")
    for name, code in {"doubler": DOUBLER, "broken": BROKEN, "named": NAMED, "late": NAMED}.items():
        (repository / name / "1").mkdir(parents=True)
        (repository / name / "config.pbtxt").write_text((NAMED_CONFIG if code is NAMED else CONFIG) % name)
        (repository / name / "1" / "model.py").write_text(code)
    return repository


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A data directory that the account of PostgreSQL may enter, which pytest's own (mode 0700) are not."""
    with open_folder("duovec-up-") as root:
        yield root
