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
BROKEN = "import no_such_package\n"


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the models `doubler`, and `broken`, which does not load."""
    repository = tmp_path_factory.mktemp("tiny-models")
    for name, code in {"doubler": DOUBLER, "broken": BROKEN}.items():
        (repository / name / "1").mkdir(parents=True)
        (repository / name / "config.pbtxt").write_text(CONFIG % name)
        (repository / name / "1" / "model.py").write_text(code)
    return repository


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A data directory that the account of PostgreSQL may enter, which pytest's own (mode 0700) are not."""
    with open_folder("duovec-up-") as root:
        yield root
