"""What is taken from an answer of Triton's is what it says, by its name; what it does not have is nothing."""

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from gateway.embedding.tensors import DIGEST, OUTPUT, output

VECTORS = np.arange(6, dtype=np.float32).reshape(2, 3)
DIGESTS = np.array([[7], [-8]], dtype=np.int64)


def answer(*, shape: tuple[int, ...] = (2, 3), raw: bytes | None = VECTORS.tobytes()) -> service_pb2.ModelInferResponse:
    """The digest first: no order is agreed upon."""
    response = service_pb2.ModelInferResponse(raw_output_contents=[DIGESTS.tobytes()])
    response.outputs.add(name=DIGEST, datatype="INT64", shape=[2, 1])
    response.outputs.add(name=OUTPUT, datatype="FP32", shape=shape)
    if raw is not None:
        response.raw_output_contents.append(raw)
    return response


def test_outputs_are_found_by_name() -> None:
    found = output(answer(), OUTPUT)
    assert found is not None
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, VECTORS)
    np.testing.assert_array_equal(output(answer(), DIGEST), DIGESTS)


@pytest.mark.parametrize("datatype", ["BYTES", "FP8", ""])
def test_what_is_not_there_or_no_number_is_none(datatype: str) -> None:
    response = answer()
    response.outputs[1].datatype = datatype
    assert output(response, OUTPUT) is None
    assert output(answer(raw=None), OUTPUT) is None
    assert output(answer(), "another") is None
    assert output(service_pb2.ModelInferResponse(), OUTPUT) is None


@pytest.mark.parametrize("raw", [b"", b"123", VECTORS.tobytes()[:-4], VECTORS.tobytes() + b"1234"])
def test_bytes_of_another_shape_are_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="buffer|reshape"):
        output(answer(raw=raw), OUTPUT)


@pytest.mark.parametrize("shape", [(3, 3), (-2, -3), (2**40, 2**40)])
def test_a_shape_of_other_bytes_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - numpy says it in several ways
        output(answer(shape=shape), OUTPUT)
