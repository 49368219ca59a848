"""What a version runs before it counts as loaded: one row or batch of every length bucket.

Triton's `model_warmup` serves the native backends. The Python backend's host warms itself up while it loads, because
an error there is a clean refusal: measured on Triton 2.51 with an older version serving, 30 of 30 failures in
`initialize` left it serving, and 3 of 14 failures in `model_warmup` killed the server.
"""

from pathlib import Path

import numpy as np
from tritonclient.grpc.model_config_pb2 import TYPE_INT64, ModelConfig, ModelWarmup

from export.deployment import Deployment
from export.disk import replace_bytes, writing
from export.serving import LENGTH_BUCKETS

# A CPU spends seconds on a longer row of the full pair, and warms nothing by it that a shorter one does not.
_LONGEST_ON_CPU = 512


def warmup_lengths(deployment: Deployment) -> tuple[int, ...]:
    """Row lengths that are run before a version counts as loaded, longest first.

    The longest first, because a memory arena that has held it has room for all others.
    """
    lengths = deployment.length_buckets or tuple(x for x in LENGTH_BUCKETS if x <= deployment.max_tokens)
    if not deployment.runtime.needs_gpu:
        lengths = tuple(length for length in lengths if length <= _LONGEST_ON_CPU)
    return tuple(reversed(lengths)) or (deployment.max_tokens,)


def add_warmup(config: ModelConfig, deployment: Deployment) -> None:
    """Add one `model_warmup` a length bucket; on GPU of full batches, on CPU of one row.

    The rows are padding ids under a mask of ones. A mask of zeros would have last-token pooling gather from before the
    row, and mean pooling divide nothing by nothing: no error on some runtimes, undefined on others. Triton itself makes
    zeros or noise only, and a noisy id lies outside the vocabulary, so the ones come from a file.
    """
    for length in warmup_lengths(deployment):
        warmup = config.model_warmup.add(name=f"length {length}")
        warmup.batch_size = deployment.max_batch_size if deployment.runtime.needs_gpu else 1
        for name in deployment.input_names:
            row = ModelWarmup.Input(data_type=TYPE_INT64, dims=[1 if name == "task_id" else length], zero_data=True)
            if name == "attention_mask":
                row.input_data_file = _mask_file(deployment)  # replaces zero_data: they are a oneof
            warmup.inputs[name].CopyFrom(row)


def _mask_file(deployment: Deployment) -> str:
    return f"ones_{warmup_lengths(deployment)[0]}"


def write_warmup_data(encoder_folder: Path, deployment: Deployment) -> None:
    """Write what a config.pbtxt warms up with, into `warmup/`; do it before config.pbtxt is written.

    The file holds int64 ones, as many as the longest warm-up row has tokens; shorter rows take its beginning. The
    Python backend needs none.

    Args:
        encoder_folder: `DIR/<encoder>`, which holds config.pbtxt.
        deployment: Of the served version.

    Raises:
        ExportError: The disk refuses.
    """
    if deployment.runtime.backend == "python":
        return
    path = encoder_folder / "warmup" / _mask_file(deployment)
    data = np.ones(warmup_lengths(deployment)[0], dtype="<i8").tobytes()
    with writing(path):
        if not path.is_file() or path.read_bytes() != data:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_bytes(path, data)
