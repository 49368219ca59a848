"""Messages as `--json` prints them."""

import json

from duovec.v1 import space_service_pb2, training_service_pb2
from gateway.cli.documents import to_dict


def test_integers_of_64_bits_are_numbers_however_deep() -> None:
    space = space_service_pb2.Space(chunk_count=2**53, verification={"recomputed_count": 50, "faults": ["x"]})
    response = space_service_pb2.ListSpacesResponse(spaces=[space])
    [fields] = json.loads(json.dumps(to_dict(response)))["spaces"]
    assert fields["chunk_count"] == 2**53
    assert (fields["verification"]["recomputed_count"], fields["verification"]["question_count"]) == (50, 0)
    assert (fields["verification"]["faults"], fields["fingerprint"]) == (["x"], "")


def test_what_is_unset_is_left_out_and_known_types_keep_their_form() -> None:
    run = training_service_pb2.TrainingRun(run_id=7)
    run.lineage.update({"step": 3, "code": {"commit": "abc"}})
    run.create_time.FromSeconds(0)
    fields = to_dict(run)
    assert fields["run_id"] == 7
    assert fields["lineage"] == {"step": 3, "code": {"commit": "abc"}}
    assert fields["create_time"] == "1970-01-01T00:00:00Z"
    assert not {"loss", "metrics", "finish_time"} & fields.keys()
