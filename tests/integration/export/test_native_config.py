"""A native backend's configuration under the real Triton.

The server at hand has the Python backend alone, so a Python model takes the native one's place behind the generated
configuration: what Triton's core makes of it (warm-up, priorities, versions) is real, what the backend would do is not.
"""

import json
from pathlib import Path

import numpy as np
from tritonclient.grpc.aio import InferenceServerClient, InferInput
from tritonclient.grpc.model_config_pb2 import ModelInstanceGroup

from export.deployment import Deployment
from export.serving import Runtime
from export.triton_config import build_config, format_config
from export.warmup import write_warmup_data
from gateway.local.triton import Triton

# On a GPU runtime warm-up makes full batches; the kind of instance is the only thing changed for a machine without.
DEPLOYED = Deployment("tiny", Runtime.ONNXRUNTIME_CUDA, 4, True, 48, 1, 4, (16, 32, 48), names_rows=False)
MODEL = """
import json
import os
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.path = os.path.join(args["model_repository"], args["model_version"], "seen")
        self.version = float(args["model_version"])

    def execute(self, requests):
        seen, responses = [], []
        for request in requests:
            names = ("input_ids", "attention_mask", "task_id")
            ids, mask, task = (pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in names)
            seen.append([ids.shape, str(mask.dtype), int(mask.min()), int(mask.max()), int(ids.max()), task.shape])
            vectors = np.full((len(ids), 4), self.version, np.float32)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("sentence_embedding", vectors)]))
        with open(self.path, "a") as file:
            file.write(json.dumps(seen) + "\\n")
        return responses
"""


async def test_warm_up_runs_full_batches_of_real_rows_longest_first(tmp_path: Path) -> None:
    """Rows of padding ids under a mask of ones, in every bucket, for every loaded version; then requests are served."""
    folder = tmp_path / "models" / "tiny"
    for version in ("1", "2"):
        (folder / version).mkdir(parents=True)
        (folder / version / "model.py").write_text(MODEL)
    config = build_config(DEPLOYED, served_version=2, loaded_versions=[1, 2])
    config.backend, config.platform = "python", ""
    config.instance_group[0].kind = ModelInstanceGroup.KIND_CPU
    config.optimization.Clear()
    (folder / "config.pbtxt").write_text(format_config(config))
    write_warmup_data(folder, DEPLOYED)
    server = Triton(folder.parent, ["tiny"], work_dir=tmp_path / "triton", log_path=tmp_path / "triton.log")
    await server.start()
    try:
        warmed = [(folder / version / "seen").read_text().splitlines() for version in ("1", "2")]
        async with InferenceServerClient(server.url) as client:
            stated = (await client.get_model_config("tiny")).config
            vectors = [await _infer(client, version, priority) for version in ("1", "2") for priority in (0, 1, 2)]
    finally:
        await server.stop(grace_s=1)
    for lines in warmed:
        # One execution a bucket, of four requests of one row each.
        row = ["int64", 1, 1, 0, [1, 1]]
        assert [json.loads(line) for line in lines] == [[[[1, length], *row]] * 4 for length in (48, 32, 16)]
    assert vectors == [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]
    assert stated.parameters["served_version"].string_value == "2"
    assert stated.dynamic_batching.priority_queue_policy[1].default_timeout_microseconds == 5_000_000


async def _infer(client: InferenceServerClient, version: str, priority: int) -> float:
    inputs = []
    for name, length in (("input_ids", 16), ("attention_mask", 16), ("task_id", 1)):
        tensor = InferInput(name, [2, length], "INT64")
        tensor.set_data_from_numpy(np.ones((2, length), dtype=np.int64))
        inputs.append(tensor)
    reply = await client.infer("tiny", inputs, model_version=version, priority=priority)
    return float(reply.as_numpy("sentence_embedding")[0, 0])
